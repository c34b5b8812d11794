"""Does a training job slow extraction down? Requests at half of what a server can do, beside a job and alone.

The capacity is measured first, by callers in a closed loop; then requests of one photo arrive at random (Poisson) at
half that rate, in windows: alone, beside a job, alone, … Latencies count from the moment at which a request was due.
The job trains on 20,000 × 1,280 embeddings, much noise around 100 means; its process is stopped (SIGSTOP) where
extraction is to be alone, so that windows are short and many, and whatever else the machine does falls on both kinds.
The goal is a p99 beside a job of at most 1.3 times that alone.
Run: python benchmarks/bench_training.py [--windows 20] [--seconds 4]
"""

import argparse
import asyncio
import os
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import processes
from backbone import ensure
from photos import photos
from record import markdown, write_result

from extractor.shelf import find_backbone
from headwater import Client
from headwater.heads_client import TrainingJob
from headwater.process import ServerProcess, serving
from headwater.v1 import extractor_pb2 as pb

BACKBONE = "efficientnet-lite0"
PATH = "/headwater.v1.ExtractorService/Extract"
ROWS, CLASSES, NOISE = 20_000, 100, 6.0
CALLERS = 8  # of the closed loop
CAPACITY_S, WARM_UP_S = 6.0, 1.0
PATIENCE_S = 60.0
GOAL = 1.3


class Load:
    """Callers that send one photo a request; no photo is in flight twice."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: Any = channel.unary_unary(PATH)
        self._requests = cycle(
            pb.ExtractRequest(backbone=BACKBONE, items=[pb.Item(data=photo)]).SerializeToString() for photo in photos()
        )

    async def ask(self, seconds: list[float], due: float | None = None) -> None:
        """Send one photo and note how long its answer took."""
        begun = time.perf_counter() if due is None else due
        await self._call(next(self._requests), timeout=PATIENCE_S)
        seconds.append(time.perf_counter() - begun)

    async def capacity(self) -> float:
        """Return the items/s of a closed loop."""
        seconds: list[float] = []
        until = time.perf_counter() + CAPACITY_S

        async def caller() -> None:
            while time.perf_counter() < until:
                await self.ask(seconds)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return len(seconds) / CAPACITY_S

    async def arrive(self, rate: float, seconds: float, seed: int) -> list[float]:
        """Send at random times; return what the answers took after the warm-up."""
        gaps = np.random.default_rng(seed).exponential(1 / rate, round(rate * (WARM_UP_S + seconds)))
        begun, taken, warming = time.perf_counter(), [], []
        tasks = []
        for due in (begun + np.cumsum(gaps)).tolist():
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.ask(taken if due > begun + WARM_UP_S else warming, due)))
        await asyncio.gather(*tasks)
        return taken


class Trainer:
    """A job that goes on for as long as it is needed, and stands still where it is not.

    Parameters
    ----------
    client : Client
    server : int
        Its server's process.
    """

    def __init__(self, client: Client, server: int) -> None:
        self._client = client
        self._server = server
        info = client.describe()
        rng = np.random.default_rng(0)
        means = rng.normal(size=(CLASSES, info.dim))
        labels = rng.integers(0, CLASSES, ROWS)
        self._X = (means[labels] + NOISE * rng.normal(size=(ROWS, info.dim))).astype(np.float32)
        self._labels = [f"class {label}" for label in labels.tolist()]
        self._fingerprint = info.fingerprint
        self._job: TrainingJob | None = None

    def hold(self) -> None:
        """Have a job, and let it stand still."""
        if self._job is None or self._client.job(self._job.id).has_ended:
            self._job = self._client.train_head_on_embeddings(
                "bench", self._X, self._labels, fingerprint=self._fingerprint, activate=False
            )
            next(info for info in self._job if info.step)
        processes.hold(self._pid)

    def release(self) -> None:
        """Let it go on."""
        processes.release(self._pid)

    def went_on(self) -> bool:
        """Tell whether it still trains."""
        return self._job is not None and self._client.job(self._job.id).state == "training"

    @property
    def _pid(self) -> int:
        (pid,) = (pid for pid in processes.tree(self._server) if b"headwater.job" in _command(pid))
        return pid


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def measure(server: ServerProcess, windows: int, seconds: float) -> tuple[float, dict[str, list[list[float]]]]:
    """Return the capacity, and what answers took in each window."""
    found: dict[str, list[list[float]]] = {"alone": [], "beside a job": []}
    with Client(server.target, timeout_s=PATIENCE_S) as client:
        trainer = Trainer(client, server.process.pid)
        async with grpc.aio.insecure_channel(server.target, [("grpc.enable_retries", 0)]) as channel:
            load = Load(channel)
            capacity = await load.capacity()
            while len(found["alone"]) < windows:
                seed = len(found["alone"])
                await asyncio.to_thread(trainer.hold)
                alone = await load.arrive(capacity / 2, seconds, seed)
                trainer.release()
                beside = await load.arrive(capacity / 2, seconds, seed)
                if await asyncio.to_thread(trainer.went_on):  # else it has ended, and the window counts for nothing
                    found["alone"].append(alone)
                    found["beside a job"].append(beside)
    return capacity, found


def _rows(capacity: float, found: dict[str, list[list[float]]]) -> list[dict[str, Any]]:
    alone = _p99s(found["alone"])
    rows = []
    for name, windows in found.items():
        p99s, pooled = _p99s(windows), np.concatenate(windows)
        rows.append(
            {
                "extraction": name,
                "offered/s": round(capacity / 2, 1),
                "requests": len(pooled),
                "p50 ms": round(1000 * float(np.percentile(pooled, 50)), 1),
                "p99 ms (median of windows)": round(1000 * float(np.median(p99s)), 1),
                "p99 ÷ p99 alone (median of pairs)": round(float(np.median(p99s / alone)), 2),
                "least and most": f"{(p99s / alone).min():.2f} to {(p99s / alone).max():.2f}",
                "goal": GOAL,
            }
        )
    return rows


def _p99s(windows: list[list[float]]) -> np.ndarray:
    return np.array([np.percentile(window, 99) for window in windows])


def main() -> None:
    """Start the service with a home of its own, measure, and write what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=20, help="of each kind")
    parser.add_argument("--seconds", type=float, default=4.0, help="a window")
    arguments = parser.parse_args()
    folder = find_backbone(ensure(BACKBONE))
    with tempfile.TemporaryDirectory() as home:
        os.environ["HEADWATER_HOME"] = home  # heads are kept there
        with serving(str(folder), "--cache", "off") as server:
            capacity, found = asyncio.run(measure(server, arguments.windows, arguments.seconds))
    rows = _rows(capacity, found)
    note = (
        f"{arguments.windows} windows of {arguments.seconds:g} s each, in turns; the job: {ROWS:,} embeddings, "
        f"{CLASSES} classes"
    )
    write_result(Path(__file__), rows, note=note)
    print(markdown(rows))


if __name__ == "__main__":
    main()
