"""What a store outside the process is: slow or far, written by one thread in bulk, and looked after by an operator."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from extractor.cache import CacheFacts, Entry
from extractor.outcome import Embedded


@dataclass(frozen=True)
class Holding:
    """What a store holds of one backbone, by its fingerprint."""

    fingerprint: str
    n_entries: int
    n_bytes: int


@dataclass(frozen=True)
class Checked:
    """What a check of every row has found, and mended.

    Parameters
    ----------
    n_rows : int
        Rows that were read.
    n_spoilt : int
        Those whose checksum failed, and which were dropped.
    n_astray : int
        Rows that the order of age did not have, and the other way round; now it does.
    """

    n_rows: int
    n_spoilt: int
    n_astray: int = 0


class Store(Protocol):
    """A store may raise OSError or its library's errors; `WriteBehind` makes misses and drops of them."""

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is or its checksum fails."""

    def put_many(self, entries: Sequence[Entry]) -> int:
        """Store entries in bulk; return how many were, for the store may have no room."""

    def facts(self) -> CacheFacts:
        """Return how the store is."""

    def close(self) -> None:
        """Let go of files and connections."""

    def holdings(self) -> list[Holding]:
        """Count entries and bytes by backbone; reads every key."""

    def scan(self, fingerprint: str | None = None) -> Iterator[Entry]:
        """Yield every entry, or those of one backbone."""

    def purge(self, fingerprint: str | None = None) -> int:
        """Drop every entry, or those of one backbone; return how many."""

    def check(self) -> Checked:
        """Read every row, and drop those whose checksum fails."""
