"""When to try again: pure numbers."""

import grpc
import pytest

from extractor.errors import Closed, EmptyItem, QueueFull, RequestTooLarge
from headwater import retry
from headwater.errors import ServiceError
from headwater.retry import BACKOFF_S, MAX_BACKOFF_S, Failure, Tries

FULL = Failure(QueueFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED)


def pushed(ms: int) -> Failure:
    return Failure(QueueFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, ms)


def test_a_pushback_is_never_undercut_and_spread_by_half() -> None:
    pauses = [Tries(100.0).pause_s(pushed(200), 0.0) or 0.0 for _ in range(500)]
    assert min(pauses) >= 0.2
    assert max(pauses) <= 0.3
    assert max(pauses) - min(pauses) > 0.08


def test_without_one_the_bound_doubles_and_all_below_it_is_taken() -> None:
    for n in range(9):
        pauses = []
        for _ in range(300):
            tries = Tries(1e9)
            for _ in range(n):
                tries.pause_s(FULL, 0.0)
            pauses.append(tries.pause_s(FULL, 0.0) or 0.0)
        bound = min(MAX_BACKOFF_S, BACKOFF_S * 2**n)
        assert 0.9 * bound < max(pauses) <= bound
        assert min(pauses) < 0.1 * bound


def test_no_try_begins_after_the_deadline() -> None:
    assert Tries(10.0).pause_s(pushed(900), 9.0 - 0.5) is not None
    assert Tries(10.0).pause_s(pushed(1000), 9.0) is None
    assert Tries(10.0).pause_s(FULL, 10.0) is None


@pytest.mark.parametrize("failure", [FULL, pushed(50)])
def test_thousands_of_tries_are_no_error(failure: Failure) -> None:
    tries = Tries(1e9)
    assert all(tries.pause_s(failure, 0.0) is not None for _ in range(3000))


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (FULL, True),
        (pushed(0), True),
        (pushed(-1), False),
        (retry.of_item(QueueFull("full")), True),
        (retry.of_item(Closed("stopping")), True),
        (retry.of_item(RequestTooLarge("never fits")), False),
        (retry.of_item(EmptyItem("empty")), False),
        (Failure(ServiceError(grpc.StatusCode.ABORTED, ""), grpc.StatusCode.ABORTED), False),
        (Failure(ServiceError(grpc.StatusCode.UNAVAILABLE, ""), grpc.StatusCode.UNAVAILABLE), True),
    ],
)
def test_what_may_be_tried_again(failure: Failure, retryable: bool) -> None:
    assert failure.retryable is retryable
    assert (Tries(100.0).pause_s(failure, 0.0) is not None) is retryable


def test_a_try_that_the_deadline_cut_says_what_refused_those_before_it() -> None:
    cut = Failure(ServiceError(grpc.StatusCode.DEADLINE_EXCEEDED, ""), grpc.StatusCode.DEADLINE_EXCEEDED)
    broken = retry.of_item(EmptyItem("empty"))
    tries = Tries(10.0)
    assert tries.cause(cut) is cut
    tries.pause_s(FULL, 0.0)
    assert tries.cause(cut) is FULL
    assert tries.cause(broken) is broken
