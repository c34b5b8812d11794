"""What a look-up and a write cost in each tier of the cache, and in SQLite.

The tiers stand side by side, filled alike, and take turns at every question: one key or 64 at a time, 1 or 64 threads,
values of 1, 5 and 16 KB, 10^4 to 10^6 rows. SQLite (WAL, rowid) stands behind the same writer and stores the same rows.
Run: python benchmarks/bench_cache.py [--quick] [--large] [--only memory,disk]
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from record import markdown, write_result
from tiers import tiers

from extractor.outcome import Embedded

TIERS = ("memory", "disk", "sqlite", "shared")
SHAPES = ((1, 1), (1, 64), (64, 1), (64, 64))  # threads, keys at a time
FILL = 1024
N_PUTS = 4096  # a turn; what waits must fit the writer's queue
N_VALUES = 64  # different embeddings that rows share, so that filling takes no time


@dataclass(frozen=True)
class Case:
    """How large a store is.

    Parameters
    ----------
    n_rows : int
    n_floats : int
        A value.
    """

    n_rows: int
    n_floats: int

    def __str__(self) -> str:
        return f"10^{len(str(self.n_rows)) - 1} × {4 * self.n_floats / 1024:g} KB"


QUICK = (Case(10_000, 256), Case(10_000, 1280), Case(10_000, 4096))
CASES = (*QUICK, Case(100_000, 1280), Case(1_000_000, 256))
LARGE = (Case(10_000_000, 16),)


@dataclass(frozen=True)
class Cost:
    """Of one item, in µs: processor time of this process, and time that passed for all threads together."""

    cpu: float
    wall: float


class Bench:
    """Tiers that are filled alike.

    Parameters
    ----------
    case : Case
    found : dict of str to cache
    """

    def __init__(self, case: Case, found: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        self.found = found
        self.n_rows = case.n_rows
        self.n_put = Counter[str]()  # rows beyond those, by tier
        self.salt = os.urandom(40)
        self.values = [Embedded(row) for row in rng.normal(size=(N_VALUES, case.n_floats)).astype(np.float32)]

    def fill(self) -> None:
        """Put every row into every tier."""
        for name, tier in self.found.items():
            for numbers in cut(range(self.n_rows), FILL):
                tier.put_many([(self.key(number), self.value(number)) for number in numbers])
                flush(tier)
            print(f"{name} is filled", file=sys.stderr)

    def key(self, number: int) -> bytes:
        """Return the key (48,) of a row; the order of the keys is not that of the numbers."""
        return (number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big") + self.salt

    def value(self, number: int) -> Embedded:
        """Return what stands under it."""
        return self.values[number % N_VALUES]

    def gets(self, name: str, threads: int, n_keys: int, seconds: float) -> Cost:
        """Look up rows at random, in some threads, for some time."""
        tier, done = self.found[name], [0] * threads
        asked = [self._asked(worker, n_keys) for worker in range(threads)]
        until = [0.0]

        def work(worker: int) -> None:
            i = 0
            while time.perf_counter() < until[0]:
                numbers, keys = asked[worker][i % len(asked[worker])]
                found = tier.get_many(keys)
                if i == 0:
                    assert all(
                        np.array_equal(f.embedding, self.value(n).embedding)
                        for n, f in zip(numbers, found, strict=True)
                    )
                assert None not in found
                i += 1
            done[worker] = i * n_keys

        until[0] = time.perf_counter() + seconds
        return timed(threads, work, lambda: sum(done))

    def puts(self, name: str, threads: int, n_keys: int) -> Cost:
        """Store new rows, in some threads, and wait until all of them are stored."""
        tier = self.found[name]
        each = max(n_keys, N_PUTS // threads // n_keys * n_keys)
        first = self.n_rows + self.n_put[name]
        self.n_put[name] += each * threads

        def work(worker: int) -> None:
            for some in cut(range(first + worker * each, first + (worker + 1) * each), n_keys):
                tier.put_many([(self.key(number), self.value(number)) for number in some])

        return timed(threads, work, lambda: each * threads, lambda: flush(tier))

    def _asked(self, worker: int, n_keys: int) -> list[tuple[list[int], list[bytes]]]:
        """Return enough look-ups that no cache of the processor has them all."""
        rng = np.random.default_rng(worker)
        numbers = rng.integers(0, self.n_rows, (max(4, 4096 // n_keys), n_keys)).tolist()
        return [(some, [self.key(number) for number in some]) for some in numbers]


def timed(threads: int, work: Any, n_items: Any, then: Any = lambda: None) -> Cost:
    """Run threads to their end, and something after them; return the cost of an item."""
    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(threads)]
    cpu, begun = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    then()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
    return Cost(1e6 * cpu / n_items(), 1e6 * wall / n_items())


def flush(tier: Any) -> None:
    """Wait until what was put is stored; all of it was."""
    if hasattr(tier, "flush"):
        assert tier.flush(60)
    (facts,) = tier.facts()
    assert not facts.dropped, facts.dropped


def cut(numbers: range, size: int) -> list[range]:
    """Cut a range into pieces."""
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def measure(case: Case, only: set[str], rounds: int, seconds: float) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Fill the tiers and let them take turns."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, tiers(Path(folder), only) as (found, absent):
        bench = Bench(case, found)
        bench.fill()
        for threads, n_keys in SHAPES:
            gets: dict[str, list[Cost]] = {name: [] for name in found}
            puts: dict[str, list[Cost]] = {name: [] for name in found}
            for _ in range(rounds):
                for name in found:
                    gets[name].append(bench.gets(name, threads, n_keys, seconds))
                    puts[name].append(bench.puts(name, threads, n_keys))
            rows += [_row(case, name, threads, n_keys, gets[name], puts[name]) for name in found]
    return rows, absent


def _row(case: Case, name: str, threads: int, n_keys: int, gets: list[Cost], puts: list[Cost]) -> dict[str, Any]:
    def median(costs: list[Cost], what: str) -> float:
        return round(statistics.median(getattr(cost, what) for cost in costs), 2)

    return {
        "rows": str(case),
        "threads × keys": f"{threads} × {n_keys}",
        "tier": name,
        "get CPU µs": median(gets, "cpu"),
        "get µs": median(gets, "wall"),
        "put CPU µs": median(puts, "cpu"),
        "put µs": median(puts, "wall"),
    }


def main() -> None:
    """Measure every case, and write medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a tier's turn at look-ups")
    parser.add_argument("--quick", action="store_true", help="10^4 rows, rounds of 0.2 s")
    parser.add_argument("--large", action="store_true", help="10^7 rows of 64 bytes, and nothing else")
    parser.add_argument("--only", default=",".join(TIERS), help="some of %(default)s")
    given = parser.parse_args()
    cases = LARGE if given.large else QUICK if given.quick else CASES
    seconds = 0.2 if given.quick else given.seconds
    rows: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    for case in cases:
        found, absent = measure(case, set(given.only.split(",")), given.rounds, seconds)
        rows += found
        print(markdown(found))
    note = f"µs an item, medians of {given.rounds} rounds of {seconds:g} s in turns; a put counts until it is stored"
    missing = "".join(f"; {name} is absent: {why}" for name, why in absent.items())
    write_result(Path(__file__), rows, note=note + missing, suffix="_large" if given.large else "")


if __name__ == "__main__":
    main()
