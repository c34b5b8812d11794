"""What does `duplicate_groups` cost beside all products? On real embeddings, a crowd, and what has no structure.

The plain way multiplies all rows with all later ones, in blocks, and looks where the product is large. Of a larger set
it does some of its blocks, evenly spread, and the rest is reckoned. Texts are those of CLINC150 and Banking77 by
MiniLM; where more rows are asked for than these, each is a sum of one text's embedding and half of another's. A crowd
is of the smallest size: nine rows in ten are one text's, shaken so much that half of them are near-duplicates.
Run: python benchmarks/bench_dupes.py [--rows N,N] [--data FOLDER] [--embeddings FOLDER]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from backbone import ensure
from labelled_sets import DEFAULT, banking77, clinc150
from record import write_result
from threadpoolctl import threadpool_limits

from classifiers.duplicates import LEAST_COSINE, duplicate_groups
from classifiers.embeddings import unit_length
from extractor import Extractor

ROWS = (20_000, 100_000, 200_000)
BLOCK = (256, 4096)
PLAIN_PAIRS = 2e9
DIM = 64  # of what is alike in nothing
CROWD = 0.9  # of rows that are nearly one
SHAKEN = 0.1


def embedded(folder: Path, data: Path) -> np.ndarray:
    """Return real embeddings of unit length, from a file, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (path := folder / "texts.npy").exists():
        texts = [
            text for splits in (clinc150(data), banking77(data)) for split in splits.values() for text in split.items
        ]
        with Extractor.load(ensure("minilm-l6")) as extractor:
            np.save(path, extractor.extract(texts))
    return unit_length(np.load(path))


def texts(real: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n rows: real ones as far as there are, else sums of theirs."""
    if n <= len(real):
        return real[rng.permutation(len(real))[:n]]
    one, other = rng.integers(len(real), size=(2, n))
    return real[one] + real[other] / 2


def unlike(_: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n rows without any structure: the worst case."""
    return rng.normal(size=(n, DIM)).astype(np.float32)


def crowd(real: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n rows of which most are about one, and near it or each other or not."""
    rows = texts(real, n, rng)
    most = rng.random(n) < CROWD
    length = SHAKEN * rng.random((most.sum(), 1)) * 5 / np.sqrt(rows.shape[1])
    rows[most] = rows[0] / np.linalg.norm(rows[0]) + length * rng.normal(size=(most.sum(), rows.shape[1]))
    return rows


def plain_cpu_s(X: np.ndarray) -> float:
    """Return what all products of rows with later ones cost, in CPU-seconds."""
    unit, done, (height, width) = unit_length(X), 0, BLOCK
    blocks = [(a, b) for a in range(0, len(X), height) for b in range(a // width * width, len(X), width)]
    some = blocks[:: max(1, int(len(blocks) * height * width / PLAIN_PAIRS))]
    started = time.process_time()
    with threadpool_limits(1):
        for a, b in some:
            alike = unit[a : a + height] @ unit[b : b + width].T
            done += len(np.flatnonzero(alike >= LEAST_COSINE))
    return (time.process_time() - started) * len(blocks) / len(some)


def row(make: Callable[..., np.ndarray], real: np.ndarray, n: int) -> dict[str, Any]:
    """Compare the two on one set."""
    X = make(real, n, np.random.default_rng(0)).astype(np.float32)
    started, clock = time.process_time(), time.perf_counter()
    copies = duplicate_groups(X)
    cpu_s, wall_s = time.process_time() - started, time.perf_counter() - clock
    plain = plain_cpu_s(X)
    return {
        "set": make.__name__,
        "rows": n,
        "dim": X.shape[1],
        "copies": len(copies.rows),
        "CPU-s": round(cpu_s, 1),
        "wall s": round(wall_s, 1),
        "all products, CPU-s": round(plain, 1),
        "ratio": round(plain / cpu_s, 1),
    }


def main() -> None:
    """Measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: [int(float(n)) for n in text.split(",")], default=ROWS)
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--embeddings", type=Path, help="where embeddings are kept from one run to the next")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        real = embedded(chosen.embeddings or Path(folder), chosen.data)
    sets = [(texts, n) for n in chosen.rows] + [(unlike, n) for n in chosen.rows] + [(crowd, min(chosen.rows))]
    rows = [row(make, real, n) for make, n in sets]
    write_result(Path(__file__), rows, note="CPU-seconds; of all products a part is measured")


if __name__ == "__main__":
    main()
