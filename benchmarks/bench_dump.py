"""What does a dump cost beside what it computes? Photos → EfficientNet-Lite0, texts → MiniLM, in one process.

In rounds, each contender once a round: the limit (read, decode and session in a thread a core, by the dump's own plan;
texts sorted by length, so that batches are full and hardly padded; nothing is kept), the dump with an empty cache,
which it fills, the dump of what that cache has, the dump without a cache, and peers. A round has all photos, or its own
part of the texts, which only the dump with a cache takes whole: others are steady, or slow, and take its first.
A share is items per CPU-second over the limit's of the same round; the limit has the first turn and the last by turns.
Texts carry on: four of 16 tokens for each of 128. Then the memory of dumps of generated texts through a backbone that
costs nothing, each in a process of its own. Then a dump on a Ray that is started for it on this machine, after a local
one in each round, by the CPU of all of Ray's processes; to begin is a dump of one item.
Run: python benchmarks/bench_dump.py [--quick] [--only photos,texts,memory,ray] [--photos N] [--texts N] [--peers none]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import loops
import numpy as np
import pyarrow.parquet as pq
from arena import SAME
from backbone import ensure
from choice import some_of
from environment import ENVIRONMENTS
from labelled_sets import DEFAULT
from photos import photos
from processes import cpu_by_process
from record import keep_result, markdown, write_result
from servers import NotStarted
from texts import texts

from extractor import Extractor
from extractor.backbone import Backbone
from extractor.cache.behind import WriteBehind
from extractor.cache.disk import DiskStore
from extractor.dump import dump
from extractor.dump.on_ray import RayVerb
from extractor.plan import Plan
from extractor.prepare import load_prepare
from extractor.shelf import find_backbone
from extractor.spec import TOKENIZER_FILE, read_spec

IMAGES, TEXTS, MEMORY, RAY = "photos", "texts", "memory", "ray"
BACKBONES = {IMAGES: "efficientnet-lite0", TEXTS: "minilm-l6"}
CLOTHING = DEFAULT / "clothing" / "train"  # else generated photos
PREPARED_AT_ONCE = 64  # texts of the limit
DUMP, NO_CACHE, CACHED, LIMIT = "dump", "dump, cache off", "dump, all cached", "limit"
PEERS = {IMAGES: loops.PHOTO_LOOPS, TEXTS: loops.LOOPS}
# Of a round's part, at most; photos are all taken by all.
FIRST_TEXTS = {LIMIT: 6144, NO_CACHE: 6144, "sentence_transformers": 4096, "fastembed": 1024}
PEER_PHOTO_BATCH = 8  # clip-retrieval is slower with 1 and with 32; texts have the plan's, as everybody
GOALS = {IMAGES: 0.95, TEXTS: 0.90}
CACHED_GOAL = 10
WARM_SHARE = 16  # of a part is done once before all
CACHE_BYTES = 4 << 30
FLUSH_S = 120
MEMORY_MB = 1500
RAY_ITEMS = {IMAGES: 3000, TEXTS: 8192}  # at most, once
SAMPLED_S = 0.2  # how often Ray's processes are looked at, whose time is gone when they end


@dataclass(frozen=True)
class Turn:
    """What one contender did: seconds of its wall clock and of its process's CPU, over so many items."""

    wall_s: float
    cpu_s: float
    n_items: int

    @property
    def per_s(self) -> float:
        """Items a second."""
        return self.n_items / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """Items a CPU-second."""
        return self.n_items / self.cpu_s


def timed(work: Callable[[], object], n_items: int) -> Turn:
    """Give one its turn."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Turn(time.perf_counter() - wall, time.process_time() - cpu, n_items)


class Limit:
    """Read, prepare and compute in a thread a worker of the plan; the best loop that there is for one's own items.

    An image is read, decoded and computed by one thread. Texts are all prepared, sorted by length, and then computed,
    the longest first, by whichever thread is free: batches are full, one in all is padded, and no core waits.
    """

    def __init__(self, name: str, plan: Plan) -> None:
        folder = find_backbone(name)
        self._spec, self._plan = read_spec(folder), plan
        self._prepare, self._backbone = load_prepare(self._spec, folder), Backbone.load(folder, self._spec, plan)

    def run(self, items: Sequence[Path | str]) -> None:
        """Compute all, and keep nothing."""
        size = self._plan.max_batch_size
        with ThreadPoolExecutor(self._plan.workers) as pool:
            if self._spec.modality == "text":
                prepared = chain.from_iterable(pool.map(self._prepared, batches(items, PREPARED_AT_ONCE)))
                done = pool.map(self._backbone.forward, batches(sorted(prepared, key=len, reverse=True), size))
            else:
                done = pool.map(lambda batch: self._backbone.forward(self._prepared(batch)), batches(items, size))
            deque(done, maxlen=0)

    def _prepared(self, items: list[Path | str]) -> list[np.ndarray]:
        return [self._prepare(_bytes(item)).array for item in items]


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield items, so many at a time."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def _bytes(item: Path | str) -> bytes:
    return item.read_bytes() if isinstance(item, Path) else item.encode()


@dataclass(frozen=True)
class Part:
    """What a round is about: a source, its items, and how many items come before them."""

    source: Path
    items: list[Path | str]
    start: int = 0

    def first(self, n: int | None) -> "Part":
        """Return its first items, as a source of their own; all without a number."""
        if n is None or n >= len(self.items):
            return self
        some = self.items[:n]
        return Part(source_of(some, self.source.with_name(f"{n}-{self.source.name}")), some, self.start)


Contender = Callable[[Part], Turn]


def parts_of(kind: str, n_items: int, n_parts: int, folder: Path) -> list[Part]:
    """Return a part for each round: all photos again, or texts that no other has."""
    if kind == IMAGES:
        items: list[Path | str] = [*photos_of(n_items, folder)]
        return [Part(source_of(items, folder / IMAGES), items)] * n_parts
    made: list[Path | str] = [*texts(find_backbone(BACKBONES[kind]) / TOKENIZER_FILE, n_items)]
    bounds = pairwise(i * n_items // n_parts for i in range(n_parts + 1))
    return [Part(source_of(made[a:b], folder / f"texts-{a}.jsonl"), made[a:b], a) for a, b in bounds]


def photos_of(n_items: int, folder: Path) -> list[Path]:
    """Return photos of clothing as far as there are, then generated ones."""
    real = sorted(CLOTHING.rglob("*.jpg"))[:n_items] if CLOTHING.is_dir() else []
    made = [folder / f"made-{i:06}.jpg" for i in range(n_items - len(real))]
    for path, photo in zip(made, photos(len(made)) if made else (), strict=True):
        path.write_bytes(photo)
    return real + made


def source_of(items: Sequence[Path | str], place: Path) -> Path:
    """Make a table of texts, or a folder of photos whose names are in their order."""
    if isinstance(items[0], str):
        place.write_text("".join(json.dumps({"text": text}) + "\n" for text in items))
        return place
    place.mkdir()
    for i, path in enumerate(items):
        (place / f"{i:06}.jpg").symlink_to(path)
    return place


def contest(
    kind: str, parts: list[Part], folder: Path, *, peers: Sequence[str], environments: Path
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """Give every contender its turn in every round; return the turns, and why others could not take part."""
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        plain = stack.enter_context(Extractor.load(BACKBONES[kind], cache="off", provider="cpu"))
        contenders = ours(stack, kind, parts[0], plain, folder)
        for peer in peers:
            try:
                contenders[peer] = theirs(stack, peer, kind, parts, plain, environments)
            except NotStarted as error:
                absent[peer] = str(error)
        turns: dict[str, list[Turn]] = {what: [] for what in contenders}
        for i, part in enumerate(parts):
            order = list(contenders)
            for what in (*order[i % 2 :], *order[: i % 2]):  # the limit is the first, or the last
                try:
                    turn = contenders[what](part.first(FIRST_TEXTS.get(what) if kind == TEXTS else None))
                except NotStarted as error:  # a peer that has ended since
                    absent[what] = str(error)
                    del contenders[what], turns[what]
                else:
                    turns[what].append(turn)
    return turns, absent


def ours(stack: ExitStack, kind: str, part: Part, plain: Extractor, folder: Path) -> dict[str, Contender]:
    """Return the limit and the dumps, all warm; a dump ends with the last byte that its cache has to write."""
    limit = Limit(BACKBONES[kind], plain.backbone.plan)
    disk = DiskStore.open(folder / "cache", max_bytes=CACHE_BYTES)
    cache = WriteBehind(disk).start()
    stack.callback(cache.close)
    caching = stack.enter_context(Extractor.load(BACKBONES[kind], cache=cache, provider="cpu"))

    def dumped(part: Part, extractor: Extractor) -> Turn:
        def work() -> None:
            dump(part.source, out, extractor)
            assert cache.flush(FLUSH_S)

        with tempfile.TemporaryDirectory(dir=folder) as out:
            turn = timed(work, len(part.items))
            check(Path(out), len(part.items))
        return turn

    def from_nothing(part: Part) -> Turn:
        disk.purge()
        return dumped(part, caching)

    few = part.first(max(1, len(part.items) // WARM_SHARE))
    limit.run(few.items)
    dumped(few, plain)
    dumped(few, caching)
    return {
        LIMIT: lambda part: timed(lambda: limit.run(part.items), len(part.items)),
        DUMP: from_nothing,
        CACHED: lambda part: dumped(part, caching),
        NO_CACHE: lambda part: dumped(part, plain),
    }


def theirs(
    stack: ExitStack, peer: str, kind: str, parts: list[Part], plain: Extractor, environments: Path
) -> Contender:
    """Start a peer; raises NotStarted where it does not, or embeds something else."""
    items = list(dict.fromkeys(str(item) for part in parts for item in part.items))
    plan = plain.backbone.plan
    size = PEER_PHOTO_BATCH if kind == IMAGES else plan.max_batch_size
    folder = find_backbone(BACKBONES[kind])
    starting = loops.loop(peer, folder, items, workers=plan.workers, batch_size=size, environments=environments)
    loop = stack.enter_context(starting)
    difference = np.abs(loop.X - plain.extract(parts[0].items[: len(loop.X)])).max()
    if difference > SAME:
        raise NotStarted(f"its embeddings differ by up to {difference:.2g}")

    def turn(part: Part) -> Turn:
        n_items = len(part.items)
        load = loop.embed(part.start, part.start + n_items)
        return Turn(n_items / load.items_per_s, n_items * load.server_cpu_ms / 1000, n_items)

    return turn


def check(out: Path, n_items: int) -> None:
    """Make sure that a dump is whole."""
    table = pq.read_table(sorted(out.glob("part-*.parquet")), columns=["embedding"])
    assert table.num_rows == n_items and not table.column(0).null_count


def rows_of(kind: str, turns: dict[str, list[Turn]], absent: dict[str, str]) -> list[dict[str, Any]]:
    """Return a row a contender: medians over the rounds, shares round by round."""
    rows = [_row(kind, what, turns) for what in turns]
    return rows + [{"what": f"{kind}: {peer}", "goal": f"not here: {why}"} for peer, why in absent.items()]


def _row(kind: str, what: str, turns: dict[str, list[Turn]]) -> dict[str, Any]:
    found = turns[what]
    share = statistics.median(a.per_cpu_s / b.per_cpu_s for a, b in zip(found, turns[LIMIT], strict=True))
    faster = statistics.median(a.per_s / b.per_s for a, b in zip(found, turns[DUMP], strict=True))
    return {
        "what": f"{kind}: {what}",
        "items": sum(turn.n_items for turn in found),
        "items/s": round(statistics.median(turn.per_s for turn in found), 1),
        "items/CPU-s": round(statistics.median(turn.per_cpu_s for turn in found), 1),
        "share of limit": round(share, 3),
        "× dump, by the clock": round(faster, 2),
        **_verdict(kind, what, share, faster),
    }


def _verdict(kind: str, what: str, share: float, faster: float) -> dict[str, str]:
    if what in (DUMP, NO_CACHE):
        return {"goal": f"share ≥ {GOALS[kind]}", "met": said(share >= GOALS[kind])}
    if what == CACHED:
        return {"goal": f"≥ {CACHED_GOAL} × dump", "met": said(faster >= CACHED_GOAL)}
    return {}


def said(met: bool) -> str:
    """Return it as a table says it."""
    return "yes" if met else "no"


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
    met = {"goal": f"≤ {MEMORY_MB:,} MB", "met": said(peak <= MEMORY_MB)}
    return {**row, "peak MB": round(peak), "shards": round(n_shards), **met}


def on_ray_of(kind: str, n_items: int, n_rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Return rows of a local dump and of one on Ray, which has the same work on the same machine."""
    name = ensure(BACKBONES[kind])
    (part,) = parts_of(kind, n_items, 1, folder)
    (folder / "one").mkdir()
    (one,) = parts_of(kind, 1, 1, folder / "one")
    here, there, empty = [], [], []
    for i in range(n_rounds):
        with Extractor.load(name, cache="off", provider="cpu") as plain:
            here.append(timed(partial(dump, part.source, folder / f"here-{i}", plain), n_items))
        with RayVerb(name, cache="off") as verb:
            empty.append(timed_with_children(partial(dump, one.source, folder / f"one-{i}", verb), 1))
            there.append(timed_with_children(partial(dump, part.source, folder / f"ray-{i}", verb), n_items))
        check(folder / f"ray-{i}", n_items)
    turns = list(zip(here, there, empty, strict=True))
    local, ray = ({"what": f"{RAY}: {kind}, {where}", "items": n_items} for where in ("here", "on Ray"))
    for row, took in ((local, here), (ray, there)):
        row["items/s"] = round(statistics.median(turn.per_s for turn in took), 1)
        row["items/CPU-s"] = round(statistics.median(turn.per_cpu_s for turn in took), 1)
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
    everything, peers = [IMAGES, TEXTS, MEMORY, RAY], [*loops.PHOTO_LOOPS, *loops.LOOPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=some_of(everything), default=set(everything), help=f"some of {everything}")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--texts", type=int, default=100_000, help="of all rounds together")
    parser.add_argument("--memory", default="1000,100000,1000000", help="items of the dumps whose memory is measured")
    parser.add_argument("--rounds", type=int, default=3, help="of photos and texts; Ray has one")
    parser.add_argument("--peers", type=some_of([*peers, "none"]), default=set(peers), help=f"none, or some of {peers}")
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="where the peers' environments are kept")
    parser.add_argument("--quick", action="store_true", help="300 photos, 3,000 texts, memory to 100,000, one round")
    parser.add_argument("--suffix", default="", help="of the result's file")
    given = parser.parse_args()
    sizes = {IMAGES: 300, TEXTS: 3000} if given.quick else {IMAGES: given.photos, TEXTS: given.texts}
    n_rounds = 1 if given.quick else given.rounds
    note = f"{n_rounds} rounds, medians; memory and Ray once"
    rows: list[dict[str, Any]] = []
    for more in measured(given, sizes, n_rounds):
        rows = even([*rows, *more])
        keep_result(Path(__file__), rows, note=note, suffix=given.suffix)  # what comes next may fail
    write_result(Path(__file__), rows, note=note, suffix=given.suffix)
    print(markdown(rows))


def measured(given: argparse.Namespace, sizes: dict[str, int], n_rounds: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of what was asked for, one question after the other."""
    for kind in (kind for kind in (IMAGES, TEXTS) if kind in given.only):
        ensure(BACKBONES[kind])
        with tempfile.TemporaryDirectory() as folder:
            parts = parts_of(kind, sizes[kind], n_rounds, Path(folder))
            these = [peer for peer in PEERS[kind] if peer in given.peers]
            yield rows_of(kind, *contest(kind, parts, Path(folder), peers=these, environments=given.envs))
    if MEMORY in given.only:
        yield [memory_of(int(n)) for n in ("1000,100000" if given.quick else given.memory).split(",")]
    for kind in (IMAGES, TEXTS) if RAY in given.only else ():
        with tempfile.TemporaryDirectory() as folder:
            yield on_ray_of(kind, min(sizes[kind], RAY_ITEMS[kind]), 1, Path(folder))


def even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that all have the same columns."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


if __name__ == "__main__":
    main()
