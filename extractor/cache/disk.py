"""The disk tier: an LMDB environment in a folder, which processes share, least recently used out first.

LMDB (Chu, "MDB: A Memory-Mapped Database and Backend for OpenLDAP", 2011) lets many processes read while one writes,
survives a kill at any moment, and reads without a copy or a lock. Four tables: `rows` has the entries, by key; `ages`
the generation in which each was last used; `order` generation and key, so that the oldest stand first; `facts` the
format and the generation. A generation is a share of the bound's bytes written, so that look-ups write nothing while
nothing is evicted for anybody.
"""

import logging
import os
import shutil
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import lmdb

from extractor.cache import CacheFacts, Entry, fingerprint_of, row
from extractor.cache.store import Checked, Holding
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = b"1"
MIN_BYTES = 8 << 20
MAP_BYTES = 1 << 40  # of address space, no more; the same in every process, so that none outgrows another's map
MAX_READERS = 1024  # threads that read at once, of all processes
FULL = 0.75  # of the bound; the rest is for pages that wait for their last reader, and for gaps
GENERATIONS = 32  # to a turnover of the whole store
TRANSACTIONS = 32  # to a turnover at least, so that what one frees is small beside the bound
MAX_TRANSACTION_BYTES = 8 << 20
MAX_TOUCHED = 65_536  # keys that wait to be made young, or dropped; more are forgotten
PAGE_OF_KEYS = 512  # rows read in one transaction when all are gone through, so that pages are never held for long
_NUMBER = struct.Struct(">Q")
_SIZES = struct.Struct(">QQ")


class DiskStore:
    """Keeps embeddings in a folder; opened by `DiskStore.open`.

    Parameters
    ----------
    folder : Path
    environment : lmdb.Environment
    max_bytes : int
        Bound on the bytes on disk.
    min_free_bytes : int
        Nothing is written while the disk has less room than that.
    """

    def __init__(self, folder: Path, environment: "lmdb.Environment", *, max_bytes: int, min_free_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.min_free_bytes = min_free_bytes
        self._environment = environment
        self._rows, self._ages, self._order, self._facts = (
            environment.open_db(name) for name in (b"rows", b"ages", b"order", b"facts")
        )
        self._touched: set[bytes] = set()
        self._spoilt: set[bytes] = set()
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._lacks_room = False
        self._lock = threading.Lock()  # of the sets

    @classmethod
    def open(cls, folder: str | Path, *, max_bytes: int, min_free_bytes: int = 0) -> Self:
        """Open the store of a folder, or begin one; a file that is broken is set aside, and a new one begun.

        Raises
        ------
        CacheInvalid
            The bound is too small, or the folder holds a newer format.
        OSError, lmdb.Error
            The folder cannot be written.
        """
        if not MIN_BYTES <= max_bytes <= MAP_BYTES // 2:
            raise CacheInvalid(
                f"cache of {max_bytes:,} bytes: it may have {MIN_BYTES:,} to {MAP_BYTES // 2:,}; choose another bound"
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        bounds = {"max_bytes": max_bytes, "min_free_bytes": min_free_bytes}
        try:
            store = cls(folder, _whole_environment(folder), **bounds)
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            _set_aside(folder, str(error))
            store = cls(folder, _environment(folder), **bounds)
        store._environment.reader_check()  # frees what killed processes held
        store._check_format()
        return store

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is or its checksum fails."""
        table = self._rows
        with self._environment.begin() as transaction:
            get = transaction.get
            rows = [get(key, None, table) for key in keys]
        found = [None if raw is None else row.decode(key, raw) for key, raw in zip(keys, rows, strict=True)]
        hits, spoilt = [], []
        for key, raw, entry in zip(keys, rows, found, strict=True):
            if entry is not None:
                hits.append(key)
            elif raw is not None:
                spoilt.append(key)
        with self._lock:
            if len(self._touched) < MAX_TOUCHED:
                self._touched.update(hits)
            if len(self._spoilt) < MAX_TOUCHED:
                self._spoilt.update(spoilt)
            self._counts["spoilt"] += len(spoilt)
        return found

    def put_many(self, entries: Sequence[Entry]) -> int:
        """Store entries, make young what was looked up, drop what is spoilt, and evict the oldest beyond the bound."""
        if not self._has_room():
            with self._lock:
                self._dropped["no room on disk"] += len(entries)
            return 0
        bulk: list[tuple[bytes, bytes]] = []
        n_bytes = n_stored = 0
        for key, entry in entries:
            encoded = row.encode(key, entry)
            if bulk and n_bytes + len(encoded) > self._max_transaction_bytes:
                self._commit(bulk, n_bytes)
                n_stored, bulk, n_bytes = n_stored + len(bulk), [], 0
            bulk.append((key, encoded))
            n_bytes += len(encoded)
        self._commit(bulk, n_bytes)
        n_stored += len(bulk)
        with self._lock:
            self._counts["stored"] += n_stored
        return n_stored

    def facts(self) -> CacheFacts:
        """Return how the store is."""
        with self._environment.begin() as transaction:
            n_entries = transaction.stat(self._rows)["entries"]
            n_bytes = self._used_bytes(transaction)
        with self._lock:
            return CacheFacts(
                tier="disk",
                n_entries=n_entries,
                n_bytes=n_bytes,
                max_bytes=self.max_bytes,
                stored=self._counts["stored"],
                dropped=dict(self._dropped),
                spoilt=self._counts["spoilt"],
                evicted=self._counts["evicted"],
                degraded=self._degraded(),
            )

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def holdings(self) -> list[Holding]:
        """Count entries and bytes by backbone; reads every key."""
        entries, sizes = Counter[str](), Counter[str]()
        for page in self._pages(self._rows, len):
            for key, n_bytes in page:
                fingerprint = fingerprint_of(key)
                entries[fingerprint] += 1
                sizes[fingerprint] += n_bytes
        return [Holding(name, entries[name], sizes[name]) for name in sorted(entries)]

    def scan(self, fingerprint: str | None = None) -> Iterator[Entry]:
        """Yield every entry, or those of one backbone; rows whose checksum fails are left out."""
        for page in self._pages(self._rows, bytes, _prefix(fingerprint)):
            for key, raw in page:
                entry = row.decode(key, raw)
                if entry is not None:
                    yield key, entry

    def purge(self, fingerprint: str | None = None) -> int:
        """Drop every entry, or those of one backbone; return how many. The file keeps its size, for what comes."""
        n = 0
        for page in self._pages(self._rows, len, _prefix(fingerprint)):
            with self._environment.begin(write=True) as transaction:
                n += sum(self._delete(transaction, key) for key, _ in page)
        return n

    def check(self) -> Checked:
        """Read every row, drop those whose checksum fails, and see to it that each has an age, and each age a row.

        Others may write meanwhile: what a page looked like when it was read is looked at again where it is mended.
        """
        n_rows = n_spoilt = n_astray = 0
        for page in self._pages(self._rows, bytes):
            n_rows += len(page)
            suspects = [key for key, raw in page if row.decode(key, raw) is None]
            with self._environment.begin(write=True) as transaction:
                n_spoilt += sum(self._drop_if_spoilt(transaction, key) for key in suspects)
                n_astray += sum(self._give_age(transaction, key) for key, _ in page)
        for ages in self._pages(self._ages, len):
            with self._environment.begin(write=True) as transaction:
                n_astray += sum(self._drop_age(transaction, key) for key, _ in ages)
        for order in self._pages(self._order, len):
            with self._environment.begin(write=True) as transaction:
                n_astray += sum(self._drop_place(transaction, key) for key, _ in order)
        return Checked(n_rows, n_spoilt, n_astray)

    def _degraded(self) -> str | None:
        if not self._lacks_room:
            return None
        return f"nothing is stored: less than {self.min_free_bytes:,} bytes are free in {self.folder}"

    @property
    def _max_transaction_bytes(self) -> int:
        return min(MAX_TRANSACTION_BYTES, self.max_bytes // TRANSACTIONS)

    def _commit(self, bulk: Sequence[tuple[bytes, bytes]], n_bytes: int) -> None:
        with self._lock:
            touched, self._touched = self._touched, set()
            spoilt, self._spoilt = self._spoilt, set()
        with self._environment.begin(write=True) as transaction:
            generation = self._advance(transaction, n_bytes)
            for key in spoilt:
                self._drop_if_spoilt(transaction, key)
            for key, encoded in bulk:
                transaction.put(key, encoded, db=self._rows)
                self._make_young(transaction, key, generation)
            for key in touched:
                if transaction.get(key, db=self._ages) is not None:
                    self._make_young(transaction, key, generation)
            self._evict(transaction)

    def _advance(self, transaction: "lmdb.Transaction", n_bytes: int) -> bytes:
        """Count what is written, and return the generation that it belongs to."""
        generation, written = _SIZES.unpack(transaction.get(b"generation", bytes(_SIZES.size), db=self._facts))
        written += n_bytes
        if written * GENERATIONS > self.max_bytes:
            generation, written = generation + 1, 0
        transaction.put(b"generation", _SIZES.pack(generation, written), db=self._facts)
        return _NUMBER.pack(generation)

    def _make_young(self, transaction: "lmdb.Transaction", key: bytes, generation: bytes) -> None:
        old = _get(transaction, key, self._ages)
        if old == generation:
            return
        if old is not None:
            transaction.delete(old + key, db=self._order)
        transaction.put(key, generation, db=self._ages)
        transaction.put(generation + key, b"", db=self._order)

    def _evict(self, transaction: "lmdb.Transaction") -> None:
        bound = FULL * self.max_bytes
        used = self._used_bytes(transaction)
        n_evicted = 0
        with transaction.cursor(self._order) as oldest:
            while used > bound and oldest.first():
                # As many as their mean size says, and then look again.
                mean = used / max(1, transaction.stat(self._rows)["entries"])
                for _ in range(1 + int((used - bound) / mean)):
                    if not oldest.first():
                        break
                    self._delete(transaction, bytes(oldest.key())[_NUMBER.size :])
                    n_evicted += 1
                used = self._used_bytes(transaction)
        with self._lock:
            self._counts["evicted"] += n_evicted

    def _drop_if_spoilt(self, transaction: "lmdb.Transaction", key: bytes) -> bool:
        raw = _get(transaction, key, self._rows)
        return raw is not None and row.decode(key, raw) is None and self._delete(transaction, key)

    def _give_age(self, transaction: "lmdb.Transaction", key: bytes) -> bool:
        """Make a row that has no age, or no place in the order, the oldest; without one it would never be evicted."""
        age = _get(transaction, key, self._ages)
        if age is not None and transaction.get(age + key, db=self._order) is not None:
            return False
        if transaction.get(key, db=self._rows) is None:
            return False
        transaction.delete(key, db=self._ages)
        self._make_young(transaction, key, _NUMBER.pack(0))
        return True

    def _drop_age(self, transaction: "lmdb.Transaction", key: bytes) -> bool:
        """Drop the age, and the place in the order, of a row that is not there."""
        if transaction.get(key, db=self._ages) is None or transaction.get(key, db=self._rows) is not None:
            return False
        self._delete(transaction, key)
        return True

    def _drop_place(self, transaction: "lmdb.Transaction", place: bytes) -> bool:
        """Drop a place in the order that no age points to."""
        generation, key = place[: _NUMBER.size], place[_NUMBER.size :]
        return _get(transaction, key, self._ages) != generation and bool(transaction.delete(place, db=self._order))

    def _delete(self, transaction: "lmdb.Transaction", key: bytes) -> bool:
        generation = _get(transaction, key, self._ages)
        if generation is not None:
            transaction.delete(generation + key, db=self._order)
            transaction.delete(key, db=self._ages)
        return bool(transaction.delete(key, db=self._rows))

    def _used_bytes(self, transaction: "lmdb.Transaction") -> int:
        """Count the bytes of the pages that hold something."""
        return sum(_table_bytes(transaction, table) for table in (self._rows, self._ages, self._order))

    def _has_room(self) -> bool:
        self._lacks_room = shutil.disk_usage(self.folder).free < self.min_free_bytes
        return not self._lacks_room

    def _pages(self, table: Any, take: Callable[[Any], T], prefix: bytes = b"") -> Iterator[list[tuple[bytes, T]]]:
        """Go through the keys of a table that begin with a prefix, in their order, a page a transaction.

        `take` is given a view of the value: where its length will do, nothing else of it is read from disk.
        """
        after = prefix
        while True:
            page: list[tuple[bytes, T]] = []
            with self._environment.begin(buffers=True) as transaction, transaction.cursor(table) as cursor:
                if cursor.set_range(after):
                    for view, value in cursor:
                        key = bytes(view)
                        if not key.startswith(prefix) or len(page) == PAGE_OF_KEYS:
                            break
                        page.append((key, take(value)))
            if not page:
                return
            yield page
            after = page[-1][0] + b"\0"

    def _check_format(self) -> None:
        with self._environment.begin(write=True) as transaction:
            found = transaction.get(b"format", db=self._facts)
            if found is None:
                transaction.put(b"format", FORMAT, db=self._facts)
        if found not in (None, FORMAT):
            self.close()
            raise CacheInvalid(
                f"cache in {self.folder} has format {found.decode()}, this Headwater reads {FORMAT.decode()}; "
                "upgrade Headwater, or name another folder"
            )


def _whole_environment(folder: Path) -> "lmdb.Environment":
    """Open an environment whose file is as long as it says; LMDB would end the process when it reads beyond the end."""
    environment = _environment(folder)
    n_bytes = (folder / "data.mdb").stat().st_size
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if n_bytes < expected:
        environment.close()
        raise lmdb.CorruptedError(f"{n_bytes:,} bytes are left of {expected:,}")
    return environment


def _environment(folder: Path) -> "lmdb.Environment":
    return lmdb.open(
        str(folder),
        map_size=MAP_BYTES,
        max_dbs=4,
        max_readers=MAX_READERS,
        max_spare_txns=16,
        readahead=False,  # look-ups are random
        metasync=False,  # after a power cut the last commit may be gone; the store is whole
        meminit=False,
        mode=0o600,  # embeddings tell much of what they were made from
    )


def _get(transaction: "lmdb.Transaction", key: bytes, table: Any) -> bytes | None:
    found = transaction.get(key, db=table)
    return None if found is None else bytes(found)  # bytes already; for mypy


def _prefix(fingerprint: str | None) -> bytes:
    return b"" if fingerprint is None else bytes.fromhex(fingerprint)


def _table_bytes(transaction: "lmdb.Transaction", table: Any) -> int:
    stat = transaction.stat(table)
    return int(stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]))


def _set_aside(folder: Path, why: str) -> None:
    broken = folder / f"data.mdb.broken-{time.time_ns()}"
    with suppress(FileNotFoundError):  # another process was faster
        os.replace(folder / "data.mdb", broken)
        log.warning("the cache in %s was broken (%s): it is set aside as %s, and begun anew", folder, why, broken.name)
