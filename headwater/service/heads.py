"""The heads of a server in memory: `NAME`, `NAME@3`, `NAME@ALIAS` -> what is loaded of it now.

A reference is looked up on disk for each request, which costs little, so that an alias that moves counts from the next
request on, whoever moved it. A version is loaded on first use, once however many ask, and again when its `head.json`
is another file. Requests that run keep what they were given. One that is broken is an error for those who ask for it.

All of it runs in threads of its own: a head that takes long to load, or to ask, takes none from extraction.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from headwater import shelf
from headwater.errors import HeadNotFound
from headwater.order import check_installed
from headwater.shelf import Version

if TYPE_CHECKING:
    from classifiers.head import Head
    from classifiers.persist import Manifest

MAX_HEADS = 64
MAX_BYTES = 2 << 30  # on disk, which is about what they take in memory

THREADS = 4  # that load heads, and ask them, at once; each product of matrices has threads of its own

Stamp = tuple[int, int, int]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LoadedHead:
    """One version of a head, ready to predict.

    Parameters
    ----------
    version : Version
    head : Head
    manifest : Manifest
    n_bytes : int
        Of its files.
    """

    version: Version
    head: "Head"
    manifest: "Manifest"
    n_bytes: int


class Heads:
    """Loads heads, and keeps those that were used last; for any thread.

    Parameters
    ----------
    max_heads : int
    max_bytes : int
        One head is kept whatever it takes.
    """

    def __init__(self, max_heads: int = MAX_HEADS, max_bytes: int = MAX_BYTES) -> None:
        self._max_heads = max_heads
        self._max_bytes = max_bytes
        self._loaded: OrderedDict[Path, tuple[Stamp, Future[LoadedHead]]] = OrderedDict()
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(THREADS, "heads")

    async def aside(self, function: Callable[..., T], *arguments: object) -> T:
        """Await what reads the disk or asks a head, in a thread of the heads'."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, copy_context().run, function, *arguments)

    async def loaded(self, reference: str) -> LoadedHead:
        """Return what a reference means now; while another call loads it, no thread waits. Raises what `get` does."""
        future = await self.aside(self._find, reference)
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def get(self, reference: str) -> LoadedHead:
        """Return what a reference means now; reads the disk.

        Raises
        ------
        HeadNotFound
            There is none.
        HeadInvalid
            It is damaged, was altered, or has a newer format.
        RuntimeMissing
            scikit-learn is not installed.
        """
        return self._find(reference).result()

    def _find(self, reference: str) -> "Future[LoadedHead]":
        """Return what becomes a loaded head: the first to ask loads it here."""
        check_installed()
        version = shelf.find_version(reference)
        stamp = stamp_of(version)
        with self._lock:
            known = self._loaded.get(version.folder)
            is_new = known is None or known[0] != stamp
            future: Future[LoadedHead] = _begun() if known is None or is_new else known[1]
            self._loaded[version.folder] = (stamp, future)
            self._loaded.move_to_end(version.folder)
        if is_new:
            self._load(version, future)
        return future

    @property
    def n_loaded(self) -> int:
        """How many are in memory."""
        return len(self._loaded)

    def _load(self, version: Version, future: "Future[LoadedHead]") -> None:
        from classifiers.persist import load_head

        try:
            head, manifest = load_head(version.folder)
            n_bytes = sum(file.stat().st_size for file in version.folder.iterdir())
            future.set_result(LoadedHead(version, head, manifest, n_bytes))
        except BaseException as error:
            self._forget(version.folder, future)
            future.set_exception(_told(version, error))
        else:
            self._make_room()

    def _forget(self, folder: Path, future: "Future[LoadedHead]") -> None:
        with self._lock:
            if folder in self._loaded and self._loaded[folder][1] is future:
                del self._loaded[folder]

    def _make_room(self) -> None:
        with self._lock:
            done = [folder for folder, (_, one) in self._loaded.items() if one.done() and not one.exception()]
            n_bytes = {folder: self._loaded[folder][1].result().n_bytes for folder in done}
            while len(done) > 1 and (len(done) > self._max_heads or sum(n_bytes.values()) > self._max_bytes):
                oldest = done.pop(0)
                del self._loaded[oldest], n_bytes[oldest]


def _begun() -> "Future[LoadedHead]":
    """Return a future that nobody who waits for it can cancel."""
    future: Future[LoadedHead] = Future()
    future.set_running_or_notify_cancel()
    return future


def _told(version: Version, error: BaseException) -> BaseException:
    """Return what callers are told: no path of the server, and where it was deleted in mid load, that."""
    from classifiers.errors import HeadInvalid

    if not (version.folder / shelf.HEAD_FILE).exists():
        return _deleted(version)
    if isinstance(error, HeadInvalid):
        return HeadInvalid(str(error).replace(str(version.folder), str(version)))
    if isinstance(error, OSError | ValueError):
        return HeadInvalid(f"head {version} cannot be read ({type(error).__name__}); train it again")
    return error


def _deleted(version: Version) -> HeadNotFound:
    return HeadNotFound(f"head {version} was deleted at this moment; ask for another version")


def stamp_of(version: Version) -> Stamp:
    """Return what changes when a version is written anew."""
    try:
        found = (version.folder / shelf.HEAD_FILE).stat()
    except OSError:
        raise _deleted(version) from None
    return found.st_mtime_ns, found.st_ino, found.st_size
