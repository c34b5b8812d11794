"""The core of streams, with a clock of the test's own."""

import numpy as np
import pytest

from extractor.errors import EmptyItem
from extractor.outcome import Outcome
from headwater.errors import ServiceError
from headwater.exchange import Extraction
from headwater.flow import MESSAGE_ITEMS, WINDOW, WINDOW_BYTES, Flow
from headwater.v1 import extractor_pb2 as pb
from tests.headwater.test_exchange import BROKEN, INFO, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flow(clock: Clock) -> Flow:
    return Flow(Extraction(INFO), timeout_s=10.0, clock=clock)


def take(flow: Flow, *items: bytes | Outcome) -> None:
    for item in items:
        flow.count(item)
        flow.take(item)


def sent(flow: Flow) -> list[int]:
    ids: list[int] = []
    while (message := flow.next_message()) is not None:
        ids += message.ids
    return ids


def answer(flow: Flow, *ids: int) -> None:
    matrix = np.array(ids, "<f4").tobytes()
    outcomes = [pb.Outcome(row=row) for row in range(len(ids))]
    flow.answer(pb.ExtractStreamResponse(ids=ids, outcomes=outcomes, embeddings=matrix))


def given(flow: Flow) -> list[int]:
    return [position for position, _ in flow.found()]


def test_items_are_read_as_far_as_the_window(flow: Flow) -> None:
    n = 0
    while flow.has_room:
        take(flow, b"x")
        n += 1
    assert n == WINDOW
    flow.opened()
    assert sent(flow) == list(range(WINDOW))
    answer(flow, 5, 3)
    assert not flow.has_room
    assert given(flow) == [5, 3]
    assert flow.has_room


def test_large_items_fill_the_window_by_their_bytes(flow: Flow) -> None:
    large = bytes(WINDOW_BYTES // 4)
    take(flow, *[large] * 3)
    assert flow.has_room
    take(flow, large)
    assert not flow.has_room
    flow.opened()
    answer(flow, 0)
    assert flow.has_room


def test_nothing_is_sent_before_a_stream_is_open(flow: Flow) -> None:
    assert not flow.may_open
    take(flow, b"0")
    assert flow.may_open
    assert sent(flow) == []
    flow.opened()
    assert not flow.may_open
    assert sent(flow) == [0]


def test_after_a_break_only_the_unanswered_is_sent_and_carefully(flow: Flow, clock: Clock) -> None:
    take(flow, *[b"x"] * 6)
    flow.opened()
    sent(flow)
    answer(flow, 1, 4)
    flow.broke(BROKEN)
    assert given(flow) == [1, 4]
    assert 0 <= (flow.wait_s() or 0) <= 0.1
    clock.now += 0.1
    assert flow.may_open
    flow.opened()
    assert sent(flow) == [0, 2]  # one message
    answer(flow, 2)
    assert sent(flow) == [3, 5]
    answer(flow, 2, 7, 1)  # ids that are not asked change nothing
    assert given(flow) == [2]


def test_a_flow_whose_time_is_over_says_so(flow: Flow, clock: Clock) -> None:
    take(flow, b"x", b"y")
    flow.opened()
    sent(flow)
    clock.now += 9
    answer(flow, 0)
    clock.now += 9
    flow.tick()
    assert given(flow) == [0]
    assert flow.wait_s() == pytest.approx(1)
    clock.now += 1
    flow.tick()
    with pytest.raises(ServiceError, match="none of 1 items was answered within 10 s"):
        list(flow.found())
    assert not flow.may_open


def test_a_flow_whose_time_is_over_after_a_break_says_what_broke_it(flow: Flow, clock: Clock) -> None:
    take(flow, b"x")
    flow.opened()
    sent(flow)
    flow.broke(BROKEN)
    flow.opened()
    clock.now += 10
    flow.tick()
    with pytest.raises(ServiceError) as caught:
        list(flow.found())
    assert caught.value is BROKEN.error


def test_a_stream_that_breaks_while_nothing_is_asked_is_no_error(flow: Flow, clock: Clock) -> None:
    take(flow, b"x")
    flow.opened()
    sent(flow)
    answer(flow, 0)
    clock.now += 1000
    flow.broke(BROKEN)
    assert given(flow) == [0]
    take(flow, b"y")
    assert flow.may_open


def test_messages_hold_what_a_server_takes(flow: Flow) -> None:
    take(flow, *[b"x"] * 5, Outcome(error=EmptyItem("empty")), b"1" * (600 << 10), b"1" * (600 << 10))
    flow.opened()
    sizes = []
    while (message := flow.next_message()) is not None:
        sizes.append(len(message.ids))
    assert INFO.request_limits.max_items == 2 < MESSAGE_ITEMS
    assert sizes == [2, 2, 2, 1]
