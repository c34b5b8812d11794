"""Start and stop of the real server process."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extractor import Extractor
from headwater.process import serving
from headwater.server import ServerSettings, serve
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.headwater.test_service import noise
from tests.tiny import png

N_CALLS = 200


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [png(noise(seed, 300)) for seed in range(40)]


def calls(channel: grpc.Channel, photos: list[bytes], n_items: int) -> Iterator[grpc.Future]:
    stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
    for i in range(N_CALLS):
        items = [pb.Item(data=photos[(i + j) % len(photos)] + bytes([i, j])) for j in range(n_items)]
        yield stub.Extract.future(pb.ExtractRequest(items=items), timeout=60)


def results(running: list[grpc.Future]) -> Counter[str]:
    """Count how calls ended: `answered`; `refused` UNAVAILABLE as a whole; `dropped`, UNAVAILABLE for some items."""
    counts: Counter[str] = Counter()
    for call in running:
        try:
            outcomes = call.result().outcomes
        except grpc.RpcError as error:
            counts["refused" if error.code() is grpc.StatusCode.UNAVAILABLE else error.code().name] += 1
            continue
        codes = {outcome.error.code for outcome in outcomes if outcome.HasField("error")}
        unavailable = grpc.StatusCode.UNAVAILABLE.value[0]
        counts["answered" if not codes else "dropped" if codes == {unavailable} else str(codes)] += 1
    return counts


@pytest.mark.parametrize(("drain_s", "accepted_are_answered"), [(30, True), (0, False)])
def test_sigterm_during_200_calls_answers_or_tells_each(
    tiny_image: Path, photos: list[bytes], drain_s: int, accepted_are_answered: bool
) -> None:
    with serving(str(tiny_image), "--drain-s", str(drain_s), "--workers", "1") as server:
        with grpc.insecure_channel(server.target, [("grpc.max_send_message_length", -1)]) as channel:
            running = list(calls(channel, photos, 3))
            deadline = time.monotonic() + 30
            while not any(call.done() for call in running) and time.monotonic() < deadline:
                time.sleep(0.001)
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            counts = results(running)
        code = server.process.wait(60)
        took = time.monotonic() - begun
    assert sum(counts.values()) == N_CALLS
    assert set(counts) <= {"answered", "refused", "dropped"}, counts
    assert counts["answered"] >= 1, counts
    assert (counts["dropped"] == 0) is accepted_are_answered, counts
    assert code == 0
    assert took < drain_s + 10


def test_health_says_so_before_the_port_closes(tiny_image: Path, photos: list[bytes]) -> None:
    with (
        serving(str(tiny_image), "--workers", "1") as server,
        grpc.insecure_channel(server.target, [("grpc.max_send_message_length", -1)]) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running = list(calls(channel, photos, 1))
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        results(running)
        assert server.process.wait(60) == 0


def test_no_thread_is_left(tiny_image: Path) -> None:
    code = f"""
import asyncio, threading
from extractor import Extractor
from headwater.server import ServerSettings, serve

async def main():
    stop = asyncio.Event()
    extractors = {{"tiny-image": Extractor.load({str(tiny_image)!r})}}
    await serve(extractors, ServerSettings(port=0), ready=lambda address: stop.set(), stop=stop)

asyncio.run(main())
left = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
assert not left, left
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_session_that_hangs_does_not_keep_the_server(tiny_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop takes `drain_s` and three last words at the most; the caller is told."""
    go = threading.Event()
    ended: list[grpc.StatusCode] = []

    def call(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
            try:
                stub.Extract(pb.ExtractRequest(items=[pb.Item(data=png(noise(0)))]), timeout=30)
            except grpc.RpcError as error:
                ended.append(error.code())

    async def main() -> float:
        stop = asyncio.Event()
        settings = ServerSettings(port=0, drain_s=0.2)
        addresses: list[str] = []
        serving = asyncio.create_task(serve({"tiny-image": extractor}, settings, ready=addresses.append, stop=stop))
        while not addresses:
            await asyncio.sleep(0.01)
        calling = asyncio.create_task(asyncio.to_thread(call, addresses[0]))
        await asyncio.to_thread(entered.wait, 20)
        begun = time.monotonic()
        stop.set()
        await serving
        took = time.monotonic() - begun
        await calling
        return took

    entered = threading.Event()

    def hang(arrays: list) -> None:
        entered.set()
        go.wait(60)
        raise RuntimeError("it was let go")

    monkeypatch.setattr("headwater.server.LAST_WORD_S", 0.3)
    extractor = Extractor.load(tiny_image, workers=1)
    extractor._batcher._forward = hang
    try:
        assert asyncio.run(main()) < 0.2 + 4 * 0.3 + 1.5
        assert ended
        assert ended[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    finally:
        go.set()
        extractor.close()


def test_a_taken_port_is_an_error_that_says_what_to_do(tiny_image: Path) -> None:
    with serving(str(tiny_image)) as server:
        port = server.target.rpartition(":")[2]
        command = [sys.executable, "-m", "headwater", "serve", str(tiny_image), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_many_callers_at_once_are_all_answered(tiny_image: Path) -> None:
    from headwater import Client
    from tests.tiny import flat

    found: list[bool] = []

    def call(seed: int) -> None:
        with Client(server.target) as client:
            found.append(client.extract([flat(seed, size=20 + seed % 7)] * 3)[:, 0].tolist() == [seed] * 3)

    with serving(str(tiny_image)) as server:
        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [True] * 64
        assert server.stop() == 0
