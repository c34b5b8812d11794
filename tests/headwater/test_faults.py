"""Faults over a real port, with a session that is told how to behave: no caller hangs, no neighbour pays."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

from extractor import Extractor
from extractor.errors import InferenceFailed, NotServing
from extractor.limits import Limits
from headwater import Client
from headwater.server import ServerSettings
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.headwater.test_health import NOT_SERVING, SERVING, becomes, health
from tests.inprocess import in_this_process
from tests.tiny import flat, png

WAIT_S = 30
POISON = 250
CODES = grpc.StatusCode


@dataclass
class Session:
    """A forward with a delay, which does not take the processor; it can be told to fail or to hang."""

    extractor: Extractor
    delay_s: float = 0.0
    broken: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    computed: set[tuple[int, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.forward = self.extractor.backbone.forward
        self.extractor.backbone.forward = self.extractor._batcher._forward = self
        self.go.set()

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        assert self.go.wait(WAIT_S)
        time.sleep(self.delay_s)
        if self.broken or any(array[0, 0, 0] == POISON for array in arrays):
            raise RuntimeError("the session fails")
        self.computed.update(tuple(array[0, 0].tolist()) for array in arrays)
        return self.forward(arrays)


@pytest.fixture
def session(tiny_image: Path, request: pytest.FixtureRequest) -> Session:
    limits = Limits(max_forward_s=getattr(request, "param", WAIT_S))
    return Session(Extractor.load(tiny_image, workers=2, limits=limits))


@pytest.fixture
def address(session: Session) -> Iterator[str]:
    settings = ServerSettings(port=0, check_timeout_s=min(10, session.extractor.limits.max_forward_s))
    with in_this_process({"tiny-image": session.extractor}, settings) as one:
        yield one.address
        session.go.set()


@pytest.fixture
def stub(address: str) -> Iterator[extractor_pb2_grpc.ExtractorServiceStub]:
    with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
        yield extractor_pb2_grpc.ExtractorServiceStub(channel)


def colour(i: int) -> tuple[int, int, int]:
    return i % 240, i // 240, 7


def asked(*numbers: int) -> pb.ExtractRequest:
    return pb.ExtractRequest(items=[pb.Item(data=png(flat(*colour(i)))) for i in numbers])


def rows(response: pb.ExtractResponse) -> list[list[float]]:
    return np.frombuffer(response.embeddings, "<f4").reshape(-1, response.dim).tolist()


def test_half_of_500_callers_cancel_and_the_others_get_theirs(
    session: Session, stub: extractor_pb2_grpc.ExtractorServiceStub
) -> None:
    session.delay_s = 0.004
    calls = [stub.Extract.future(asked(i), timeout=WAIT_S) for i in range(500)]
    for call in calls[::2]:
        call.cancel()
    for i, call in enumerate(calls):
        if i % 2:
            assert rows(call.result(WAIT_S)) == [list(colour(i))]
        else:
            assert call.code() in (CODES.CANCELLED, CODES.OK)
    left = {colour(i) for i in range(0, 500, 2)}
    assert len(session.computed & left) < 125  # most were gone before their turn
    assert session.extractor.queue().n_items == 0


def test_half_of_500_callers_expire_and_are_never_paid_for(
    session: Session, stub: extractor_pb2_grpc.ExtractorServiceStub
) -> None:
    session.go.clear()
    calls = [stub.Extract.future(asked(i), timeout=WAIT_S if i % 2 else 0.25) for i in range(500)]
    for call in calls[::2]:
        assert call.exception(WAIT_S).code() in (CODES.DEADLINE_EXCEEDED, CODES.RESOURCE_EXHAUSTED)
    while session.extractor.queue().n_items > 250:
        time.sleep(0.01)
    session.go.set()
    answered = 0
    for i, call in enumerate(calls):
        if i % 2 and call.exception(WAIT_S) is None and rows(call.result()):
            assert rows(call.result()) == [list(colour(i))]
            answered += 1
    paid_in_vain = session.computed & {colour(i) for i in range(0, 500, 2)}
    assert len(paid_in_vain) <= 2  # those that were in their forward already
    assert answered + len(paid_in_vain) == len(session.computed)


def test_a_poisoned_item_in_every_tenth_request_harms_nobody_else(
    address: str, stub: extractor_pb2_grpc.ExtractorServiceStub
) -> None:
    poisoned = pb.Item(data=png(flat(POISON)))
    requests = [asked(2 * i, 2 * i + 1) for i in range(100)]
    for one in requests[::10]:
        one.items.append(poisoned)
    calls = [stub.Extract.future(one, timeout=WAIT_S) for one in requests]
    for i, call in enumerate(calls):
        response = call.result(WAIT_S)
        assert rows(response) == [list(colour(2 * i)), list(colour(2 * i + 1))]
        if i % 10 == 0:
            assert response.outcomes[2].error.reason == InferenceFailed.__name__
    assert health(address, "tiny-image") == SERVING


@pytest.mark.parametrize("session", [0.3], indirect=True)
def test_a_session_that_raises_then_hangs_then_recovers(
    session: Session, address: str, stub: extractor_pb2_grpc.ExtractorServiceStub
) -> None:
    with Client(address, timeout_s=5) as client:
        session.broken = True
        (outcome,) = client.extract_each([png(flat(1))])
        assert isinstance(outcome.error, InferenceFailed)
        assert becomes(address, "tiny-image", NOT_SERVING)
        session.broken = False
        assert becomes(address, "tiny-image", SERVING)

        session.go.clear()
        begun = time.monotonic()
        response = stub.Extract(asked(*range(2, 10)), timeout=WAIT_S)
        assert time.monotonic() - begun < WAIT_S / 2
        assert {outcome.error.reason for outcome in response.outcomes} == {NotServing.__name__}
        assert becomes(address, "tiny-image", NOT_SERVING)

        session.go.set()
        assert becomes(address, "tiny-image", SERVING)
        assert client.extract([png(flat(5))]).tolist() == [[5, 0, 0]]


def test_every_reply_says_where_its_time_went(session: Session, stub: extractor_pb2_grpc.ExtractorServiceStub) -> None:
    session.delay_s = 0.02
    times = stub.Extract(asked(*range(8)), timeout=WAIT_S).times
    assert times.inference_ms >= 8 * 20
    assert times.queue_ms >= 20
    assert times.decode_ms > 0


def test_a_greedy_caller_does_not_starve_another(
    session: Session, address: str, stub: extractor_pb2_grpc.ExtractorServiceStub
) -> None:
    session.delay_s = 0.005
    greedy = [stub.Extract.future(asked(*range(50 * i, 50 * i + 50)), timeout=WAIT_S) for i in range(10)]
    while session.extractor.queue().n_items < 100:
        time.sleep(0.005)
    before = len(session.computed)
    with Client(address) as modest:  # another connection
        assert modest.extract([png(flat(1, 2, 3))]).tolist() == [[1, 2, 3]]
    assert len(session.computed) - before < 50
    assert all(len(call.result(WAIT_S).outcomes) == 50 for call in greedy)
