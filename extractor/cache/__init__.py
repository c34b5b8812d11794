"""Tiers that remember embeddings: a key of 32 bytes -> an embedding (dim,) float32 and its truncation mark.

The interface of a tier is this page. A tier returns what was put under a key, bit for bit, or nothing.
"""

from collections.abc import Sequence
from typing import Protocol

from blake3 import blake3

from extractor.outcome import Embedded


class Cache(Protocol):
    """One tier; every method may be called from many threads at once."""

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is."""

    def put_many(self, entries: Sequence[tuple[bytes, Embedded]]) -> None:
        """Store finite embeddings under their keys."""


def item_key(fingerprint: str, item: bytes) -> bytes:
    """Return the key of an item under a backbone: BLAKE3, 256 bits, of the whole content, keyed by the fingerprint.

    Parameters
    ----------
    fingerprint : str
        32 hexadecimal digits; as bytes, just the length of a BLAKE3 key.
    item : bytes
    """
    return blake3(item, key=fingerprint.encode()).digest()
