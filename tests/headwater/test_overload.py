"""A full queue, and callers that come back."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from extractor import Extractor
from extractor.errors import Closed, QueueFull
from extractor.limits import Limits
from headwater import Client
from headwater.server import ServerSettings
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import in_this_process
from tests.tiny import flat, png

DELAY_S = 0.03


@pytest.fixture
def slow(tiny_image: Path) -> Iterator[str]:
    """A server whose session sleeps a little for each item, and whose queue holds four."""
    extractor = Extractor.load(tiny_image, workers=1, limits=Limits(max_queue_size=4))
    forward = extractor.backbone.forward

    def slowly(arrays: Sequence[np.ndarray]) -> np.ndarray:
        time.sleep(DELAY_S)
        return forward(arrays)

    extractor._batcher._forward = slowly
    with in_this_process({"tiny-image": extractor}) as server:
        yield server.address


def test_callers_come_back_when_the_queue_was_full_and_all_are_answered(slow: str) -> None:
    found: list[bool] = []

    def call(seed: int) -> None:
        with Client(slow) as client:
            found.append(
                client.extract([png(flat(10 * seed + i)) for i in range(3)])[:, 0].tolist()
                == [10 * seed + i for i in range(3)]
            )

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 4


def test_a_full_queue_answers_at_once_with_a_pushback(slow: str) -> None:
    with grpc.insecure_channel(slow, [("grpc.enable_retries", 0)]) as channel:
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        running = [
            stub.Extract.future(pb.ExtractRequest(items=[pb.Item(data=png(flat(50 + 4 * j + i))) for i in range(4)]))
            for j in range(8)
        ]
        refused = [call for call in running if call.exception() is not None]
        assert refused
        for call in refused:
            assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            metadata = dict(call.trailing_metadata())
            assert metadata["headwater-reason"] == QueueFull.__name__
            assert 20 <= int(metadata["grpc-retry-pushback-ms"]) < 5000
        assert any(call.exception() is None for call in running)


def test_what_can_never_fit_is_not_tried_again(slow: str) -> None:
    with grpc.insecure_channel(slow) as channel:
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Extract(pb.ExtractRequest(items=[pb.Item(data=b"x")] * 1025))
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"


def test_a_draining_server_refuses_new_calls_and_answers_accepted_ones(tiny_image: Path) -> None:
    go, entered = threading.Event(), threading.Event()
    extractor = Extractor.load(tiny_image, workers=1)
    forward = extractor.backbone.forward

    def held(arrays: Sequence[np.ndarray]) -> np.ndarray:
        entered.set()
        assert go.wait(20)
        return forward(arrays)

    extractor._batcher._forward = held
    settings = ServerSettings(port=0, drain_s=20)
    with (
        in_this_process({"tiny-image": extractor}, settings) as server,
        grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
        accepted = stub.Extract.future(pb.ExtractRequest(items=[pb.Item(data=png(flat(1)))]))
        assert entered.wait(20)
        server.stop()
        deadline = time.monotonic() + 10
        code = None
        while code is None and time.monotonic() < deadline:
            call = stub.Extract.future(pb.ExtractRequest(items=[pb.Item(data=b"")]))
            code = call.code() if call.exception() is not None else None
        assert code is grpc.StatusCode.UNAVAILABLE
        assert dict(call.trailing_metadata())["headwater-reason"] == Closed.__name__
        go.set()
        assert accepted.result(20).outcomes[0].row == 0
