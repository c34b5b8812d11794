"""What the tests of tasks share: examples whose embedding follows from their number, and brute force."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.tasks import Support, Task, TaskStore

DIM = 8
FACTS: dict[str, Any] = {"backbone": "tiny", "fingerprint": "ab" * 16, "dim": DIM}
FINGERPRINT = FACTS["fingerprint"]


def embedding(number: int) -> NDArray[np.float32]:
    """Return (DIM,) float32; some numbers share theirs, so that there are ties."""
    return np.random.default_rng(number % 97).normal(size=DIM).astype(np.float32)


def embeddings(numbers: Any) -> NDArray[np.float32]:
    return np.array([embedding(number) for number in numbers], np.float32).reshape(-1, DIM)


def label(number: int) -> str:
    return f"class {number % 5}"


def add(task: Task, *numbers: int, **options: Any) -> int:
    """Add examples, each under its number; return the version."""
    ids = [str(number) for number in numbers]
    labels = [label(number) for number in numbers]
    return task.add(embeddings(numbers), labels, ids=ids, fingerprint=FINGERPRINT, **options).version


def held(support: Support) -> dict[str, str]:
    """Return id to label."""
    return dict(zip(support.ids.tolist(), support.y.tolist(), strict=True))


def brute_force(support: Support, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return positions (k,) and cosines (k,) of the nearest, of equally near ones the first first."""
    rows, one = support.X.astype(np.float64), query.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    cosines = (rows * one).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    best = np.argsort(-cosines.round(12), kind="stable")[:k]
    return best, cosines[best]


def check_nearest(task: Task, queries: NDArray[np.float32], k: int = 5) -> Support:
    """Compare neighbours with brute force; return the support that they are of."""
    found = task.nearest(queries, k)
    assert found.positions.shape == (len(queries), min(k, len(found.support)))
    for query, positions, similarities in zip(queries, found.positions, found.similarities, strict=True):
        expected, cosines = brute_force(found.support, query, k)
        np.testing.assert_allclose(similarities, cosines, atol=1e-12)
        np.testing.assert_array_equal(positions, expected)
    return found.support


def check_rows(support: Support) -> None:
    """Every example has its own embedding, and no id is there twice."""
    assert len(set(support.ids.tolist())) == len(support)
    np.testing.assert_array_equal(support.X, embeddings([int(one) for one in support.ids]))


def reopened(folder: Path) -> TaskStore:
    return TaskStore.open(folder)


def dumped(task: Task) -> str:
    """Return all that readers see of a task, but for its version, as text to compare."""
    support = task.support
    return json.dumps([held(support), sorted(support.labels.items()), support.X.tolist(), support.numbers.tolist()])
