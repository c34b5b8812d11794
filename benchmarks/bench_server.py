"""How much of what the processor can do reaches a caller, here and in other servers? JPEGs -> EfficientNet-Lite0.

The limit is decode + session in one process, a thread a core: no queue, no server, no client. Before each turn of a
server the limit has one; a share is a turn's items/s over the mean of the limit's turns before and after it. Servers
that wait for their turn are stopped (SIGSTOP), so that none spins beside another; the load comes from a process of its
own on the same cores. All caches are off, and no request is in flight twice at once.
Run: python benchmarks/bench_server.py [--quick] [--only limit,service] [--backbones NAME NAME@bf16]
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import servers
from arena import Arena, Broken, Shape, arena
from backbone import ensure
from choice import some_of
from environment import ENVIRONMENTS
from load import Load
from photos import photos
from record import markdown, write_result

from extractor.backbone import Backbone
from extractor.plan import Plan, cores
from extractor.prepare import load_prepare
from extractor.shelf import find_backbone
from extractor.spec import read_spec

BASE = "efficientnet-lite0"  # what the limit and the peers run, in fp32
LIMIT, SERVICE = "limit", "service"


SHAPES = (Shape(32, 1), Shape(8, 32), Shape(1, 1))


@dataclass(frozen=True)
class Turn:
    """One turn of one server: what the load client saw, and its share of the neighbouring limits."""

    load: Load
    share: float


class Limit:
    """Decode + session in this process: the most that the machine can do, and what is right.

    Parameters
    ----------
    items : list of bytes
    """

    def __init__(self, items: list[bytes]) -> None:
        folder = find_backbone(BASE)
        spec = read_spec(folder)
        self.items = items
        self._prepare, self._backbone = load_prepare(spec, folder), Backbone.load(folder, spec, Plan())

    def embed(self, item: bytes) -> np.ndarray:
        """Return one embedding (dim,)."""
        return self._backbone.forward([self._prepare(item).array])[0]

    def measure(self, seconds: float) -> Load:
        """Embed for some seconds, in a thread a core."""
        cpu, begun = time.process_time(), time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            works = pool.map(lambda i: self._work(i, begun + seconds), range(cores()))
            latencies = [latency for work in works for latency in work]
        elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
        n = len(latencies)
        p50, p99 = (1000 * np.percentile(latencies, (50, 99))).tolist()
        return Load(items_per_s=n / elapsed, server_cpu_ms=1000 * cpu / n, p50_ms=p50, p99_ms=p99)

    def _work(self, worker: int, until: float) -> list[float]:
        latencies = []
        for item in cycle(self.items[worker :: cores()]):
            begun = time.perf_counter()
            if begun >= until:
                break
            self.embed(item)
            latencies.append(time.perf_counter() - begun)
        return latencies


def start(found: Arena, stack: ExitStack, only: set[str], backbones: list[str], environments: Path) -> None:
    """Start everything that is compared, one after the other."""
    for backbone in backbones if SERVICE in only else ():
        name = SERVICE + backbone.removeprefix(BASE)
        found.enter(stack, name, servers.service(backbone, name=name))
    for name in [name for name in servers.PEERS if name in only]:
        peer = servers.peer(name, BASE, found.items[0], workers=cores(), environments=environments)
        found.enter(stack, name, peer)


def measure(found: Arena, limit: Limit, shape: Shape, rounds: int, seconds: float) -> dict[str, list[Turn]]:
    """Interleave: the limit before and after each server's turn."""
    turns: dict[str, list[Turn]] = {}
    before = limit.measure(seconds / 2)
    for _ in range(rounds):
        for server in list(found.servers):
            try:
                measured = found.measure(server, shape, seconds)
            except Broken as error:
                if server.name not in servers.PEERS:
                    raise
                found.servers.remove(server)  # what it did before stands
                found.absent[server.name] = str(error)
                continue
            after = limit.measure(seconds / 2)
            most = (before.items_per_s + after.items_per_s) / 2
            turns.setdefault(server.name, []).append(Turn(measured, measured.items_per_s / most))
            turns.setdefault(LIMIT, []).append(Turn(after, after.items_per_s / most))
            before = after
    return turns


def rows_of(shape: Shape, turns: dict[str, list[Turn]]) -> list[dict[str, Any]]:
    """Return a row a contender, with medians over the rounds."""
    names = sorted(turns, key=lambda name: name != LIMIT)
    rows = [_row(shape, name, turns[name]) for name in names]
    peers = {row["what"]: row["share"] for row in rows if row["what"] in servers.PEERS}
    for row in rows:
        row["of best peer"] = round(row["share"] / max(peers.values()), 2) if peers else ""
    return rows


def _row(shape: Shape, name: str, turns: list[Turn]) -> dict[str, Any]:
    def median(what: str) -> float:
        return statistics.median(getattr(turn.load, what) for turn in turns)

    return {
        "callers × items": str(shape),
        "what": name,
        "items/s": round(median("items_per_s"), 1),
        "share": 1.0 if name == LIMIT else round(statistics.median(turn.share for turn in turns), 3),
        "CPU ms": round(median("server_cpu_ms"), 2),
        "client CPU ms": round(median("client_cpu_ms"), 2) or "",
        "p50 ms": round(median("p50_ms"), 1),
        "p99 ms": round(median("p99_ms"), 1),
        "p99/p50": round(statistics.median(turn.load.p99_ms / turn.load.p50_ms for turn in turns), 2),
        "MB": round(median("memory_mb")) or "",
    }


def main() -> None:
    """Measure every shape in rounds, and write medians."""
    everything = [LIMIT, SERVICE, *servers.PEERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a server's turn")
    parser.add_argument("--quick", action="store_true", help="one round of 3 s, without the last shape")
    parser.add_argument(
        "--only", type=some_of(everything), default=",".join(everything), help=f"some of {', '.join(everything)}"
    )
    parser.add_argument(
        "--backbones", nargs="+", default=[BASE, f"{BASE}@bf16"], help="what a service each runs (default: %(default)s)"
    )
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="where the peers' environments are kept")
    given = parser.parse_args()
    if given.only == {LIMIT}:
        parser.error("--only names no server; the limit alone is no comparison")
    rounds, seconds, shapes = (1, 3.0, SHAPES[:2]) if given.quick else (given.rounds, given.seconds, SHAPES)
    ensure(BASE)
    for backbone in given.backbones:
        ensure(backbone)
    rows: list[dict[str, Any]] = []
    limit = Limit(photos())
    with arena(limit.items, limit.embed) as (found, stack):
        start(found, stack, given.only, given.backbones, given.envs)
        if not found.servers:
            sys.exit(f"nothing to compare: {found.absent}")
        for shape in shapes:
            rows += rows_of(shape, measure(found, limit, shape, rounds, seconds))
    note = f"{len(limit.items)} JPEGs of 500x375, {rounds} rounds of {seconds:g} s, medians"
    missing = "".join(f"; {name} did not start, or did not go on: {why}" for name, why in found.absent.items())
    write_result(Path(__file__), rows, note=note + missing)
    print(markdown(rows))


if __name__ == "__main__":
    main()
