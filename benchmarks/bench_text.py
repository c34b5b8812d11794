"""What does batching by length bring? MiniLM, an 80/20 mix of texts of 16 and of 128 tokens, through the service.

In one interleaved run: the service with its cache off; a plain first-come batcher (16 texts in the order of arrival,
padded to the longest, a thread a core, no server); and the in-process loops of sentence-transformers and fastembed on
the same ONNX file, each as well tuned as we can. The mix holds four short texts for each long one.
Run: python benchmarks/bench_text.py [--quick] [--only service,first-come]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import loops
import numpy as np
import padding
import processes
import servers
from arena import Arena, Shape, arena
from backbone import ensure
from choice import some_of
from environment import ENVIRONMENTS
from load import Load
from record import markdown, write_result
from servers import NotStarted, Server
from texts import texts

from extractor.backbone import Backbone
from extractor.plan import Plan, cores
from extractor.prepare import load_prepare
from extractor.shelf import find_backbone
from extractor.spec import TOKENIZER_FILE, read_spec

BACKBONE = "minilm-l6"
BATCH_SIZE = 16
SERVICE, FIRST_COME = "service", "first-come"
SHAPES = (Shape(32, 1), Shape(8, 32))


class Contender(Protocol):
    """Whatever can have a turn."""

    name: str

    def measure(self, seconds: float) -> Load:
        """Embed for some seconds."""


class FirstCome:
    """The plain batcher: a thread a core, each taking the next 16 texts as they came, in a session like the service's.

    Parameters
    ----------
    items : list of bytes
    """

    name = FIRST_COME

    def __init__(self, items: list[bytes]) -> None:
        folder = find_backbone(BACKBONE)
        spec = read_spec(folder)
        self._prepare, self._backbone = load_prepare(spec, folder), Backbone.load(folder, spec, Plan())
        self._items, self._lock = cycle(items), Lock()
        self.tokens = padding.Tokens(0, 0)

    def embed(self, item: bytes) -> np.ndarray:
        """Return one embedding (dim,)."""
        return self._backbone.forward([self._prepare(item).array])[0]

    def measure(self, seconds: float) -> Load:
        """Embed for some seconds."""
        cpu, begun = time.process_time(), time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            n = sum(pool.map(lambda _: self._work(begun + seconds), range(cores())))
        elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
        return Load(items_per_s=n / elapsed, server_cpu_ms=1000 * cpu / n)

    def _work(self, until: float) -> int:
        n = 0
        while time.perf_counter() < until:
            with self._lock:
                batch = [next(self._items) for _ in range(BATCH_SIZE)]
            arrays = [self._prepare(item).array for item in batch]
            self._count([len(array) for array in arrays])
            n += len(self._backbone.forward(arrays))
        return n

    def _count(self, lengths: list[int]) -> None:
        real, computed = sum(lengths), max(lengths) * len(lengths)
        with self._lock:
            self.tokens = padding.Tokens(self.tokens.real + real, self.tokens.padding + computed - real)


class Service:
    """The service in one shape."""

    def __init__(self, found: Arena, server: Server, shape: Shape) -> None:
        self.name = f"{SERVICE}, {shape}"
        self._found, self._server, self._shape = found, server, shape

    def measure(self, seconds: float) -> Load:
        """Let the load client ask."""
        return self._found.measure(self._server, self._shape, seconds)


def contenders(
    stack: ExitStack, found: Arena, first_come: FirstCome, only: set[str], metrics_port: int, environments: Path
) -> Iterator[Contender]:
    """Start what is compared."""
    if FIRST_COME in only:
        yield first_come
    if SERVICE in only:
        options = ["--metrics-port", str(metrics_port)] if metrics_port else []
        found.enter(stack, SERVICE, servers.service(BACKBONE, *options))
        yield from (Service(found, found.servers[0], shape) for shape in SHAPES)
    all_texts = [item.decode() for item in found.items]
    for name in [name for name in loops.LOOPS if name in only]:
        starting = loops.loop(name, find_backbone(BACKBONE), all_texts, workers=cores(), environments=environments)
        try:
            running = stack.enter_context(starting)
        except NotStarted as error:
            found.absent[name] = str(error)
            continue
        found.check(name, running.X, 0)
        yield running


def rows_of(turns: dict[str, list[Load]], waste: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row a contender, with medians over the rounds; the service's speed over each one's, round by round."""
    return [_row(name, turns, waste.get(name.partition(",")[0])) for name in turns]


def _row(name: str, turns: dict[str, list[Load]], waste: float | None) -> dict[str, Any]:
    def median(what: str) -> float:
        return statistics.median(getattr(turn, what) for turn in turns[name])

    def times(other: str) -> float | str:
        if other not in turns:
            return ""
        ratios = [one.items_per_s / two.items_per_s for one, two in zip(turns[other], turns[name], strict=True)]
        return round(statistics.median(ratios), 2)

    return {
        "what": name,
        "items/s": round(median("items_per_s"), 1),
        **{f"service {shape} ÷ it": times(f"{SERVICE}, {shape}") for shape in SHAPES},
        "CPU ms": round(median("server_cpu_ms"), 2),
        "p50 ms": round(median("p50_ms"), 1) or "",
        "p99 ms": round(median("p99_ms"), 1) or "",
        "MB": round(median("memory_mb")) or "",
        "padding": "not measured" if waste is None else f"{waste:.1%}",
    }


def main() -> None:
    """Measure in rounds, every contender once a round, and write medians."""
    everything = [FIRST_COME, SERVICE, *loops.LOOPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--quick", action="store_true", help="one round of 6 s")
    parser.add_argument(
        "--only", type=some_of(everything), default=",".join(everything), help=f"some of {', '.join(everything)}"
    )
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="where the libraries' environments are kept")
    given = parser.parse_args()
    rounds, seconds = (1, 6.0) if given.quick else (given.rounds, given.seconds)
    ensure(BACKBONE)
    items = [text.encode() for text in texts(find_backbone(BACKBONE) / TOKENIZER_FILE)]
    first_come = FirstCome(items)
    port = servers.free_port() if padding.has_metrics() else 0
    with arena(items, first_come.embed) as (found, stack):
        running = list(contenders(stack, found, first_come, given.only, port, given.envs))
        if not running:
            sys.exit(f"nothing to compare: {found.absent}")
        turns: dict[str, list[Load]] = {one.name: [] for one in running}
        for _ in range(rounds):
            for one in running:
                turns[one.name].append(one.measure(seconds))
        waste = {FIRST_COME: first_come.tokens.waste} if first_come.tokens.real else {}
        if port and found.servers:
            processes.release(found.servers[0].pid)
            waste[SERVICE] = padding.read(port).waste
    rows = rows_of(turns, waste)
    missing = "".join(f"; {name} did not start: {why}" for name, why in found.absent.items())
    note = f"{len(items)} texts, 80 % of 16 tokens and 20 % of 128; {rounds} rounds of {seconds:g} s, medians"
    write_result(Path(__file__), rows, note=note + missing)
    print(markdown(rows))


if __name__ == "__main__":
    main()
