import pytest

from headwater.service.bucket import Bucket

TERMS = {"rate": 10.0, "size": 50.0}


def test_it_is_full_at_first_and_holds_no_more_after_a_long_rest() -> None:
    bucket = Bucket()
    assert bucket.take(50, **TERMS, now=1000.0) == 0
    assert bucket.take(50, **TERMS, now=9000.0) == 0
    assert bucket.take(1, **TERMS, now=9000.0) == pytest.approx(0.1)


def test_the_wait_it_names_is_enough_and_no_less_is() -> None:
    bucket = Bucket()
    bucket.take(45, **TERMS, now=0.0)
    wait_s = bucket.take(20, **TERMS, now=0.0)
    assert wait_s == pytest.approx(1.5)
    assert bucket.take(20, **TERMS, now=0.99 * wait_s) > 0
    assert bucket.take(20, **TERMS, now=1.001 * wait_s) == 0


def test_what_was_refused_costs_nothing() -> None:
    bucket = Bucket()
    bucket.take(45, **TERMS, now=0.0)
    for _ in range(100):
        assert bucket.take(6, **TERMS, now=0.0) > 0
    assert bucket.take(5, **TERMS, now=0.0) == 0


def test_in_the_long_run_no_more_pass_than_the_rate() -> None:
    bucket = Bucket()
    passed = sum(3 for step in range(10_000) if bucket.take(3, **TERMS, now=step / 100) == 0)
    assert 1000 <= passed <= 1000 + 50


def test_new_terms_hold_at_once() -> None:
    bucket = Bucket()
    bucket.take(50, **TERMS, now=0.0)
    assert bucket.take(50, rate=100.0, size=50.0, now=0.5) == 0
