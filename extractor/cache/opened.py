"""Where embeddings are kept, as a setting (`off`, `memory`, a folder, `redis://…`) -> a cache that is open.

The processes of a user share the default folder: what a dump has embedded, a server finds. Within a process, those who
name one folder share one store, which closes with the last of them.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from extractor.cache import Cache, CacheFacts, Entry
from extractor.cache.memory import MemoryCache
from extractor.errors import CacheInvalid
from extractor.home import cache_folder
from extractor.outcome import Embedded

log = logging.getLogger(__name__)

OFF, MEMORY = "off", "memory"
SHARED = ("redis://", "rediss://", "unix://")
MIB = 1 << 20
MEMORY_MIB = 256
DISK_MIB = 8192
FRONT_MIB = 64  # of memory in front of a shared tier
MIN_FREE_MIB = 1024


def open_cache(
    where: str | None = None, *, max_mib: int | None = None, min_free_mib: int = MIN_FREE_MIB
) -> Cache | None:
    """Open the cache that a setting names.

    Parameters
    ----------
    where : str, optional
        `off`, `memory`, a folder, or `redis://host:port/0`; by default as `HEADWATER_CACHE` says, else the user's
        cache folder.
    max_mib : int, optional
        Bound of a memory or disk tier; by default 256 and 8,192. A shared one has its own, `maxmemory`.
    min_free_mib : int
        A disk tier writes nothing while the disk has less room than that.

    Returns
    -------
    Cache or None
        None for `off`. A folder that cannot be used gives a cache that finds nothing and says why in its facts.

    Raises
    ------
    CacheInvalid
        The setting names no cache, or its bound is out of range.
    """
    where = where or os.environ.get("HEADWATER_CACHE") or str(cache_folder())
    if where == OFF:
        return None
    if max_mib is not None and max_mib < 1:
        raise CacheInvalid(f"cache of {max_mib} MiB: it needs at least 1; to have none, say --cache off")
    if where == MEMORY:
        return MemoryCache(max_bytes=(max_mib or MEMORY_MIB) * MIB)
    if where.startswith(SHARED):
        return _leased(where, lambda: _shared(where, max_mib or FRONT_MIB))
    if "://" in where:
        raise CacheInvalid(f"cache {where!r}: it may be off, memory, a folder, or {', '.join(SHARED)}…")
    folder = Path(where).expanduser().resolve()
    return _leased(str(folder), lambda: _disk(folder, max_mib or DISK_MIB, min_free_mib))


class NoCache:
    """What stands for a cache that could not be opened: it finds nothing, keeps nothing, and says why.

    Parameters
    ----------
    tier, reason : str
    """

    waits = False

    def __init__(self, tier: str, reason: str) -> None:
        self.tier = tier
        self.reason = reason

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Find nothing."""
        return [None] * len(keys)

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Keep nothing."""

    def facts(self) -> list[CacheFacts]:
        """Return why."""
        return [CacheFacts(self.tier, degraded=self.reason)]

    def close(self) -> None:
        """Nothing is open."""


class _Lease:
    """One user's share of a cache that several in this process have open."""

    def __init__(self, name: str, cache: Cache) -> None:
        self._name = name
        self._closed = False
        self.waits = cache.waits
        self.get_many, self.put_many, self.facts = cache.get_many, cache.put_many, cache.facts

    def close(self) -> None:
        """Give the share back; the last one closes the cache."""
        with _lock:
            if not self._closed:
                self._closed = True
                _give_back(self._name)


_lock = threading.Lock()
_open: dict[str, tuple[Cache, int]] = {}  # with the number of its users


def _leased(name: str, opening: Callable[[], Cache]) -> Cache:
    with _lock:
        cache, users = _open[name] if name in _open else (opening(), 0)
        _open[name] = cache, users + 1
        return _Lease(name, cache)


def _give_back(name: str) -> None:
    cache, users = _open[name]
    if users > 1:
        _open[name] = cache, users - 1
    else:
        del _open[name]
        cache.close()


def _disk(folder: Path, max_mib: int, min_free_mib: int) -> Cache:
    import lmdb

    from extractor.cache.behind import WriteBehind
    from extractor.cache.disk import DiskStore

    try:
        store = DiskStore.open(folder, max_bytes=max_mib * MIB, min_free_bytes=min_free_mib * MIB)
    except (OSError, lmdb.Error) as error:
        reason = f"cannot keep embeddings in {folder}: {error}"
        log.warning("%s; name another folder with --cache, or say --cache off", reason)
        return NoCache("disk", reason)
    return WriteBehind(store).start()


def _shared(url: str, front_mib: int) -> Cache:
    from extractor.cache.behind import WriteBehind
    from extractor.cache.layered import Layered
    from extractor.cache.shared import SharedStore

    return Layered(MemoryCache(max_bytes=front_mib * MIB), WriteBehind(SharedStore.open(url)).start())
