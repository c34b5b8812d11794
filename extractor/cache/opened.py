"""Where embeddings are kept, as a setting (`off`, `memory`, a folder, `redis://…`) -> a cache that is open.

The processes of a user share the default folder: what a dump has embedded, a server finds. Within a process, those who
name one folder share one store, which closes with the last of them.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from extractor.cache import Cache, CacheFacts, Entry
from extractor.cache.memory import MemoryCache
from extractor.cache.store import Store
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
DATA_FILE = "data.mdb"  # which LMDB keeps in a folder
_MEANT = ("redis:", "rediss:", "unix:")  # one slash too few makes no folder, whose name would hold the password
_SECRET = re.compile(r"(?<=//)[^/]*@|\?.*")  # of a URL: what stands before its host, and its query


def open_cache(
    where: str | None = None, *, max_mib: int | None = None, min_free_mib: int | None = None
) -> Cache | None:
    """Open the cache that a setting names.

    Parameters
    ----------
    where : str, optional
        `off`, `memory`, a folder, or `redis://host:port/0`; by default as `HEADWATER_CACHE` says, else the user's
        cache folder.
    max_mib : int, optional
        Bound of a memory or disk tier; by default as `HEADWATER_CACHE_MIB` says, else 256 and 8,192. A shared tier has
        one of its own, `maxmemory`.
    min_free_mib : int, optional
        A disk tier writes nothing while the disk has less room than that; by default as `HEADWATER_CACHE_MIN_FREE_MIB`
        says, else 1,024.

    Returns
    -------
    Cache or None
        None for `off`. A folder that cannot be used gives a cache that finds nothing and says why in its facts.

    Raises
    ------
    CacheInvalid
        The setting names no cache, or its bound is out of range.
    """
    where = _setting(where)
    if where == OFF:
        return None
    max_mib = _number("HEADWATER_CACHE_MIB") if max_mib is None else max_mib
    if max_mib is not None and max_mib < 1:
        raise CacheInvalid(f"cache of {max_mib} MiB: it needs at least 1; to have none, say --cache off")
    if where == MEMORY:
        return MemoryCache(max_bytes=(max_mib or MEMORY_MIB) * MIB)
    if where.startswith(SHARED):
        return _leased(where, lambda: _shared(where, max_mib or FRONT_MIB))
    folder = _folder(where)
    return _leased(str(folder), lambda: _disk(folder, max_mib or DISK_MIB, _min_free(min_free_mib)))


def open_store(where: str | None = None, *, max_mib: int | None = None, begin: bool = False) -> Store:
    """Open the store behind the cache that a setting names, to look after it; servers may use it at the same time.

    Parameters
    ----------
    where : str, optional
        A folder, or `redis://host:port/0`; by default as for `open_cache`.
    max_mib : int, optional
        Bound of a disk tier, as for `open_cache`.
    begin : bool
        Begin a disk tier where there is none yet.

    Raises
    ------
    CacheInvalid
        The setting names nothing that outlives a process, or what it names cannot be opened.
    """
    where = _setting(where)
    if where in (OFF, MEMORY):
        raise CacheInvalid(f"cache {where!r}: nothing of it outlives its process; name a folder, or {SHARED[0]}…")
    if where.startswith(SHARED):
        from extractor.cache.shared import SharedStore

        return SharedStore.open(where)
    folder = _folder(where)
    from extractor.cache.disk import DiskStore

    bound = (max_mib or _number("HEADWATER_CACHE_MIB") or DISK_MIB) * MIB
    with disk_errors(where):
        if not begin and not (folder / DATA_FILE).exists():
            raise CacheInvalid(f"there is no cache in {folder}: nothing was stored yet, or --cache names another place")
        return DiskStore.open(folder, max_bytes=bound, min_free_bytes=_min_free() * MIB)


@contextmanager
def disk_errors(where: str | None = None) -> Iterator[None]:
    """Tell the operator, who waits for the answer, where a store on disk fails; one in Redis tells by itself."""
    if _setting(where).startswith(SHARED):
        yield
        return
    import lmdb

    try:
        yield
    except (OSError, lmdb.Error) as error:
        raise CacheInvalid(f"cache in {shown(where)} fails: {error}; see that its folder can be written") from error


def shown(where: str | None = None) -> str:
    """Return a setting as people may see it: without its password."""
    where = _setting(where)
    return _SECRET.sub("", where) if where.startswith(SHARED) else where


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
        self._process = os.getpid()  # what a forked child inherits is not its own to close
        self._closed = False
        self.waits = cache.waits
        self.get_many, self.put_many, self.facts = cache.get_many, cache.put_many, cache.facts

    def close(self) -> None:
        """Give the share back; the last one closes the cache."""
        with _lock:
            if not self._closed and self._process == os.getpid():
                self._closed = True
                _give_back(self._name)


_lock = threading.Lock()
_open: dict[str, tuple[Cache, int]] = {}  # with the number of its users
_inherited: dict[str, object] = {}  # in a forked child, what its parent had open; kept, for what is freed is closed


def _begin_anew() -> None:
    """Share nothing with the parent of a forked child: its writers are not here, and its connections are its own."""
    global _lock, _open
    _inherited.update(_open)
    _lock, _open = threading.Lock(), {}


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_anew)


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


def _setting(where: str | None) -> str:
    given = (where or os.environ.get("HEADWATER_CACHE") or "").strip() or str(cache_folder())
    return given.lower() if given.lower() in (OFF, MEMORY) else given


def _folder(where: str) -> Path:
    if "://" in where or where.lower().startswith(_MEANT):
        scheme = where[: where.index(":") + 1]  # and no more of it: a password may follow
        slashes = "//" if "://" in where else ""
        raise CacheInvalid(f"cache {scheme}{slashes}…: it may be off, memory, a folder, or {', '.join(SHARED)}…")
    try:
        return Path(where).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a user that is none, a link that leads to itself
        raise CacheInvalid(f"cache {where!r} cannot be a folder: {error}; name another, or say off") from None


def _number(variable: str) -> int | None:
    given = os.environ.get(variable, "").strip()
    if given and not given.isdecimal():
        raise CacheInvalid(f"{variable} is {given!r}; it is a number of MiB")
    return int(given) if given else None


def _min_free(min_free_mib: int | None = None) -> int:
    given = _number("HEADWATER_CACHE_MIN_FREE_MIB") if min_free_mib is None else min_free_mib
    return MIN_FREE_MIB if given is None else given


def _disk(folder: Path, max_mib: int, min_free_mib: int) -> Cache:
    import lmdb

    from extractor.cache.behind import WriteBehind
    from extractor.cache.disk import DiskStore

    if str(folder) in _inherited:  # LMDB does not open it again, and the parent's readers would be the child's
        return _none(folder, "it was open when this process was forked; fork before, or start processes by spawn")
    try:
        store = DiskStore.open(folder, max_bytes=max_mib * MIB, min_free_bytes=min_free_mib * MIB)
    except (OSError, lmdb.Error) as error:
        return _none(folder, f"{error}; name another folder with --cache, or say --cache off")
    return WriteBehind(store).start()


def _none(folder: Path, why: str) -> NoCache:
    reason = f"cannot keep embeddings in {folder}: {why}"
    log.warning("%s", reason)
    return NoCache("disk", reason)


def _shared(url: str, front_mib: int) -> Cache:
    from extractor.cache.behind import WriteBehind
    from extractor.cache.layered import Layered
    from extractor.cache.shared import SharedStore

    return Layered(MemoryCache(max_bytes=front_mib * MIB), WriteBehind(SharedStore.open(url)).start())
