"""What does a dump cost beside what it computes? Photos → EfficientNet-Lite0, texts → MiniLM, in one process.

Interleaved, round by round: the limit (read, decode and session in a thread a core, each with its own items; texts
sorted by length over a window; nothing is kept), a reader as image tools have it (threads decode, one session takes
batches of 32), the dump with its cache off, and the dump of what the cache has. A share is items per CPU-second over
the limit's of the same round. Texts carry on: four of 16 tokens for each of 128. Then the memory of dumps of generated
texts through a backbone that costs nothing, each in a process of its own. Then a dump on a Ray that is started for it
on this machine, after a local one in each round, by the CPU of all of Ray's processes; to begin is a dump of one item.
Run: python benchmarks/bench_dump.py [--quick] [--only photos,texts,memory,ray] [--photos N] [--texts N] [--peers]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import loops
import pyarrow.parquet as pq
from backbone import ensure
from choice import some_of
from photos import photos
from processes import cpu_by_process
from record import markdown, write_result
from servers import NotStarted
from texts import texts

from extractor import Extractor
from extractor.backbone import Backbone
from extractor.dump import dump
from extractor.dump.on_ray import RayVerb
from extractor.plan import Plan, cores, default_plan
from extractor.prepare import load_prepare
from extractor.shelf import find_backbone
from extractor.spec import TOKENIZER_FILE, read_spec

IMAGES, TEXTS, MEMORY, RAY = "photos", "texts", "memory", "ray"
BACKBONES = {IMAGES: "efficientnet-lite0", TEXTS: "minilm-l6"}
CLOTHING = Path("/work/shared/data/clothing/train")  # else generated photos
SORTED_OVER = 1024  # texts of the limit
READER_BATCH = 32
GOALS = {IMAGES: 0.95, TEXTS: 0.90}
CACHED_GOAL = 10
MEMORY_MB = 1500
SAMPLED_S = 0.2  # how often Ray's processes are looked at, whose time is gone when they end


@dataclass(frozen=True)
class Turn:
    """What one contender did: seconds of its wall clock and of its process's CPU, over so many items."""

    wall_s: float
    cpu_s: float
    n_items: int


def timed(work: Callable[[], object], n_items: int) -> Turn:
    """Give one its turn."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Turn(time.perf_counter() - wall, time.process_time() - cpu, n_items)


class Limit:
    """Read, prepare and compute in a thread a core; the best loop that there is for one's own items."""

    def __init__(self, name: str) -> None:
        folder = find_backbone(name)
        self._spec = read_spec(folder)
        self._plan = default_plan(self._spec.modality, "cpu")
        self._prepare, self._backbone = load_prepare(self._spec, folder), Backbone.load(folder, self._spec, self._plan)

    def run(self, items: Iterable[Path | str]) -> None:
        """Compute all."""
        shared, lock = iter(items), Lock()
        window = SORTED_OVER if self._spec.modality == "text" else 1

        def work(_: int) -> None:
            while True:
                with lock:
                    mine = list(islice(shared, window))
                if not mine:
                    return
                arrays = sorted((self._prepare(_bytes(item)).array for item in mine), key=len)
                for batch in batches(arrays, self._plan.max_batch_size):
                    self._backbone.forward(batch)

        with ThreadPoolExecutor(self._plan.workers) as pool:
            list(pool.map(work, range(self._plan.workers)))


class Reader:
    """Threads read and decode, one session with a thread a core takes batches: as image tools have it."""

    def __init__(self, name: str) -> None:
        folder = find_backbone(name)
        spec = read_spec(folder)
        self._prepare = load_prepare(spec, folder)
        self._backbone = Backbone.load(folder, spec, Plan(threads=cores()))

    def run(self, items: Iterable[Path | str]) -> None:
        """Compute all."""
        with ThreadPoolExecutor(cores()) as pool:
            for batch in batches(items, READER_BATCH):
                self._backbone.forward(list(pool.map(lambda item: self._prepare(_bytes(item)).array, batch)))


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield items, so many at a time."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def _bytes(item: Path | str) -> bytes:
    return item.read_bytes() if isinstance(item, Path) else item.encode()


def source_of(kind: str, n_items: int, folder: Path) -> tuple[Path, list[Path | str]]:
    """Make a source of n items, and list them."""
    folder.mkdir(exist_ok=True)
    source = folder / kind
    if kind == TEXTS:
        made = texts(find_backbone(BACKBONES[kind]) / TOKENIZER_FILE, n_items)
        source = source.with_suffix(".jsonl")
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in made))
        return source, list(made)
    source.mkdir()
    real = sorted(CLOTHING.rglob("*.jpg"))[:n_items] if CLOTHING.is_dir() else []
    for i, path in enumerate(real):
        (source / f"{i:06}.jpg").symlink_to(path)
    for i, photo in enumerate(photos(n_items - len(real)) if len(real) < n_items else ()):
        (source / f"{len(real) + i:06}.jpg").write_bytes(photo)
    return source, sorted(source.iterdir())


def rounds_of(kind: str, n_items: int, n_rounds: int, folder: Path, *, peers: bool) -> Iterator[tuple[str, list[Turn]]]:
    """Measure every contender once a round."""
    name = ensure(BACKBONES[kind])
    source, items = source_of(kind, n_items, folder)
    limit = Limit(name)
    with ExitStack() as stack:
        plain = stack.enter_context(Extractor.load(name, cache="off", provider="cpu"))
        cached = stack.enter_context(Extractor.load(name, cache=folder / f"cache-{kind}", provider="cpu"))
        outs = iter(range(1 << 30))
        work: dict[str, Callable[[], object]] = {
            "limit": lambda: limit.run(items),
            "dump": lambda: dump(source, folder / f"{kind}-{next(outs)}", plain),
            "dump, cached": lambda: dump(source, folder / f"{kind}-{next(outs)}", cached),
        }
        if kind == IMAGES:
            reader = Reader(name)
            work["reader, batches of 32"] = lambda: reader.run(items)
        limit.run(items[: len(items) // 8])
        dump(source, folder / f"{kind}-warm", cached)
        check(folder / f"{kind}-warm", n_items)
        turns: dict[str, list[Turn]] = {what: [] for what in work}
        for _ in range(n_rounds):
            for what, one in work.items():
                turns[what].append(timed(one, n_items))
    yield from turns.items()
    if peers and kind == TEXTS:
        yield from peers_of([str(item) for item in items])


def peers_of(items: list[str]) -> Iterator[tuple[str, list[Turn]]]:
    """Give other libraries' loops a turn; those that do not start are told of."""
    for name in loops.LOOPS:
        try:
            with loops.loop(name, find_backbone(BACKBONES[TEXTS]), items, workers=cores()) as running:
                load = running.measure(20.0)
                n_items = round(20 * load.items_per_s)
                yield name, [Turn(20.0, n_items * load.server_cpu_ms / 1000, n_items)]
        except NotStarted as error:
            print(f"{name} did not start: {error}", file=sys.stderr)


def check(out: Path, n_items: int) -> None:
    """Make sure that a dump is whole."""
    table = pq.read_table(sorted(out.glob("part-*.parquet")), columns=["embedding"])
    assert table.num_rows == n_items and not table.column(0).null_count


def rows_of(kind: str, found: Iterable[tuple[str, list[Turn]]]) -> list[dict[str, Any]]:
    """Return a row a contender: medians over the rounds, shares round by round."""
    turns = dict(found)
    return [_row(kind, what, turns) for what in turns]


def _row(kind: str, what: str, turns: dict[str, list[Turn]]) -> dict[str, Any]:
    def per_cpu_s(turn: Turn) -> float:
        return turn.n_items / turn.cpu_s

    pairs = list(zip(turns[what], turns["limit"], strict=False))
    computed = list(zip(turns[what], turns["dump"], strict=False))
    return {
        "what": f"{kind}: {what}",
        "items": turns[what][0].n_items,
        "items/s": round(statistics.median(turn.n_items / turn.wall_s for turn in turns[what]), 1),
        "items/CPU-s": round(statistics.median(map(per_cpu_s, turns[what])), 1),
        "share of limit": round(statistics.median(per_cpu_s(one) / per_cpu_s(two) for one, two in pairs), 3),
        "goal": {"dump": GOALS[kind], "dump, cached": f"{CACHED_GOAL} × dump"}.get(what, ""),
        "× dump, by the clock": round(statistics.median(two.wall_s / one.wall_s for one, two in computed), 2),
    }


MEMORY_OF = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from extractor import Extractor
from extractor.dump import dump
from extractor.dump.on_ray import RayVerb
from extractor.sources import Entry
from tests.tiny import write_tiny_text

class Generated:
    columns, numbered = {}, True

    def describe(self):
        return {"kind": "generated", "place": "here"}

    def entries(self):
        return (Entry(str(i), f"red cat {i}") for i in range(int(sys.argv[2])))

    def count(self):
        return int(sys.argv[2])

with tempfile.TemporaryDirectory() as folder:
    with Extractor.load(write_tiny_text(Path(folder) / "tiny"), cache="off") as extractor:
        counts = dump(Generated(), Path(folder) / "out", extractor)
        again = dump(Generated(), Path(folder) / "out", extractor)
    assert (counts.committed, again.skipped) == (int(sys.argv[2]),) * 2
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 976.5625, counts.rate, counts.shards)
"""


def memory_of(n_items: int) -> dict[str, Any]:
    """Return the peak of a process that dumps so many generated texts, and then resumes."""
    command = [sys.executable, "-c", MEMORY_OF, str(Path(__file__).parents[1]), str(n_items)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, rate, n_shards = map(float, done.stdout.split())
    row = {"what": f"{MEMORY}: {n_items:,} texts", "items": n_items, "items/s": round(rate)}
    return {**row, "goal": MEMORY_MB, "peak MB": round(peak), "shards": round(n_shards)}


def on_ray_of(kind: str, n_items: int, n_rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Return rows of a local dump and of one on Ray, which has the same work on the same machine."""
    name = ensure(BACKBONES[kind])
    source, _ = source_of(kind, n_items, folder)
    one, _ = source_of(kind, 1, folder / "one")
    here, there, empty = [], [], []
    for i in range(n_rounds):
        with Extractor.load(name, cache="off", provider="cpu") as plain:
            here.append(timed(partial(dump, source, folder / f"here-{i}", plain), n_items))
        with RayVerb(name, cache="off") as verb:
            empty.append(timed_with_children(partial(dump, one, folder / f"one-{i}", verb), 1))
            there.append(timed_with_children(partial(dump, source, folder / f"ray-{i}", verb), n_items))
        check(folder / f"ray-{i}", n_items)
    turns = list(zip(here, there, empty, strict=True))
    local, ray = ({"what": f"{RAY}: {kind}, {where}", "items": n_items} for where in ("here", "on Ray"))
    for row, took in ((local, here), (ray, there)):
        row["items/s"] = round(statistics.median(turn.n_items / turn.wall_s for turn in took), 1)
        row["items/CPU-s"] = round(statistics.median(turn.n_items / turn.cpu_s for turn in took), 1)
    ray["share of dump"] = round(statistics.median(a.cpu_s / b.cpu_s for a, b, _ in turns), 3)
    ray["the same, once begun"] = round(statistics.median(a.cpu_s / (b.cpu_s - c.cpu_s) for a, b, c in turns), 3)
    ray["to begin, s"] = round(statistics.median(c.wall_s for c in empty), 1)
    ray["to begin, CPU-s"] = round(statistics.median(c.cpu_s for c in empty), 1)
    return [local, ray]


def timed_with_children(work: Callable[[], object], n_items: int) -> Turn:
    """Give one its turn whose processes begin and end meanwhile: of each its time when it was last seen."""
    before, seen, ended, watched_s = cpu_by_process(os.getpid()), {}, Event(), 0.0

    def watch() -> None:
        nonlocal watched_s
        while not ended.wait(SAMPLED_S):
            seen.update(cpu_by_process(os.getpid()))
        watched_s = time.thread_time()

    watching = Thread(target=watch)
    watching.start()
    wall = time.perf_counter()
    try:
        work()
    finally:
        wall = time.perf_counter() - wall
        ended.set()
        watching.join()
    seen.update(cpu_by_process(os.getpid()))
    used = sum(seconds - before.get(pid, 0.0) for pid, seconds in seen.items())
    return Turn(wall, used - watched_s, n_items)


def main() -> None:
    """Measure, and write medians."""
    everything = [IMAGES, TEXTS, MEMORY, RAY]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=some_of(everything), default=set(everything), help=f"some of {everything}")
    parser.add_argument("--photos", type=int, default=3000)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--memory", default="1000,100000,1000000", help="items of the dumps whose memory is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="also sentence-transformers and fastembed, for texts")
    parser.add_argument("--quick", action="store_true", help="300 photos, 3,000 texts, memory to 100,000, one round")
    parser.add_argument("--suffix", default="", help="of the result's file")
    given = parser.parse_args()
    sizes = {IMAGES: 300, TEXTS: 3000} if given.quick else {IMAGES: given.photos, TEXTS: given.texts}
    n_rounds = 1 if given.quick else given.rounds
    rows: list[dict[str, Any]] = []
    for kind in (kind for kind in (IMAGES, TEXTS) if kind in given.only):
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(kind, rounds_of(kind, sizes[kind], n_rounds, Path(folder), peers=given.peers))
    if MEMORY in given.only:
        rows += [memory_of(int(n)) for n in ("1000,100000" if given.quick else given.memory).split(",")]
    for kind in (IMAGES, TEXTS) if RAY in given.only else ():
        with tempfile.TemporaryDirectory() as folder:
            rows += on_ray_of(kind, sizes[kind], n_rounds, Path(folder))
    columns = dict.fromkeys(column for row in rows for column in row)
    rows = [{column: row.get(column, "") for column in columns} for row in rows]
    write_result(Path(__file__), rows, note=f"{n_rounds} rounds, medians", suffix=given.suffix)
    print(markdown(rows))


if __name__ == "__main__":
    main()
