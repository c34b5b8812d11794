"""Tiers that remember embeddings: a key of 48 bytes -> an embedding (dim,) float32 and its truncation mark.

The interface of a tier is this page. A tier returns what was put under a key, bit for bit, or nothing; it raises
nothing at those who look something up or store it: what it cannot do is a miss or a drop, counted in its facts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from blake3 import blake3

from extractor.outcome import Embedded

Entry = tuple[bytes, Embedded]


@dataclass(frozen=True)
class CacheFacts:
    """How a tier is, and what it has done since it was opened.

    Parameters
    ----------
    tier : str
        `memory`, `disk` or `shared`.
    n_entries, n_bytes, max_bytes : int, optional
        What it holds, and its bound; None where the tier cannot tell, or has none of its own.
    hits, misses : int
        Keys that were looked up.
    stored : int
        Entries written.
    dropped : mapping of str to int
        Entries that were not, by reason.
    spoilt : int
        Rows whose checksum failed.
    evicted : int
        Entries that made room for others.
    degraded : str, optional
        Why it does not work now as it should.
    """

    tier: str
    n_entries: int | None = None
    n_bytes: int | None = None
    max_bytes: int | None = None
    hits: int = 0
    misses: int = 0
    stored: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    spoilt: int = 0
    evicted: int = 0
    degraded: str | None = None


class Cache(Protocol):
    """One tier, or several as one; every method may be called from many threads at once."""

    waits: bool  # a look-up may wait for a disk or a network, and is not for an event loop

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is."""

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store finite embeddings under their keys, now or soon."""

    def facts(self) -> list[CacheFacts]:
        """Return how each tier is, the fastest first."""

    def close(self) -> None:
        """Store what still waits, and let go of files and connections."""


def facts_of(caches: Iterable[Cache | None]) -> list[CacheFacts]:
    """Return how each tier of some caches is; a cache that several share is asked once.

    A share of a cache has the very `facts` of the cache itself, and methods of one object are equal.
    """
    asked = dict.fromkeys(cache.facts for cache in caches if cache is not None)
    return [tier for facts in asked for tier in facts()]


def item_key(fingerprint: str, item: bytes) -> bytes:
    """Return the key of an item under a backbone: the fingerprint, and BLAKE3 of the whole content, keyed by it.

    Parameters
    ----------
    fingerprint : str
        32 hexadecimal digits; as ASCII just the length of a BLAKE3 key, as bytes the first 16 of the key.
    item : bytes

    Returns
    -------
    bytes
        16 + 32. The 256 bits cover fingerprint and content by themselves; the prefix tells a backbone's entries apart.
    """
    return bytes.fromhex(fingerprint) + blake3(item, key=fingerprint.encode()).digest()


def fingerprint_of(key: bytes) -> str:
    """Return the fingerprint that a key begins with."""
    return key[:16].hex()
