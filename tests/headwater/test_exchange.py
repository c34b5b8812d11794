"""The core of lists, with a clock of the test's own: nothing is sent, nobody waits."""

import grpc
import numpy as np
import pytest

from extractor.errors import EmptyItem, QueueFull
from extractor.limits import Limits
from extractor.outcome import Outcome
from headwater.convert import BackboneInfo, RequestLimits
from headwater.errors import ServiceError
from headwater.exchange import REQUESTS_IN_FLIGHT, REQUESTS_OPEN, Exchange, Extraction, Slice
from headwater.retry import Failure
from headwater.v1 import extractor_pb2 as pb

INFO = BackboneInfo(
    "b",
    "f" * 32,
    "text",
    1,
    "mean",
    "fp32",
    "cpu",
    "",
    "",
    Limits(),
    RequestLimits(max_items=2, max_message_bytes=1 << 20),
)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
BROKEN = Failure(ServiceError(UNAVAILABLE, "broken"), UNAVAILABLE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange(clock: Clock) -> Exchange:
    return Exchange(Extraction(INFO), timeout_s=10.0, clock=clock)


def answer(exchange: Exchange, part: Slice) -> None:
    request, _ = exchange.request(part)
    matrix = np.array([float(item.data) for item in request.items], "<f4").tobytes()
    outcomes = [pb.Outcome(row=row) for row in range(len(request.items))]
    exchange.answer(part, pb.ExtractResponse(fingerprint="f" * 32, dim=1, embeddings=matrix, outcomes=outcomes))


def feed(exchange: Exchange, n: int = 10_000) -> int:
    taken = 0
    while exchange.wants_items and taken < n:
        exchange.take(b"%d" % taken)
        taken += 1
    return taken


def values(exchange: Exchange) -> list[int]:
    return [int(outcome.embedding[0]) for outcome in exchange.ready() if outcome.embedding is not None]


def test_items_are_taken_as_requests_are_free_and_outcomes_given_in_order(exchange: Exchange) -> None:
    assert feed(exchange) == 2 * REQUESTS_IN_FLIGHT
    parts = exchange.due()
    assert len(parts) == REQUESTS_IN_FLIGHT
    assert not exchange.due()
    assert exchange.wait_s() is None
    answer(exchange, parts[1])
    assert values(exchange) == []
    assert exchange.wants_items
    answer(exchange, parts[0])
    assert values(exchange) == [0, 1, 2, 3]


def test_an_answered_slice_is_held_only_so_many_times(exchange: Exchange) -> None:
    n = feed(exchange)
    first, *others = exchange.due()
    while others:
        for part in others:
            answer(exchange, part)
        n += feed(exchange)
        others = exchange.due()
    assert n == 2 * REQUESTS_OPEN
    answer(exchange, first)
    assert len(values(exchange)) == n


def test_a_refused_slice_waits_while_the_others_go_on(exchange: Exchange, clock: Clock) -> None:
    feed(exchange)
    first = exchange.due()[0]
    exchange.refuse(first, Failure(QueueFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, 1000))
    assert 1.0 <= (exchange.wait_s() or 0) <= 1.5
    assert feed(exchange) == 2
    (other,) = exchange.due()
    answer(exchange, other)
    clock.now += 1.5
    assert exchange.due() == [first]
    assert exchange.request(first)[1] == pytest.approx(8.5)


def test_time_that_the_caller_takes_with_an_outcome_is_not_the_servers(exchange: Exchange, clock: Clock) -> None:
    feed(exchange)
    first, second, *_ = exchange.due()
    answer(exchange, first)
    for _ in exchange.ready():
        clock.now += 60  # while the second is refused
    exchange.refuse(second, Failure(QueueFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, 1000))
    assert second.error is None
    clock.now += 1.5
    assert exchange.due() == [second]
    assert exchange.request(second)[1] == pytest.approx(8.5)


def test_items_with_an_error_of_their_own_need_no_request(exchange: Exchange) -> None:
    for _ in range(3):
        exchange.take(Outcome(error=EmptyItem("empty")))
    exchange.end()
    assert exchange.due() == []
    assert len(list(exchange.ready())) == 3
    assert exchange.done


def test_a_slice_that_was_given_up_ends_all_but_what_stands_before_it(exchange: Exchange, clock: Clock) -> None:
    feed(exchange)
    before, given_up, *after = exchange.due()
    clock.now += 10
    exchange.refuse(given_up, BROKEN)
    exchange.refuse(after[0], Failure(QueueFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, 0))
    assert not exchange.wants_items
    assert exchange.due() == []
    assert exchange.wait_s() is None
    answer(exchange, before)
    found = exchange.ready()
    assert [next(found).embedding[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ServiceError, match="broken"):
        next(found)


def test_slices_are_cut_by_bytes_too(exchange: Exchange) -> None:
    for _ in range(3):
        exchange.take(b"1" * (600 << 10))
    exchange.end()
    assert [len(part.unanswered) for part in exchange.due()] == [1, 1, 1]
