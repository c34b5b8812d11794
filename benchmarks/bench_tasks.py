"""What a few-shot task's store costs: 1,000 tasks of 100 examples, and one of 100,000, of 384 values each.

An add of one example, the snapshot that readers get of it and a search for its ten nearest take turns with the floor:
SQLite's commit of the same row to one open file. Run: python benchmarks/bench_tasks.py [--quick] [--folder DISK]
"""

import argparse
import gc
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import markdown, write_result

from classifiers.tasks import Task, TaskStore

DIM = 384
FINGERPRINT = "ab" * 16
N_CLASSES = 10
K = 10


class Floor:
    """Commits rows of one embedding to a file, as durable as the store's."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE t (n, e BLOB)"):
            self.db.execute(statement)

    def commit(self, row: bytes) -> None:
        """Write one row."""
        self.db.execute("INSERT INTO t VALUES (1, ?)", (row,))


def rss_mib() -> float:
    """Return the resident set of this process."""
    gc.collect()
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def ms(work: Callable[[], Any]) -> float:
    """Return how long it took."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def embeddings(n: int, seed: int) -> NDArray[np.float32]:
    """Return random ones (n, DIM)."""
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def fill(task: Task, n: int, seed: int, start: int = 0) -> None:
    """Add n examples to a task."""
    labels = [f"class {i % N_CLASSES}" for i in range(n)]
    ids = [f"{start + i:08d}" for i in range(n)]
    task.add(embeddings(n, seed), labels, ids=ids, fingerprint=FINGERPRINT)


def turns(name: str, tasks: list[Task], floor: Floor, n: int) -> list[dict[str, Any]]:
    """Let add, search, removal and floor take turns on tasks; return a row each."""
    rng, X = np.random.default_rng(5), embeddings(n, 6)
    spent: dict[str, list[float]] = {}

    def note(what: str, work: Callable[[], Any]) -> None:
        spent.setdefault(what, []).append(ms(work))

    for i in range(n):
        task, one = tasks[rng.integers(len(tasks))], X[i : i + 1]
        note("floor: commit", lambda one=one: floor.commit(one.tobytes()))
        new = f"new {i}"
        note(
            "add + snapshot",
            lambda task=task, one=one, new=new: (
                task.add(one, ["class 1"], ids=[new], fingerprint=FINGERPRINT),
                task.support,
            ),
        )
        note("search", lambda task=task, one=one: task.nearest(one, K))
        if i % 5 == 0:
            note("remove + snapshot", lambda task=task, new=new: (task.remove([new]), task.support))
            note("X after removal", lambda task=task: task.support.X)
            note("undo", lambda task=task: task.undo())
    return [
        {
            "what": f"{name}: {what}",
            "n": len(times),
            "p50 ms": round(float(np.percentile(times, 50)), 2),
            "p99 ms": round(float(np.percentile(times, 99)), 2),
            "of floor p50": round(float(np.median(times) / np.median(spent["floor: commit"])), 2),
        }
        for what, times in spent.items()
    ]


MEMORY = """
import sys
from bench_tasks import embeddings, rss_mib
from classifiers.tasks import TaskStore
with TaskStore.open(sys.argv[1]) as store:
    before = rss_mib()
    tasks = [store.task(name) for name in store.names()]
    for task in tasks:
        task.nearest(embeddings(1, 0), 10)
    print(rss_mib() - before, sum(task.support.X.nbytes for task in tasks) / 2**20)
"""


def opened(name: str, folder: Path) -> dict[str, Any]:
    """Open a folder's tasks in a process of their own; return what it cost."""
    n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    start = time.perf_counter()
    with TaskStore.open(folder) as store:
        n = len([store.task(one) for one in store.names()])
    seconds = time.perf_counter() - start
    done = subprocess.run([sys.executable, "-c", MEMORY, str(folder)], check=True, capture_output=True, text=True)
    memory, held = map(float, done.stdout.split())
    return {
        "what": f"{name}: open",
        "n": n,
        "s": round(seconds, 2),
        "MiB memory": round(memory),
        "MiB of embeddings": round(held),
        "MiB on disk": round(n_bytes / 2**20),
    }


def many(folder: Path, floor: Floor, n_tasks: int, n_turns: int) -> list[dict[str, Any]]:
    """Measure many small tasks."""
    names, made = [f"task-{i}" for i in range(n_tasks)], []
    with TaskStore.open(folder) as store:
        for i, name in enumerate(names):
            start = time.perf_counter()
            task = store.create(name, backbone="minilm-l6", fingerprint=FINGERPRINT, dim=DIM)
            made.append(1000 * (time.perf_counter() - start))
            fill(task, 100, i)
    row = opened(f"{n_tasks} × 100", folder)
    created = {
        "what": f"{n_tasks} × 100: create",
        "n": n_tasks,
        "p50 ms": round(float(np.median(made)), 2),
        "p99 ms": round(float(np.percentile(made, 99)), 2),
    }
    with TaskStore.open(folder) as store:
        tasks = [store.task(name) for name in names]
        return [row, created, *turns(f"{n_tasks} × 100", tasks, floor, n_turns)]


def large(folder: Path, floor: Floor, n: int, n_turns: int) -> list[dict[str, Any]]:
    """Measure one large task."""
    with TaskStore.open(folder) as store:
        task = store.create("large", backbone="minilm-l6", fingerprint=FINGERPRINT, dim=DIM)
        for start in range(0, n, 10_000):
            fill(task, min(10_000, n - start), start, start)
    row = opened(f"1 × {n:,}", folder)
    with TaskStore.open(folder) as store:
        return [row, *turns(f"1 × {n:,}", [store.task("large")], floor, n_turns)]


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default the temporary folder")
    options = parser.parse_args()
    n_tasks, n, n_turns = (50, 5_000, 100) if options.quick else (1_000, 100_000, 2_000)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        floor = Floor(Path(folder) / "floor")
        rows = many(Path(folder) / "many", floor, n_tasks, n_turns)
        rows += large(Path(folder) / "large", floor, n, n_turns // 4)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    rows = [{key: row.get(key, "") for key in keys} for row in rows]
    if options.quick:
        print(markdown(rows))
        return
    note = "384 values an example; times of one example; the floor is SQLite's durable commit of one row, in turns"
    write_result(Path(__file__), rows, note=note)
    print(markdown(rows))


if __name__ == "__main__":
    main()
