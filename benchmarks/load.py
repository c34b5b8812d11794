"""Ready-made requests -> how fast a server answers them: callers in a closed loop, in a cheap process of its own.

It builds and parses no message: requests come serialized from a file, each answer is checked by its size, and a few
are handed back whole for the one who asked to check. No request is in flight twice at once, so that no server can
answer two callers with one computation.
"""

import asyncio
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from processes import cpu_seconds, memory_mb

N_SAMPLES = 6
ASK_S = 30.0
MAX_HEAD_BYTES = 1 << 16  # of an HTTP answer

Send = Callable[[bytes], Awaitable[bytes]]  # a request's bytes -> the answer's; raises where it is an error


class NotAnswered(Exception):
    """A server answered with an error, or with the wrong size."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where requests go.

    Parameters
    ----------
    protocol : str
        `grpc` or `http`.
    target : str
        `host:port`.
    path : str
        Of the call.
    content_type : str
        Of an HTTP body.
    """

    protocol: str
    target: str
    path: str
    content_type: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to send, where, and for how long.

    Parameters
    ----------
    endpoint : Endpoint
    requests : str
        A file of numbered requests, written by `write_requests`.
    items : int
        A request.
    callers : int
        Each sends one request after the other.
    min_bytes : int
        The least that a right answer has; at most that and 25 % more is right.
    warm_up_s, seconds : float
    pid : int
        The server's, to watch what it uses.
    """

    endpoint: Endpoint
    requests: str
    items: int
    callers: int
    min_bytes: int
    warm_up_s: float = 1.0
    seconds: float = 6.0
    pid: int


@dataclass(kw_only=True)
class Load:
    """What was measured between the warm-up and the end.

    Parameters
    ----------
    items_per_s : float
    server_cpu_ms, client_cpu_ms : float
        An item.
    p50_ms, p99_ms : float
        Of a request.
    memory_mb : float
        The server's, at the end, under load.
    n_requests : int
        Answered rightly.
    errors : list of str
        What went wrong, at most a few.
    samples : list of (int, str)
        The numbers of some requests, and their answers in base64.
    """

    items_per_s: float = 0.0
    server_cpu_ms: float = 0.0
    client_cpu_ms: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    memory_mb: float = 0.0
    n_requests: int = 0
    errors: list[str] = field(default_factory=list)
    samples: list[tuple[int, str]] = field(default_factory=list)


def write_requests(path: Path, requests: Sequence[bytes]) -> Path:
    """Write requests one after the other, each behind its length."""
    with path.open("wb") as file:
        for request in requests:
            file.write(len(request).to_bytes(8, "little") + request)
    return path


def read_requests(path: Path) -> list[bytes]:
    """Read what `write_requests` wrote."""
    content, position, found = path.read_bytes(), 0, []
    while position < len(content):
        end = position + 8 + int.from_bytes(content[position : position + 8], "little")
        found.append(content[position + 8 : end])
        position = end
    return found


def run(job: Job) -> Load:
    """Run a job in a process of its own and return what it measured."""
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(
            [sys.executable, __file__], input=json.dumps(asdict(job)), stdout=subprocess.PIPE, stderr=log, text=True
        )
        if done.returncode:
            log.seek(0)
            raise NotAnswered(f"the load client ended with {done.returncode}: {log.read()[-500:]}")
    return Load(**json.loads(done.stdout))


class Callers:
    """The closed loop: idle requests, those in flight, and what came of them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests = read_requests(Path(job.requests))
        self.idle = deque(range(len(self.requests)))
        self.load = Load()
        self.latencies: list[float] = []
        self.open_from = self.open_until = float("inf")

    async def measure(self) -> Load:
        """Warm up, measure, and stop."""
        assert len(self.requests) > self.job.callers, "every caller needs a request that no other has in flight"
        connected = [await connect(self.job.endpoint) for _ in range(self.job.callers)]
        callers = [asyncio.create_task(self._call(send)) for send in connected]
        await asyncio.sleep(self.job.warm_up_s)
        self.open_from = time.perf_counter()
        client, server = time.process_time(), cpu_seconds(self.job.pid)
        await asyncio.sleep(self.job.seconds)
        client, server = time.process_time() - client, cpu_seconds(self.job.pid) - server
        self.open_until = time.perf_counter()
        self.load.memory_mb = memory_mb(self.job.pid)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        return self._summed_up(server, client)

    async def _call(self, send: Send) -> None:
        while True:
            number = self.idle.popleft()
            begun = time.perf_counter()
            try:
                answer = await send(self.requests[number])
                self._accept(number, answer, begun)
            except Exception as error:
                self.load.errors.append(f"{type(error).__name__}: {error}"[:300])
                if len(self.load.errors) > N_SAMPLES:
                    raise
            finally:
                self.idle.append(number)

    def _accept(self, number: int, answer: bytes, begun: float) -> None:
        low, high = self.job.min_bytes, self.job.min_bytes * 1.25
        if not low <= len(answer) <= high:
            raise NotAnswered(f"the answer has {len(answer)} bytes, not {low} to {high:.0f}: {answer[:200]!r}")
        now = time.perf_counter()
        if self.open_from <= now <= self.open_until:
            self.latencies.append(now - begun)
            if len(self.load.samples) < N_SAMPLES:
                self.load.samples.append((number, base64.b64encode(answer).decode()))

    def _summed_up(self, server_cpu_s: float, client_cpu_s: float) -> Load:
        load, items = self.load, len(self.latencies) * self.job.items
        load.n_requests = len(self.latencies)
        if items:
            load.items_per_s = items / (self.open_until - self.open_from)
            load.server_cpu_ms, load.client_cpu_ms = 1000 * server_cpu_s / items, 1000 * client_cpu_s / items
            load.p50_ms, load.p99_ms = (1000 * np.percentile(self.latencies, (50, 99))).tolist()
        load.errors = load.errors[:N_SAMPLES]
        return load


def ask(endpoint: Endpoint, request: bytes) -> bytes:
    """Send one request and return the answer; raises whatever the protocol raises."""

    async def once() -> bytes:
        return await asyncio.wait_for((await connect(endpoint))(request), ASK_S)

    return asyncio.run(once())


async def connect(endpoint: Endpoint) -> Send:
    """Return a way to send requests."""
    return await {"grpc": _connect_grpc, "http": _connect_http}[endpoint.protocol](endpoint)


async def _connect_grpc(endpoint: Endpoint) -> Send:
    """Return a way to send bytes as they are; callers of one target share its connection."""
    import grpc.aio

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = grpc.aio.insecure_channel(endpoint.target, [*unlimited, ("grpc.enable_retries", 0)])
    call: Any = channel.unary_unary(endpoint.path)  # neither serializer nor deserializer: bytes in, bytes out

    async def send(request: bytes) -> bytes:
        return await call(request, timeout=60)

    return send


async def _connect_http(endpoint: Endpoint) -> Send:
    """Return a way to post bodies over a connection that is kept alive."""
    host, _, port = endpoint.target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=MAX_HEAD_BYTES)
    fields = f"Host: {endpoint.target}\r\nContent-Type: {endpoint.content_type}"
    head = f"POST {endpoint.path} HTTP/1.1\r\n{fields}\r\nContent-Length: "

    async def send(request: bytes) -> bytes:
        writer.write(f"{head}{len(request)}\r\n\r\n".encode() + request)
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        named = dict(field.lower().split(": ", 1) for field in fields if field)
        answer = await reader.readexactly(int(named["content-length"]))
        if " 200 " not in status:
            raise NotAnswered(f"{status}: {answer[:200]!r}")
        return answer

    return send


def main() -> None:
    """Read a job from standard input and write what it measured to standard output."""
    given = json.load(sys.stdin)
    job = Job(**{**given, "endpoint": Endpoint(**given["endpoint"])})
    load = asyncio.run(Callers(job).measure())
    json.dump(asdict(load), sys.stdout)


if __name__ == "__main__":
    main()
