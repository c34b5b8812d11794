"""Embeddings that anybody can compute again: number -> key and embedding (dim,), so that a store can be judged."""

import numpy as np

from extractor.cache import Entry, item_key
from extractor.outcome import Embedded

FINGERPRINT = "ab" * 16
MAX_FLOATS = 4096  # 16 KB


def key_of(number: int, fingerprint: str = FINGERPRINT) -> bytes:
    return item_key(fingerprint, str(number).encode())


def dim_of(number: int) -> int:
    """1 KB to 16 KB, mixed."""
    return 256 + number * 7919 % (MAX_FLOATS - 255)


def embedded(number: int, dim: int | None = None) -> Embedded:
    dim = dim_of(number) if dim is None else dim
    values = np.random.default_rng(number).random(16, np.float32)
    return Embedded(np.resize(values, dim), truncated=number % 2 == 1)


def entries(*numbers: int, dim: int | None = None) -> list[Entry]:
    return [(key_of(number), embedded(number, dim)) for number in numbers]


def is_right(number: int, found: Embedded, dim: int | None = None) -> bool:
    """Whether an embedding is the one of a number, bit for bit."""
    expected = embedded(number, dim)
    same = found.embedding.dtype == np.float32 and found.embedding.tobytes() == expected.embedding.tobytes()
    return same and found.truncated == expected.truncated
