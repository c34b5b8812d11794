"""An extractor and items -> items a second and latencies, under callers who each ask again once they are answered."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import cycle
from queue import SimpleQueue
from statistics import median, quantiles
from typing import Any

from extractor.pipeline import Extractor

WARM_UP = 0.25  # share of the time that is not counted


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one round measured, or the medians of several.

    Parameters
    ----------
    items_per_s : float
    p50_ms, p99_ms : float
        From an item's submission to its outcome, its wait among the other callers' included.
    cpu_ms : float
        Processor time of this process an item.
    """

    items_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


def measure_speed(extractor: Extractor, items: Sequence[bytes], *, callers: int, seconds: float) -> Speed:
    """Keep `callers` requests of one item each in flight.

    Parameters
    ----------
    extractor : Extractor
        Without a cache.
    items : sequence of bytes
        No two the same, and more than `callers`: an item that is in flight twice is computed once.
    callers : int
    seconds : float
        How long; the first quarter warms up. A slow extractor has longer: each caller is answered a few times.

    Raises
    ------
    ExtractorError
        An item's own error.
    """
    finished: SimpleQueue[tuple[float, Future[Any]]] = SimpleQueue()
    supply = cycle(items)
    for _ in range(callers):
        _ask(extractor, next(supply), finished.put)
    _answer(extractor, supply, finished, callers, until=time.monotonic() + WARM_UP * seconds)
    begun, cpu = time.monotonic(), time.process_time()
    latencies = _answer(extractor, supply, finished, 2 * callers, until=begun + (1 - WARM_UP) * seconds)
    elapsed, cpu = time.monotonic() - begun, time.process_time() - cpu
    for _ in range(callers):  # what is still in flight
        finished.get()
    percentiles = quantiles(latencies, n=100, method="inclusive")
    return Speed(
        items_per_s=len(latencies) / elapsed,
        p50_ms=1000 * median(latencies),
        p99_ms=1000 * percentiles[98],
        cpu_ms=1000 * cpu / len(latencies),
    )


def medians(rounds: Sequence[Speed]) -> Speed:
    """Return the median of each number: a round that a neighbour disturbed does not count."""
    names = ("items_per_s", "p50_ms", "p99_ms", "cpu_ms")
    return Speed(**{name: median(getattr(one, name) for one in rounds) for name in names})


def _ask(extractor: Extractor, item: bytes, finish: Callable[[tuple[float, Future[Any]]], None]) -> None:
    begun = time.monotonic()
    request = extractor.submit([item])
    request.future.add_done_callback(lambda future: finish((time.monotonic() - begun, future)))


def _answer(
    extractor: Extractor,
    supply: "cycle[bytes]",
    finished: "SimpleQueue[tuple[float, Future[Any]]]",
    least: int,
    *,
    until: float,
) -> list[float]:
    """Ask again for each answer, until the time is over and there are `least` of them; return the latencies in s."""
    latencies: list[float] = []
    while time.monotonic() < until or len(latencies) < least:
        latency, future = finished.get()
        (outcome,) = future.result()
        if outcome.error is not None:
            raise outcome.error
        latencies.append(latency)
        _ask(extractor, next(supply), finished.put)
    return latencies
