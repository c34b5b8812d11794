import pytest

from extractor.speed import Speed


def test_unknown_speed_promises_nothing() -> None:
    assert Speed().seconds_for(100, 2) == 0


def test_a_steady_speed_is_found_and_workers_share_it() -> None:
    speed = Speed()
    for _ in range(5):
        speed.measure(4, 0.2)
    assert speed.seconds_for(100, 2) == pytest.approx(2.5)


def test_a_hiccup_at_the_start_refuses_nobody() -> None:
    speed = Speed()
    speed.measure(1, 100.0)
    assert speed.seconds_for(100, 1) == 0
    speed.measure(1, 0.01)
    assert speed.seconds_for(1, 1) == pytest.approx(0.01)


def test_one_hiccup_is_no_new_speed_but_a_slower_machine_is() -> None:
    speed = Speed()
    speed.measure(1, 0.01)
    speed.measure(1, 0.01)
    speed.measure(1, 100.0)
    assert speed.seconds_for(1, 1) < 0.02
    for _ in range(100):
        speed.measure(1, 1.0)
    assert speed.seconds_for(1, 1) == pytest.approx(1.0, rel=0.05)
