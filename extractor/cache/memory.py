"""The memory tier: least recently used out first, bounded by bytes."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from extractor.cache import CacheFacts, Entry
from extractor.outcome import Embedded

ENTRY_OVERHEAD_BYTES = 350  # key, array header, tuple and dict slot, as tracemalloc sees them in CPython 3.11


class MemoryCache:
    """Keeps embeddings in this process; they are gone with it.

    Parameters
    ----------
    max_bytes : int
        Bound on what the entries take, their overhead counted in.
    """

    waits = False

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._hits = self._misses = 0
        self._entries: OrderedDict[bytes, Embedded] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is."""
        with self._lock:
            found = [self._get(key) for key in keys]
            n_misses = found.count(None)
            self._hits += len(found) - n_misses
            self._misses += n_misses
        return found

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store embeddings under their keys, and forget the least recently used ones beyond the bound."""
        with self._lock:
            for key, entry in entries:
                self._forget(key)
                self._entries[key] = entry
                self.n_bytes += _size(entry)
            while self.n_bytes > self.max_bytes:
                self._forget(next(iter(self._entries)))

    def facts(self) -> list[CacheFacts]:
        """Return how it is."""
        with self._lock:
            return [CacheFacts("memory", len(self), self.n_bytes, self.max_bytes, hits=self._hits, misses=self._misses)]

    def close(self) -> None:
        """Nothing is open."""

    def _get(self, key: bytes) -> Embedded | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.n_bytes -= _size(entry)


def _size(entry: Embedded) -> int:
    return entry.embedding.nbytes + ENTRY_OVERHEAD_BYTES
