"""The memory tier: least recently used out first, bounded by bytes."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from extractor.outcome import Embedded

ENTRY_OVERHEAD_BYTES = 350  # key, array header, tuple and dict slot, as tracemalloc sees them in CPython 3.11


class MemoryCache:
    """Keeps embeddings in this process.

    Parameters
    ----------
    max_bytes : int
        Bound on what the entries take, their overhead counted in.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._entries: OrderedDict[bytes, Embedded] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is."""
        with self._lock:
            return [self._get(key) for key in keys]

    def put_many(self, entries: Sequence[tuple[bytes, Embedded]]) -> None:
        """Store embeddings under their keys, and forget the least recently used ones beyond the bound."""
        with self._lock:
            for key, entry in entries:
                self._forget(key)
                self._entries[key] = entry
                self.n_bytes += _size(entry)
            while self.n_bytes > self.max_bytes:
                self._forget(next(iter(self._entries)))

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
