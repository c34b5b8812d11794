"""An embedding function -> a process that runs it as its parent asks: in a loop for some seconds, or over some items.

Lines of JSON: at the start it writes the embeddings of the first items, for a check; then for each line on standard
input, `{"seconds": s}` or `{"start": i, "end": j}`, one with the items/s that it reached and the CPU milliseconds of an
item, those of its children too. In between it waits. Items are texts, or paths of photos.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

CALL = 256  # items a call of the loop: a library that sorts by length has something to sort
N_CHECKED = 32


def run(load: Callable[[Path, int, int], Callable[[list[str]], Any]]) -> None:
    """Read `--folder FOLDER --items FILE --workers N --batch-size N`, load, and do as asked.

    Parameters
    ----------
    load : callable
        The backbone folder, the number of threads, items a batch -> a function from items to embeddings (n, dim).
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--items", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    given = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    items = json.loads(given.items.read_text())
    embed = load(given.folder, given.workers, given.batch_size)
    _answer(answers, [[float(value) for value in row] for row in embed(items[:N_CHECKED])])
    calls = cycle([items[i : i + CALL] for i in range(0, len(items), CALL)])
    for line in sys.stdin:
        asked = json.loads(line)
        these = _until(time.perf_counter() + asked["seconds"], calls) if "seconds" in asked else [_some(items, asked)]
        _answer(answers, _measure(embed, these))


def _until(end: float, calls: Iterator[list[str]]) -> Iterator[list[str]]:
    while time.perf_counter() < end:
        yield next(calls)


def _some(items: list[str], asked: dict[str, int]) -> list[str]:
    return items[asked["start"] : asked["end"]]


def _measure(embed: Callable[[list[str]], Any], calls: Iterable[list[str]]) -> dict[str, float]:
    begun, cpu = time.perf_counter(), _cpu_s()
    n = sum(len(embed(call)) for call in calls)
    elapsed, cpu = time.perf_counter() - begun, _cpu_s() - cpu
    return {"items_per_s": n / elapsed, "server_cpu_ms": 1000 * cpu / n}


def _cpu_s() -> float:
    """Return the processor time of this process, and of its children that have ended."""
    of_children = os.times()
    return time.process_time() + of_children.children_user + of_children.children_system


def _answer(file: Any, value: Any) -> None:
    file.write(json.dumps(value) + "\n")
    file.flush()
