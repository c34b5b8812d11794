"""An embedding function -> a process that runs it in a loop, for as long as its parent asks.

Lines of JSON: at the start it writes the embeddings of the first texts, for a check; then for each `{"seconds": s}` on
standard input one line with the items/s that it reached and the CPU milliseconds of an item. In between it waits.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

CALL = 256  # texts a call: a library that sorts by length has something to sort
N_CHECKED = 32


def run(load: Callable[[Path, int], Callable[[list[str]], Any]]) -> None:
    """Read `--folder FOLDER --texts FILE --workers N`, load, and loop.

    Parameters
    ----------
    load : callable
        The backbone folder and the number of threads -> a function from texts to embeddings (n, dim).
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    given = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    texts = json.loads(given.texts.read_text())
    embed = load(given.folder, given.workers)
    _answer(answers, [[float(value) for value in row] for row in embed(texts[:N_CHECKED])])
    calls = cycle([texts[i : i + CALL] for i in range(0, len(texts), CALL)])
    for line in sys.stdin:
        _answer(answers, _measure(embed, calls, json.loads(line)["seconds"]))


def _measure(embed: Callable[[list[str]], Any], calls: Iterator[list[str]], seconds: float) -> dict[str, float]:
    begun, cpu, n = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < begun + seconds:
        n += len(embed(next(calls)))
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"items_per_s": n / elapsed, "server_cpu_ms": 1000 * cpu / n}


def _answer(file: Any, value: Any) -> None:
    file.write(json.dumps(value) + "\n")
    file.flush()
