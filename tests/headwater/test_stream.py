"""`ExtractStream` over a real port, by bare messages: what a client of any language sees."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from extractor import Extractor
from extractor.limits import Limits
from headwater.convert import RequestLimits
from headwater.server import ServerSettings
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import InProcess, in_this_process
from tests.tiny import flat, png

WAIT_S = 20
WINDOW = 8
NAME = "tiny-image"


class Gate:
    """A session that holds the items whose red is among `held` until it is opened, and counts what it computed."""

    def __init__(self, extractor: Extractor) -> None:
        self.held: set[int] = set()
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.seen: list[int] = []
        self._forward = extractor.backbone.forward
        extractor._batcher._forward = self

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        reds = [int(array[0, 0, 0]) for array in arrays]
        self.seen += reds
        if self.held & set(reds):
            self.entered.set()
            assert self.opened.wait(WAIT_S)
        return self._forward(arrays)


@pytest.fixture
def extractor(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image, workers=2, max_batch_size=1, window=1, limits=Limits(max_queue_size=16))


@pytest.fixture
def gate(extractor: Extractor) -> Iterator[Gate]:
    one = Gate(extractor)
    yield one
    one.opened.set()


@pytest.fixture
def server(extractor: Extractor, gate: Gate) -> Iterator[InProcess]:
    settings = ServerSettings(port=0, limits=RequestLimits(max_stream_items=WINDOW, max_items=32))
    with in_this_process({NAME: extractor}, settings) as one:
        yield one
        gate.opened.set()


class Talk:
    """One stream: `say` a message, `hear` the answers, `close` one's own side."""

    def __init__(self, stub: extractor_pb2_grpc.ExtractorServiceStub) -> None:
        self._out: queue.SimpleQueue[pb.ExtractStreamRequest | None] = queue.SimpleQueue()
        self.call: Any = stub.ExtractStream(iter(self._out.get, None))
        self.responses: list[pb.ExtractStreamResponse] = []

    def say(self, *reds: int, ids: Sequence[int] | None = None, backbone: str = "") -> None:
        items = [pb.Item(data=png(flat(red))) for red in reds]
        self.put(pb.ExtractStreamRequest(backbone=backbone, ids=reds if ids is None else ids, items=items))

    def put(self, message: pb.ExtractStreamRequest) -> None:
        self._out.put(message)

    def close(self) -> None:
        self._out.put(None)

    def hear(self, n: int | None = None) -> dict[int, float | str]:
        """Return id -> red, or the error's class, of the next answers, at least n; all if n is None."""
        heard: dict[int, float | str] = {}
        while n is None or len(heard) < n:
            response = next(self.call, None)
            if response is None:
                break
            self.responses.append(response)
            matrix = np.frombuffer(response.embeddings, "<f4").reshape(-1, 3)
            for one, outcome in zip(response.ids, response.outcomes, strict=True):
                assert one not in heard
                heard[one] = outcome.error.reason if outcome.HasField("error") else matrix[outcome.row, 0]
        return heard


@contextmanager
def talking(server: InProcess) -> Iterator[Talk]:
    with grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel:
        talk = Talk(extractor_pb2_grpc.ExtractorServiceStub(channel))
        yield talk
        talk.close()
        talk.call.cancel()


def queued(extractor: Extractor) -> int:
    return len(extractor._batcher._queue)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_outcomes_come_as_they_finish_and_a_half_closed_stream_ends_well(server: InProcess, gate: Gate) -> None:
    gate.held = {1}
    with talking(server) as talk:
        talk.say(1, 2, 3, backbone=NAME)
        talk.say(4, backbone=NAME)
        talk.say(5)
        talk.close()
        assert talk.hear(4) == {2: 2, 3: 3, 4: 4, 5: 5}
        gate.opened.set()
        assert talk.hear() == {1: 1}
        assert talk.call.code() is grpc.StatusCode.OK
    first, *others = talk.responses
    assert (first.backbone, first.dim, len(first.fingerprint)) == (NAME, 3, 32)
    assert all((other.backbone, other.fingerprint, other.dim) == ("", "", 0) for other in others)


def test_a_stream_without_items_ends_well(server: InProcess) -> None:
    with talking(server) as talk:
        talk.close()
        assert talk.hear() == {}
        assert talk.call.code() is grpc.StatusCode.OK


def test_bad_items_are_answered_in_their_own_place(server: InProcess) -> None:
    with talking(server) as talk:
        items = [pb.Item(data=png(flat(7))), pb.Item(data=b"no image"), pb.Item(), pb.Item(data=png(flat(8)))]
        talk.put(pb.ExtractStreamRequest(ids=[70, 0, 2**64 - 1, 80], items=items))
        talk.close()
        assert talk.hear() == {70: 7, 0: "UndecodableItem", 2**64 - 1: "EmptyItem", 80: 8}


def test_the_server_reads_only_as_far_as_its_window(server: InProcess, gate: Gate, extractor: Extractor) -> None:
    gate.held = {0, 1}
    taken = 0

    def messages() -> Iterator[pb.ExtractStreamRequest]:
        nonlocal taken
        for i in range(120):
            taken += 1
            data = png(flat(i)) + bytes(200_000)  # more than the transport holds
            yield pb.ExtractStreamRequest(ids=[i], items=[pb.Item(data=data)])

    with grpc.insecure_channel(server.address) as channel:
        call = extractor_pb2_grpc.ExtractorServiceStub(channel).ExtractStream(messages())
        assert gate.entered.wait(WAIT_S)
        wait_for(lambda: queued(extractor) == WINDOW - 2)
        time.sleep(0.2)
        assert queued(extractor) == WINDOW - 2  # two are in hand
        assert taken < 90  # with what the transport takes in, which gRPC decides as it runs
        gate.opened.set()
        assert sorted(one for response in call for one in response.ids) == list(range(120))


@pytest.mark.parametrize(
    ("message", "code", "part"),
    [
        (pb.ExtractStreamRequest(backbone="nope"), "NOT_FOUND", "'nope' is served here"),
        (pb.ExtractStreamRequest(ids=[1]), "INVALID_ARGUMENT", "1 ids for 0 items"),
        (pb.ExtractStreamRequest(ids=[7, 7], items=[pb.Item()] * 2), "INVALID_ARGUMENT", "id 7 "),
        (
            pb.ExtractStreamRequest(ids=range(33), items=[pb.Item()] * 33),
            "RESOURCE_EXHAUSTED",
            "33 items, the limit is 32",
        ),
    ],
)
def test_a_message_that_is_at_fault_ends_the_stream(
    server: InProcess, message: pb.ExtractStreamRequest, code: str, part: str
) -> None:
    with talking(server) as talk:
        talk.put(message)
        with pytest.raises(grpc.RpcError) as caught:
            talk.hear()
        assert caught.value.code().name == code
        assert part in caught.value.details()


def test_an_id_in_flight_is_refused_and_what_was_begun_is_answered_first(server: InProcess, gate: Gate) -> None:
    gate.held = {1}
    with talking(server) as talk:
        talk.say(1)
        assert gate.entered.wait(WAIT_S)
        talk.say(2, ids=[1])
        time.sleep(0.1)
        gate.opened.set()
        assert talk.hear(1) == {1: 1}
        with pytest.raises(grpc.RpcError) as caught:
            talk.hear()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "id 1 is of an item that is not answered yet" in caught.value.details()


def test_an_id_may_come_again_once_it_is_answered(server: InProcess) -> None:
    with talking(server) as talk:
        for red in range(20):
            talk.say(red, ids=[5])
            assert talk.hear(1) == {5: red}


def test_another_backbone_in_a_stream_is_refused(server: InProcess) -> None:
    with talking(server) as talk:
        talk.say(1)
        talk.say(2, backbone="tiny-text")
        with pytest.raises(grpc.RpcError) as caught:
            talk.hear()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "names backbone 'tiny-text'" in caught.value.details()


def test_a_full_queue_is_waited_for(server: InProcess, gate: Gate, extractor: Extractor) -> None:
    gate.held = {100, 101}
    others = extractor.submit([png(flat(100 + i)) for i in range(2)])
    assert gate.entered.wait(WAIT_S)
    wait_for(lambda: queued(extractor) == 0)
    others = extractor.submit([png(flat(120 + i)) for i in range(16)])
    with talking(server) as talk:
        talk.say(1, 2, 3)
        talk.close()
        time.sleep(0.1)
        gate.opened.set()
        assert talk.hear() == {1: 1, 2: 2, 3: 3}
    assert len(others.future.result(WAIT_S)) == 16


def test_each_message_says_where_the_time_of_its_items_went(server: InProcess) -> None:
    with talking(server) as talk:
        talk.say(1, 2, 3)
        talk.close()
        assert len(talk.hear()) == 3
        assert all(response.times.decode_ms > 0 and response.times.inference_ms > 0 for response in talk.responses)


def test_a_sender_that_cancels_frees_the_queue(server: InProcess, gate: Gate, extractor: Extractor) -> None:
    gate.held = {0, 1}
    with talking(server) as talk:
        talk.say(*range(8))
        wait_for(lambda: len(gate.seen) == 2 and queued(extractor) == 6)  # both workers have theirs in hand
        talk.call.cancel()
        wait_for(lambda: extractor._flights._aloft.keys() and len(extractor._flights._aloft) == 2)  # those in hand
        gate.opened.set()
    assert extractor.extract([png(flat(9))])[0, 0] == 9
    assert set(gate.seen) == {0, 1, 9}


def test_a_receiver_that_does_not_read_stalls_only_itself(server: InProcess, extractor: Extractor, gate: Gate) -> None:
    taken = 0

    def endless() -> Iterator[pb.ExtractStreamRequest]:
        nonlocal taken
        while True:
            taken += 1
            ids = range(16 * taken, 16 * taken + 16)
            yield pb.ExtractStreamRequest(ids=ids, items=[pb.Item(data=bytes(5000))] * 16)

    small = [("grpc.http2.lookahead_bytes", 1 << 16), ("grpc.http2.bdp_probe", 0)]  # so that not much is under way
    with grpc.insecure_channel(server.address, small) as channel, talking(server) as talk:
        call = extractor_pb2_grpc.ExtractorServiceStub(channel).ExtractStream(endless())
        level = 0

        def steady() -> bool:
            nonlocal level
            before, level = level, taken
            time.sleep(0.3)
            return before == taken

        wait_for(steady)
        talk.say(1, 2, 3)
        talk.close()
        assert talk.hear() == {1: 1, 2: 2, 3: 3}
        call.cancel()


def test_a_draining_server_answers_what_a_stream_began_and_then_says_that_it_stops(
    server: InProcess, gate: Gate
) -> None:
    gate.held = {1}
    with talking(server) as talk:
        talk.say(1, 2)
        assert talk.hear(1) == {2: 2}
        server.stop()
        time.sleep(0.3)
        gate.opened.set()
        assert talk.hear(1) == {1: 1}
        with pytest.raises(grpc.RpcError) as caught:
            talk.hear()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ("headwater-reason", "Closed") in caught.value.trailing_metadata()
