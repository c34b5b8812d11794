"""Do the embeddings that come through service and client reproduce published numbers? Banking77, all-MiniLM-L6-v2.

The published accuracies of ten experiments are those of MTEB (embeddings-benchmark/results). Its recipe: one list of
train positions in file order, shuffled anew each time by `RandomState(42)`; the first 8 of each label;
`LogisticRegression(random_state=42, max_iter=100)` on unit-length embeddings; accuracy on the whole test file.
Run: python benchmarks/bench_banking77.py [--data FOLDER]
"""

import argparse
import csv
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from backbone import ensure
from record import write_result
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from headwater import Client
from headwater.process import serving

PUBLISHED = (0.7981, 0.8016, 0.8130, 0.8055, 0.7919, 0.8049, 0.7909, 0.7890, 0.8091, 0.8003)
TOLERANCE = 1e-4
SHOTS = 8


class Part(NamedTuple):
    """One file: its texts, and their labels (n,)."""

    texts: list[str]
    labels: np.ndarray


def read(path: Path) -> Part:
    """Read a file of `text,category`."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Part([row["text"] for row in rows], np.array([row["category"] for row in rows]))


def first_of_each(order: list[int], labels: np.ndarray) -> list[int]:
    """Return the first positions of each label, in order."""
    seen: Counter[str] = Counter()
    kept = []
    for position in order:
        if seen[labels[position]] < SHOTS:
            kept.append(position)
        seen[labels[position]] += 1
    return kept


def main() -> None:
    """Embed both files through the service, train ten heads, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[2] / "shared" / "data" / "banking77"
    parser.add_argument("--data", type=Path, default=default)
    folder = parser.parse_args().data
    if not folder.is_dir():
        print(f"no {folder}: name the folder of Banking77's train.csv and test.csv with --data")
        return
    train, test = read(folder / "train.csv"), read(folder / "test.csv")
    with serving(ensure("minilm-l6"), "--cache", "off") as server, Client(server.target) as client:
        begun = time.perf_counter()
        X, X_test = (normalize(client.extract(part.texts)) for part in (train, test))
        speed = (len(X) + len(X_test)) / (time.perf_counter() - begun)
    order = list(range(len(X)))
    rows = []
    for published in PUBLISHED:
        np.random.RandomState(42).shuffle(order)  # the published recipe
        kept = first_of_each(order, train.labels)
        head = LogisticRegression(random_state=42, max_iter=100).fit(X[kept], train.labels[kept])
        found = head.score(X_test, test.labels)
        rows.append({"published": published, "found": round(found, 5), "difference": round(found - published, 5)})
    rows.append(
        {"published": "mean .80042", "found": round(np.mean([row["found"] for row in rows]), 5), "difference": ""}
    )
    write_result(
        Path(__file__), rows, note=f"{len(X) + len(X_test):,} texts through the service at {speed:,.0f} a second"
    )
    assert all(abs(row["found"] - published) < TOLERANCE for row, published in zip(rows, PUBLISHED, strict=False))


if __name__ == "__main__":
    main()
