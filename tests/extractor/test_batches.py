import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractor.batches import Budget, run_around


def test_nearest_in_length_come_along() -> None:
    assert run_around([1, 2, 8, 9, 9, 30], 3, Budget(3, 1000, 0.5)) == (2, 5)


def test_the_first_goes_alone_where_nothing_is_near() -> None:
    assert run_around([16, 16, 128], 2, Budget(8, 1000, 0.1)) == (2, 3)
    assert run_around([16, 16, 128], 0, Budget(8, 1000, 0.1)) == (0, 2)


def test_the_first_goes_even_beyond_the_budget() -> None:
    assert run_around([500], 0, Budget(8, 100, 0.1)) == (0, 1)


def test_images_fill_a_batch() -> None:
    assert run_around([1] * 40, 0, Budget(32, 1000, 0.0)) == (0, 32)
    assert run_around([1] * 40, 39, Budget(32, 1000, 0.0)) == (8, 40)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.data(),
    st.integers(1, 16),
    st.integers(1, 400),
    st.floats(0, 0.9),
)
def test_a_run_keeps_its_budget_and_could_not_grow(
    costs: list[int], data: st.DataObject, max_size: int, max_cost: int, max_padding: float
) -> None:
    costs.sort()
    first = data.draw(st.integers(0, len(costs) - 1))
    budget = Budget(max_size, max_cost, max_padding)

    def allowed(start: int, end: int) -> bool:
        run = costs[start:end]
        padded = len(run) * max(run)
        return len(run) <= max_size and padded <= max_cost and padded - sum(run) <= max_padding * padded

    start, end = run_around(costs, first, budget)
    assert start <= first < end
    assert end - start == 1 or allowed(start, end)
    if allowed(start, end):
        assert start == 0 or not allowed(start - 1, end)
        assert end == len(costs) or not allowed(start, end + 1)


def test_a_mix_of_short_and_long_is_padded_by_at_most_a_tenth() -> None:
    costs = sorted([16 + i % 3 for i in range(51)] + [120 + i for i in range(13)])
    budget = Budget(16, 16_384, 0.1)
    padded = real = 0
    while costs:
        start, end = run_around(costs, len(costs) // 2, budget)
        real += sum(costs[start:end])
        padded += (end - start) * costs[end - 1]
        del costs[start:end]
    assert (padded - real) / padded <= 0.1


@pytest.mark.parametrize("max_padding", [0.0, 0.5])
def test_equal_costs_need_no_padding(max_padding: float) -> None:
    assert run_around([7] * 5, 2, Budget(5, 35, max_padding)) == (0, 5)
