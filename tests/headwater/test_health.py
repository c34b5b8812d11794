"""Health says what is so: a session that fails, and recovers."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extractor import Extractor
from extractor.cache import CacheFacts
from extractor.cache.memory import MemoryCache
from extractor.errors import InferenceFailed
from headwater import Client
from headwater.server import ServerSettings
from tests.inprocess import in_this_process
from tests.tiny import flat, png

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
POISON = 66
WAIT_S = 20


class Session:
    """A forward that fails on one colour, or on everything."""

    def __init__(self, extractor: Extractor) -> None:
        self.broken = False
        self._forward = extractor.backbone.forward
        extractor.backbone.forward = extractor._batcher._forward = self

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        if self.broken or any((array[..., 0] == POISON).all() for array in arrays):
            raise RuntimeError("the session fails")
        return self._forward(arrays)


@pytest.fixture
def extractors(tiny_image: Path, tiny_text: Path) -> dict[str, Extractor]:
    return {"tiny-image": Extractor.load(tiny_image), "tiny-text": Extractor.load(tiny_text)}


@pytest.fixture
def session(extractors: dict[str, Extractor]) -> Session:
    return Session(extractors["tiny-image"])


@pytest.fixture
def address(extractors: dict[str, Extractor], session: Session) -> Iterator[str]:
    with in_this_process(extractors) as one:
        yield one.address


def health(address: str, service: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=WAIT_S).status


def becomes(address: str, service: str, status: int) -> bool:
    deadline = time.monotonic() + WAIT_S
    while health(address, service) != status:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_session_that_fails_is_not_serving_until_a_real_forward_succeeds(address: str, session: Session) -> None:
    assert [health(address, name) for name in ("", "tiny-image", "tiny-text")] == [SERVING] * 3
    with Client(address) as client:
        session.broken = True
        (outcome,) = client.extract_each([png(flat(1))], backbone="tiny-image")
        assert isinstance(outcome.error, InferenceFailed)
        assert becomes(address, "tiny-image", NOT_SERVING)
        assert health(address, "") == NOT_SERVING
        assert health(address, "tiny-text") == SERVING
        assert client.extract(["red"], backbone="tiny-text").shape == (1, 4)
        session.broken = False
        assert becomes(address, "tiny-image", SERVING)
        assert health(address, "") == SERVING
        assert client.extract([png(flat(1))], backbone="tiny-image").tolist() == [[1, 0, 0]]


class Ailing(MemoryCache):
    """A tier that may be degraded."""

    trouble: str | None = None

    def facts(self) -> list[CacheFacts]:
        return [replace(*super().facts(), degraded=self.trouble)]


def test_a_cache_that_is_degraded_says_so_and_all_else_goes_on(
    tiny_image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("headwater.service.health.CACHE_CHECK_S", 0.01)
    cache = Ailing(max_bytes=1 << 20)
    with in_this_process({"tiny-image": Extractor.load(tiny_image, cache=cache)}) as server:
        assert health(server.address, "cache") == SERVING
        cache.trouble = "the disk is full"
        assert becomes(server.address, "cache", NOT_SERVING)
        assert [health(server.address, name) for name in ("", "tiny-image")] == [SERVING] * 2
        assert "the cache is degraded: memory: the disk is full" in caplog.text
        cache.trouble = None
        assert becomes(server.address, "cache", SERVING)
        assert "the cache works again" in caplog.text


def test_a_cache_that_hangs_is_degraded_until_it_answers(tiny_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.service.health.CACHE_CHECK_S", 0.01)
    cache, answer = MemoryCache(max_bytes=1 << 20), threading.Event()
    facts, asked = cache.facts, []

    def hanging() -> list[CacheFacts]:
        asked.append(1)
        assert answer.wait(WAIT_S)
        return facts()

    cache.facts = hanging
    settings = ServerSettings(port=0, check_timeout_s=0.1)
    with in_this_process({"tiny-image": Extractor.load(tiny_image, cache=cache)}, settings) as server:
        assert becomes(server.address, "cache", NOT_SERVING)
        assert health(server.address) == SERVING
        assert len(asked) == 1  # never two threads hang
        answer.set()
        assert becomes(server.address, "cache", SERVING)


def test_without_a_cache_its_health_is_unknown(address: str) -> None:
    assert health(address, "cache") == UNKNOWN


def test_a_poisoned_item_does_not_make_a_backbone_ill(address: str, session: Session) -> None:
    with Client(address) as client:
        for _ in range(5):
            poisoned, good = client.extract_each([png(flat(POISON)), png(flat(2))], backbone="tiny-image")
            assert isinstance(poisoned.error, InferenceFailed)
            assert good.embedding.tolist() == [2, 0, 0]
            assert health(address, "tiny-image") == SERVING


def test_a_watcher_that_leaves_does_not_silence_another(address: str, session: Session) -> None:
    request = health_pb2.HealthCheckRequest(service="tiny-image")
    with grpc.insecure_channel(address) as channel:
        watchers = [health_pb2_grpc.HealthStub(channel).Watch(request, timeout=WAIT_S) for _ in range(2)]
        assert [next(one).status for one in watchers] == [SERVING] * 2
        watchers[0].cancel()
        assert health(address, "tiny-image") == SERVING  # by now the server knows that one has left
        session.broken = True
        with Client(address, backbone="tiny-image") as client:
            client.extract_each([png(flat(1))])
        assert next(watchers[1]).status == NOT_SERVING
