"""What do callers get at twice what a server can do? A session that sleeps, a short queue, clients that never retry.

The sleeping session costs no processor time, so that its capacity is the same whatever the machine does. The capacity
is measured first, by callers in a closed loop; then requests of one item arrive at random (Poisson) at that rate, and
at twice that rate, whether or not earlier ones were answered. Latencies count from the moment at which a request was
due, so that a client that falls behind cannot hide a wait. Run: python benchmarks/bench_overload.py [--seconds 60]
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import processes
from backbone import ensure
from record import markdown, write_result

from headwater.process import environment
from headwater.v1 import extractor_pb2 as pb

BACKBONE = "minilm-l6"
PATH = "/headwater.v1.ExtractorService/Extract"
SLEEPING = Path(__file__).parent / "sleeping_server.py"
WORKERS, DELAY_MS = 2, 10.0
QUEUE = 64  # items: 0.3 s of work
CALLERS = 32  # of the closed loop: enough to keep the session busy, too few to be refused
CAPACITY_S, WARM_UP_S = 6.0, 2.0
PUSHBACK = "grpc-retry-pushback-ms"
PATIENCE_S = 30.0  # a call that has no answer by then hangs


@dataclass
class Answers:
    """What came back: seconds that each answer took, and when; and how many refusals said when to come back."""

    accepted: list[float] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    with_pushback: int = 0
    other: list[str] = field(default_factory=list)

    def goodput(self, begun: float, ended: float) -> float:
        """Return the accepted answers a second in a window."""
        return sum(begun <= at < ended for at in self.accepted_at) / (ended - begun)


class Clients:
    """Callers without retries; no item is sent twice."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: Any = channel.unary_unary(PATH)
        self._numbers = count()

    async def ask(self, answers: Answers, due: float | None = None) -> None:
        """Send one item and note what comes of it."""
        item = pb.Item(data=f"item {next(self._numbers)}".encode())
        request = pb.ExtractRequest(backbone=BACKBONE, items=[item]).SerializeToString()
        begun = time.perf_counter() if due is None else due
        try:
            await self._call(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            _note(answers, error, time.perf_counter() - begun)
        else:
            now = time.perf_counter()
            answers.accepted.append(now - begun)
            answers.accepted_at.append(now)

    async def capacity(self) -> float:
        """Return the items/s of a closed loop."""
        answers, until = Answers(), time.perf_counter() + WARM_UP_S + CAPACITY_S

        async def caller() -> None:
            while time.perf_counter() < until:
                await self.ask(answers)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        assert not answers.refused and not answers.other, "a closed loop smaller than the queue was refused"
        return answers.goodput(until - CAPACITY_S, until)

    async def arrive(self, rate: float, seconds: float) -> tuple[Answers, float]:
        """Send at random times; return the answers, and the goodput after the warm-up."""
        answers, begun = Answers(), time.perf_counter()
        gaps = np.random.default_rng(0).exponential(1 / rate, round(rate * seconds))
        tasks = []
        for due in (begun + np.cumsum(gaps)).tolist():
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.ask(answers, due)))
        goodput = answers.goodput(begun + WARM_UP_S, time.perf_counter())
        await asyncio.gather(*tasks)
        return answers, goodput


def _note(answers: Answers, error: grpc.aio.AioRpcError, seconds: float) -> None:
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        answers.other.append(f"{error.code().name}: {error.details()}")
        return
    answers.refused.append(seconds)
    pushback = dict(error.trailing_metadata() or ()).get(PUSHBACK)
    answers.with_pushback += pushback is not None and int(pushback) > 0


@contextmanager
def sleeping() -> Iterator[str]:
    """Run the sleeping server and yield its `host:port`."""
    options = {"--cache": "off", "--workers": WORKERS, "--max-queue-size": QUEUE, "--port": 0}
    arguments = [str(part) for option in options.items() for part in option]
    command = [sys.executable, SLEEPING, str(DELAY_MS), "serve", ensure(BACKBONE), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()  # "headwater serves … at host:port"
        assert ready, "the server did not start, for the reason above"
        yield ready.split()[-1]
    finally:
        processes.end(process)


async def measure(target: str, seconds: float) -> list[dict[str, Any]]:
    """Measure the capacity, then at it, then at twice it."""
    async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        clients = Clients(channel)
        capacity = await clients.capacity()
        at, goodput_at = await clients.arrive(capacity, seconds)
        beyond, goodput_beyond = await clients.arrive(2 * capacity, seconds)
    p99 = _ms(at.accepted, 99)
    return [
        _row("capacity", capacity, capacity, goodput_at, at, p99),
        _row("twice the capacity", 2 * capacity, capacity, goodput_beyond, beyond, p99),
    ]


def _row(name: str, rate: float, capacity: float, goodput: float, answers: Answers, p99: float) -> dict[str, Any]:
    return {
        "requests arrive at": name,
        "offered/s": round(rate, 1),
        "goodput/s": round(goodput, 1),
        "of capacity": round(goodput / capacity, 3),
        "p50 ms": round(_ms(answers.accepted, 50)),
        "p99 ms": round(_ms(answers.accepted, 99)),
        "p99 ÷ p99 at capacity": round(_ms(answers.accepted, 99) / p99, 2),
        "refused": len(answers.refused),
        "with a pushback": answers.with_pushback,
        "refusal p50 ms": round(_ms(answers.refused, 50), 1),
        "refusal p99 ms": round(_ms(answers.refused, 99), 1),
        "other errors": len(answers.other),
    }


def _ms(seconds: Sequence[float], percentile: int) -> float:
    return 1000 * float(np.percentile(seconds, percentile)) if seconds else 0.0


def main() -> None:
    """Start the sleeping server, measure, and write what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="at each rate")
    seconds = parser.parse_args().seconds
    with sleeping() as target:
        rows = asyncio.run(measure(target, seconds))
    note = f"{WORKERS} sessions that sleep {DELAY_MS:g} ms an item, a queue of {QUEUE}, {seconds:g} s at each rate"
    write_result(Path(__file__), rows, note=note)
    print(markdown(rows))


if __name__ == "__main__":
    main()
