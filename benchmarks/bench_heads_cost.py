"""What does `train(head="auto")` cost beside the obvious scikit-learn script, and how good is it? On two data sets.

The script is `LogisticRegressionCV()` with its defaults on the same embeddings; a second one has a single BLAS thread,
which is faster where cores are shared. Contenders take turns in rounds; seconds are medians.
Run: python benchmarks/bench_heads_cost.py [--rounds N] [--embeddings FOLDER] [--only banking77,clothing].
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from backbone import ensure
from record import write_result
from sklearn.linear_model import LogisticRegressionCV
from threadpoolctl import threadpool_limits

from classifiers.train import train
from extractor import Extractor

SHARED = Path(__file__).parents[2] / "shared" / "data"
CLOTHING_ROWS = 10_000
NOISE = 0.05  # of the standard deviation of all values, in the rows that are made up
WITHIN = 0.003  # of the script's accuracy

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # X, y, X_test, y_test


def banking(data: Path) -> dict[str, np.ndarray]:
    """Embed Banking77 by MiniLM."""
    found = {}
    with Extractor.load(ensure("minilm-l6")) as extractor:
        for part in ("train", "test"):
            with (data / "banking77" / f"{part}.csv").open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            found[f"X_{part}"] = extractor.extract([row["text"] for row in rows])
            found[f"y_{part}"] = np.array([row["category"] for row in rows])
    return found


def clothing(data: Path) -> dict[str, np.ndarray]:
    """Embed the photos of clothes by EfficientNet-Lite0."""
    found = {}
    with Extractor.load(ensure("efficientnet-lite0")) as extractor:
        for part in ("train", "test"):
            paths = sorted((data / "clothing" / part).glob("*/*.jpg"))
            found[f"X_{part}"] = extractor.extract(paths)
            found[f"y_{part}"] = np.array([path.parent.name for path in paths])
    return found


def kept(path: Path, make: Callable[[Path], dict[str, np.ndarray]], data: Path) -> Data:
    """Return embeddings from a file, which is made where it is missing."""
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
        np.savez(temporary, **make(data))
        temporary.replace(path)
    with np.load(path) as found:
        return found["X_train"], found["y_train"], found["X_test"], found["y_test"]


def upsampled(given: Data) -> Data:
    """Return 10,000 training rows: all that there are, and copies with noise."""
    X, y, X_test, y_test = given
    random = np.random.default_rng(0)
    rows = np.concatenate([np.arange(len(X)), random.integers(len(X), size=CLOTHING_ROWS - len(X))])
    noise = random.normal(scale=NOISE * X.std(), size=(CLOTHING_ROWS, X.shape[1]))
    noise[: len(X)] = 0
    return (X[rows] + noise).astype(np.float32), y[rows], X_test, y_test


def auto(data: Data) -> tuple[Any, str]:
    """Train by our own search."""
    done = train(data[0], data[1], head="auto")
    return done.head, f"{done.chosen.head} {dict(done.chosen.params)}"


def script(data: Data, *, threads: int | None = None) -> tuple[Any, str]:
    """Train as anyone would."""
    with warnings.catch_warnings(), threadpool_limits(threads) if threads else nullcontext():
        warnings.simplefilter("ignore")  # its 100 iterations do not suffice, and its defaults are to change
        model = LogisticRegressionCV().fit(data[0], data[1])
    return model, f"C {np.max(model.C_):.3g}"


CONTENDERS: dict[str, Callable[[Data], tuple[Any, str]]] = {
    "auto": auto,
    "script": script,
    "script, 1 BLAS thread": lambda data: script(data, threads=1),
}


def measured(contender: Callable[[Data], tuple[Any, str]], data: Data) -> dict[str, Any]:
    """Return what one training took, and how well it did on the test rows."""
    wall, cpu = time.perf_counter(), time.process_time()
    model, chosen = contender(data)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "accuracy": float((model.predict(data[2]) == data[3]).mean()), "chosen": chosen}


def main() -> None:
    """Take turns, and write one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--embeddings", type=Path, default=Path(tempfile.gettempdir()), help="where they are kept")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="banking77,clothing")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no {options.data}: name the folder of banking77/ and clothing/ with --data")
        return
    sets = {
        "banking77": lambda: kept(options.embeddings / "banking_minilm.npz", banking, options.data),
        "clothing": lambda: upsampled(kept(options.embeddings / "clothing_lite0.npz", clothing, options.data)),
    }
    rows = []
    for name in options.only.split(","):
        data = sets[name]()
        found: dict[str, list[dict[str, Any]]] = {contender: [] for contender in CONTENDERS}
        for _ in range(options.rounds):
            for contender, run in CONTENDERS.items():
                found[contender].append(measured(run, data))
                print(name, contender, found[contender][-1], flush=True)
        rows += [row(name, data, contender, found) for contender in CONTENDERS]
    write_result(
        Path(__file__),
        rows,
        note=f"{options.rounds} rounds; clothing: {CLOTHING_ROWS:,} rows are its own 3,068 and copies with noise of "
        f"{NOISE:g} of the values' standard deviation; test rows are its own",
    )
    for one in rows:
        if one["what"] == "auto":
            assert one["of script's wall"] <= 1 and one["over script"] >= -WITHIN, one


def row(name: str, data: Data, contender: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a line of the table: medians, and how they stand to the script's."""

    def median(who: str, what: str) -> float:
        return statistics.median(one[what] for one in found[who])

    return {
        "data": f"{name} {len(data[0]):,} × {data[0].shape[1]:,}, {len(set(data[1]))} classes",
        "what": contender,
        "wall s": round(median(contender, "wall"), 1),
        "CPU s": round(median(contender, "cpu"), 1),
        "of script's wall": round(median(contender, "wall") / median("script", "wall"), 2),
        "of script's CPU": round(median(contender, "cpu") / median("script", "cpu"), 2),
        "test accuracy": round(median(contender, "accuracy"), 4),
        "over script": round(median(contender, "accuracy") - median("script", "accuracy"), 4),
        "chosen": found[contender][0]["chosen"],
    }


if __name__ == "__main__":
    main()
