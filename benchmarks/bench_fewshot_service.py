"""What a teacher waits for, beside callers who classify: AddExamples, then a Classify that knows of it; items cached.

Over the wire, on a real server: 16 callers classify one cached text each, as fast as they can or ten times a second,
while a teacher adds a text (each tenth of a class that is new) and asks for it. With 1 task of 100 examples, 1,000
tasks of 100, which all are asked, and 1 task of 100,000; embeddings of 384 values. The floor is a call that does
nothing (GetTask of an empty task) beside the same callers, and a synced write of the same folder.
Run: python benchmarks/bench_fewshot_service.py [--quick] [--folder DISK]
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from backbone import ensure
from labelled_sets import DEFAULT, banking77
from record import write_result

from extractor.home import backbones_folder
from headwater.process import serving
from headwater.v1 import extractor_pb2, extractor_pb2_grpc, fewshot_pb2, fewshot_pb2_grpc

BACKBONE = "minilm-l6"
DIM, CALLERS, PER_TASK = 384, 16, 100
CACHED_TEXTS = 1000
PACES_S: dict[str, float | None] = {"alone": None, "16 × 10 a second": 0.1, "16 as fast as they can": 0.0}
WARM_S = 2.0
GOAL_MS = 20.0

Row = dict[str, Any]


class Wire:
    """The few-shot service by its plain stubs, so that no client's own work is measured."""

    def __init__(self, target: str) -> None:
        channel = grpc.insecure_channel(target, options=[("grpc.max_send_message_length", -1)])
        self.extract = extractor_pb2_grpc.ExtractorServiceStub(channel)
        self.tasks = fewshot_pb2_grpc.FewShotServiceStub(channel)
        self.fingerprint = self.extract.GetBackbone(extractor_pb2.GetBackboneRequest(name=BACKBONE)).fingerprint

    def create(self, task: str, X: np.ndarray, labels: list[str]) -> None:
        """Make a task with embeddings X (n, DIM)."""
        self.tasks.CreateTask(fewshot_pb2.CreateTaskRequest(name=task))
        for start in range(0, len(X), 1000):
            rows = slice(start, start + 1000)
            new = fewshot_pb2.NewExamples(
                embeddings=X[rows].astype("<f4").tobytes(), fingerprint=self.fingerprint, labels=labels[rows]
            )
            self.tasks.AddExamples(fewshot_pb2.AddExamplesRequest(task=task, examples=new))

    def add(self, task: str, text: bytes, label: str) -> None:
        """Add one text."""
        new = fewshot_pb2.NewExamples(items=[extractor_pb2.Item(data=text)], labels=[label])
        self.tasks.AddExamples(fewshot_pb2.AddExamplesRequest(task=task, examples=new))

    def classify(self, task: str, text: bytes) -> Any:
        """Classify one text."""
        return self.tasks.Classify(question(task, text))


def question(task: str, text: bytes) -> Any:
    """Return the request that asks for one text."""
    return fewshot_pb2.ClassifyRequest(task=task, items=[extractor_pb2.Item(data=text)])


def texts() -> list[bytes]:
    """Return the texts that are cached: another set's, so that tasks of Banking77 know nothing of them."""
    return [item if isinstance(item, bytes) else str(item).encode() for item in banking77(DEFAULT)["test"].items][
        :CACHED_TEXTS
    ]


async def callers(target: str, pace_s: float, tasks: list[str]) -> None:
    """Classify until the standard input closes, then print the rate and the percentiles."""
    loop, over, spent = asyncio.get_running_loop(), asyncio.Event(), []
    loop.run_in_executor(None, lambda: (sys.stdin.read(), loop.call_soon_threadsafe(over.set)))
    items, dice = texts(), random.Random(1)  # noqa: S311  # no secret

    async def one(stub: Any) -> None:
        while not over.is_set():
            begun = time.perf_counter()
            await stub.Classify(question(dice.choice(tasks), dice.choice(items)))
            spent.append(time.perf_counter() - begun)
            await asyncio.sleep(max(0.0, begun + pace_s * dice.uniform(0.5, 1.5) - time.perf_counter()))

    begun = time.perf_counter()
    async with grpc.aio.insecure_channel(target) as channel:
        await asyncio.gather(*(one(fewshot_pb2_grpc.FewShotServiceStub(channel)) for _ in range(CALLERS)))
    p50, p99 = 1000 * np.percentile(spent, [50, 99])
    print(f"{len(spent) / (time.perf_counter() - begun):.0f} {p50:.1f} {p99:.1f}")


@contextmanager
def calling(target: str, pace_s: float | None, tasks: list[str]) -> Iterator[list[str]]:
    """Let callers classify while the block runs; afterwards the list has what they print."""
    told: list[str] = []
    if pace_s is None:
        yield told
        return
    command = [sys.executable, __file__, "--callers", target, str(pace_s), str(len(tasks)), tasks[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(WARM_S)
        yield told
        told.extend(process.communicate("")[0].split())
        if process.returncode:
            raise SystemExit("the callers failed")


def rss_mib(pid: int) -> float:
    """Return the resident set of a process and of its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024 + sum(rss_mib(int(child)) for child in children)


def synced_write_ms(folder: Path, n: int) -> list[float]:
    """Return how long this disk takes to make a row durable."""
    spent = []
    with (folder / "floor").open("ab", buffering=0) as file:
        for _ in range(n):
            begun = time.perf_counter()
            file.write(bytes(4 * DIM))
            os.fsync(file.fileno())
            spent.append(1000 * (time.perf_counter() - begun))
    return spent


def teach(wire: Wire, tasks: list[str], items: list[bytes], n: int) -> dict[str, list[float]]:
    """Add and classify in turns, over tasks at random; return the milliseconds of each."""
    spent: dict[str, list[float]] = {"add": [], "classify": [], "both": [], "empty call": []}
    dice = random.Random(2)  # noqa: S311  # no secret
    for number in range(n):
        task, text = dice.choice(tasks), dice.choice(items)
        label = f"new {number}" if number % 10 == 0 else f"class {number % 10}"
        begun = time.perf_counter()
        wire.add(task, text, label)
        added = time.perf_counter()
        answer = wire.classify(task, text)
        done = time.perf_counter()
        if number % 10 == 0 and answer.classifications[0].neighbours[0].similarity < 0.999:
            raise SystemExit("the new class was not there")
        wire.tasks.GetTask(fewshot_pb2.GetTaskRequest(task="empty"))
        for what, seconds in zip(
            spent, (added - begun, done - added, done - begun, time.perf_counter() - done), strict=True
        ):
            spent[what].append(1000 * seconds)
        time.sleep(0.02)
    return spent


def rows_of(wire: Wire, server: Any, what: str, tasks: list[str], n: int, folder: Path) -> Iterator[Row]:
    """Measure one set of tasks beside each kind of callers."""
    items = texts()
    for beside, pace_s in PACES_S.items():
        for task in tasks[:50]:
            wire.classify(task, items[0])
        with calling(server.target, pace_s, tasks) as told:
            spent = teach(wire, tasks, items, n)
        rate, p50, p99 = told or ("", "", "")
        both = float(np.percentile(spent["both"], 99))
        row = {"tasks": what, "beside": beside}
        for name in ("add", "classify", "both"):
            row |= {f"{name} p50 ms": f"{np.median(spent[name]):.1f}"}
            row |= {f"{name} p99 ms": f"{np.percentile(spent[name], 99):.1f}"}
        row |= {
            "goal met": "yes" if both <= GOAL_MS else "no",
            "empty call p99 ms": f"{np.percentile(spent['empty call'], 99):.1f}",
            "synced write p99 ms": f"{np.percentile(synced_write_ms(folder, 200), 99):.1f}",
            "callers a second": rate, "callers p50 ms": p50, "callers p99 ms": p99,
            "server MiB": round(rss_mib(server.process.pid)),
        }  # fmt: skip
        print(row, flush=True)
        yield row


def measured(folder: Path, quick: bool) -> Iterator[Row]:
    """Make the tasks, and measure them."""
    rng = np.random.default_rng(0)
    n_tasks, n_large, n = (20, 5_000, 100) if quick else (1000, 100_000, 1000)
    labels = [f"class {i % 10}" for i in range(n_large)]
    X = rng.normal(size=(n_large, DIM)).astype(np.float32) + 3 * rng.normal(size=(10, DIM))[np.arange(n_large) % 10]
    with serving(BACKBONE, "--cache", "memory") as server:
        wire = Wire(server.target)
        every = [extractor_pb2.Item(data=text) for text in texts()]
        wire.extract.Extract(extractor_pb2.ExtractRequest(backbone=BACKBONE, items=every))
        wire.create("empty", X[:0], [])
        for name, count in (("one", 1), ("many", n_tasks)):
            for number in range(count):
                rows = rng.integers(n_large, size=PER_TASK)
                wire.create(f"{name}-{number}", X[rows], [labels[row] for row in rows])
        yield from rows_of(wire, server, "1 × 100", ["one-0"], n, folder)
        yield from rows_of(wire, server, f"{n_tasks} × 100", [f"many-{i}" for i in range(n_tasks)], n, folder)
        wire.create("large-0", X, labels)
        yield from rows_of(wire, server, f"1 × {n_large:,}", ["large-0"], n // 4, folder)


def main() -> None:
    """Measure, print, and keep the result."""
    if sys.argv[1:2] == ["--callers"]:
        target, pace_s, n_tasks, first = sys.argv[2:]
        prefix = first.rpartition("-")[0]
        asyncio.run(callers(target, float(pace_s), [f"{prefix}-{number}" for number in range(int(n_tasks))]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default the temporary folder")
    options = parser.parse_args()
    ensure(BACKBONE)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        installed = backbones_folder() / BACKBONE
        home = Path(folder) / "home"
        (home / "backbones").mkdir(parents=True)
        (home / "backbones" / BACKBONE).symlink_to(installed)
        os.environ["HEADWATER_HOME"] = str(home)
        rows = list(measured(Path(folder), options.quick))
    if not options.quick:
        note = "milliseconds; 'both' is AddExamples and then Classify, whose goal is a p99 of 20 ms; items are cached"
        write_result(Path(__file__), rows, note=note)


if __name__ == "__main__":
    main()
