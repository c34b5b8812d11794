"""The disk tier: an LMDB environment in one folder, shared by a machine's processes, least recently used out first.

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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self

import lmdb

from extractor.cache import CacheFacts, Entry, fingerprint_of, row
from extractor.cache.store import Checked, Holding
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded

Transaction = Any  # lmdb types what it gives as bytes or memoryview; it is bytes unless one asks for buffers

log = logging.getLogger(__name__)

FORMAT = b"1"
DATA = "data.mdb"
MIN_BYTES = 8 << 20
MAP_BYTES = 1 << 40  # of address space, no more; the same in every process, so that none outgrows another's map
MAX_READERS = 1024  # threads that read at once, of all processes
LOCK_BYTES = 64 * (MAX_READERS + 16)  # of their table
FULL = 0.75  # of the bound; the rest is for pages that wait for their last reader, and for gaps
GENERATIONS = 32  # to a turnover of the whole store
TRANSACTIONS = 32  # to a turnover at least, so that what one frees is small beside the bound
MAX_TRANSACTION_BYTES = 32 << 20
NEAR = 0.85  # of the bound: from here on a writer waits for readers
HELD_S = 0.5  # that a writer waits for readers; longer ones are stopped processes
ENTRY_BYTES = 4 * 4096  # beside its row: the pages that one entry, and the one it evicts, have rewritten
MAX_TOUCHED = 65_536  # keys that wait to be made young; more are forgotten
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
            if len(encoded) > self._max_transaction_bytes:
                with self._lock:
                    self._dropped["too large"] += 1
                continue
            if bulk and n_bytes + len(encoded) + ENTRY_BYTES * len(bulk) > self._max_transaction_bytes:
                n_stored += self._commit(bulk, n_bytes)
                bulk, n_bytes = [], 0
            bulk.append((key, encoded))
            n_bytes += len(encoded)
        return n_stored + self._commit(bulk, n_bytes)

    def facts(self) -> CacheFacts:
        """Return how the store is."""
        with self._environment.begin() as transaction:
            n_entries = transaction.stat(self._rows)["entries"]
            n_bytes = self._used_bytes(transaction)
        lacks = f"less than {self.min_free_bytes:,} bytes are free in {self.folder}"
        with self._lock:
            return CacheFacts(
                tier="disk",
                n_entries=n_entries,
                n_bytes=n_bytes,
                max_bytes=self.max_bytes,
                stored=self._counts["stored"],
                dropped=dict(self._dropped),
                spoilt=self._counts["spoilt"],
                degraded=lacks if self._lacks_room else None,
            )

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    def holdings(self) -> list[Holding]:
        """Count entries and bytes by backbone; reads every key."""
        entries, sizes = Counter[str](), Counter[str]()
        for page in self._pages(None):
            for key, raw in page:
                fingerprint = fingerprint_of(key)
                entries[fingerprint] += 1
                sizes[fingerprint] += len(raw)
        return [Holding(name, entries[name], sizes[name]) for name in sorted(entries)]

    def scan(self, fingerprint: str | None = None) -> Iterator[Entry]:
        """Yield every entry, or those of one backbone; rows whose checksum fails are left out."""
        for page in self._pages(fingerprint):
            for key, raw in page:
                entry = row.decode(key, raw)
                if entry is not None:
                    yield key, entry

    def purge(self, fingerprint: str | None = None) -> int:
        """Drop every entry, or those of one backbone; return how many. The file keeps its size for others."""
        n = 0
        for page in self._pages(fingerprint):
            with self._environment.begin(write=True) as transaction:
                n += sum(self._delete(transaction, key) for key, _ in page)
        return n

    def check(self) -> Checked:
        """Read every row, drop those whose checksum fails, and mend the order of age."""
        n_rows = n_spoilt = 0
        for page in self._pages(None):
            n_rows += len(page)
            spoilt = [key for key, raw in page if row.decode(key, raw) is None]
            n_spoilt += len(spoilt)
            with self._environment.begin(write=True) as transaction:
                for key in spoilt:
                    self._delete(transaction, key)
                for key, _ in page:
                    self._mend_age(transaction, key)
        return Checked(n_rows, n_spoilt)

    @property
    def _max_transaction_bytes(self) -> int:
        return min(MAX_TRANSACTION_BYTES, self.max_bytes // TRANSACTIONS)

    def _commit(self, bulk: Sequence[tuple[bytes, bytes]], n_bytes: int) -> int:
        if not self._await_readers():
            with self._lock:
                self._dropped["held by a reader"] += len(bulk)
            return 0
        with self._lock:
            touched = set(islice(self._touched, self._max_transaction_bytes // ENTRY_BYTES))
            self._touched -= touched
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
        self._lengthen()
        with self._lock:
            self._counts["stored"] += len(bulk)
        return len(bulk)

    def _lengthen(self) -> None:
        """Make the file as long as it says: LMDB does not write pages at its end that a transaction took and gave back.

        Nobody reads those, but `open` takes a file that is too short for a broken one.
        """
        n_bytes, expected = _lengths(self.folder, self._environment)
        if n_bytes < expected:
            with suppress(OSError):
                os.truncate(self.folder / DATA, expected)

    def _await_readers(self) -> bool:
        """Wait until a transaction finds its pages within the bound; False where a reader holds on to too many.

        What a transaction frees is used again once nobody reads what was before it.
        """
        until = time.monotonic() + HELD_S
        while self._is_long() and self._is_held():
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
        return True

    def _is_long(self) -> bool:
        n_pages = self._environment.info()["last_pgno"] + 1
        return bool(n_pages * self._environment.stat()["psize"] > NEAR * self.max_bytes)

    def _is_held(self) -> bool:
        """Tell whether somebody, in any process, still reads what was before the last commit."""
        self._environment.reader_check()  # frees what killed processes held
        last = self._environment.info()["last_txnid"]
        readers = [line.split() for line in self._environment.readers().splitlines()[1:]]  # process, thread, snapshot
        return any(snapshot.isdigit() and int(snapshot) < last for *_, snapshot in readers)

    def _advance(self, transaction: Transaction, n_bytes: int) -> bytes:
        """Count what is written, and return the generation that it belongs to."""
        generation, written = _SIZES.unpack(transaction.get(b"generation", bytes(_SIZES.size), db=self._facts))
        written += n_bytes
        if written * GENERATIONS > self.max_bytes:
            generation, written = generation + 1, 0
        transaction.put(b"generation", _SIZES.pack(generation, written), db=self._facts)
        return _NUMBER.pack(generation)

    def _make_young(self, transaction: Transaction, key: bytes, generation: bytes) -> None:
        old = transaction.get(key, db=self._ages)
        if old == generation:
            return
        if old is not None:
            transaction.delete(old + key, db=self._order)
        transaction.put(key, generation, db=self._ages)
        transaction.put(generation + key, b"", db=self._order)

    def _mend_age(self, transaction: Transaction, key: bytes) -> None:
        """Give a row that eviction would never come to, for want of an age, the greatest."""
        oldest = bytes(_NUMBER.size)
        aged = transaction.get(key, oldest, db=self._ages) + key
        if transaction.get(aged, db=self._order) is None and transaction.get(key, db=self._rows) is not None:
            transaction.put(key, oldest, db=self._ages)
            transaction.put(oldest + key, b"", db=self._order)

    def _evict(self, transaction: Transaction) -> None:
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
                    aged = oldest.key()
                    self._delete(transaction, aged[_NUMBER.size :])
                    transaction.delete(aged, db=self._order)  # whatever ages says, or it would stand first for ever
                    n_evicted += 1
                used = self._used_bytes(transaction)
        with self._lock:
            self._counts["evicted"] += n_evicted

    def _drop_if_spoilt(self, transaction: Transaction, key: bytes) -> None:
        raw = transaction.get(key, db=self._rows)
        if raw is not None and row.decode(key, raw) is None:
            self._delete(transaction, key)

    def _delete(self, transaction: Transaction, key: bytes) -> bool:
        generation = transaction.get(key, db=self._ages)
        if generation is not None:
            transaction.delete(generation + key, db=self._order)
            transaction.delete(key, db=self._ages)
        return bool(transaction.delete(key, db=self._rows))

    def _used_bytes(self, transaction: Transaction) -> int:
        """Count the bytes of the pages that hold something."""
        return sum(_table_bytes(transaction.stat(table)) for table in (self._rows, self._ages, self._order))

    def _has_room(self) -> bool:
        self._lacks_room = shutil.disk_usage(self.folder).free < self.min_free_bytes
        return not self._lacks_room

    def _pages(self, fingerprint: str | None) -> Iterator[list[tuple[bytes, bytes]]]:
        """Go through the rows of all backbones, or of one, in the order of their keys, a page a transaction."""
        prefix = b"" if fingerprint is None else bytes.fromhex(fingerprint)
        after = prefix
        while True:
            page: list[tuple[bytes, bytes]] = []
            with self._environment.begin() as transaction, transaction.cursor(self._rows) as cursor:
                if cursor.set_range(after):
                    entries: Any = cursor
                    for key, raw in entries:
                        if not key.startswith(prefix) or len(page) == PAGE_OF_KEYS:
                            break
                        page.append((key, raw))
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
    n_bytes, expected = _lengths(folder, environment)
    if n_bytes < expected:
        environment.close()
        raise lmdb.CorruptedError(f"{n_bytes:,} bytes are left of {expected:,}")
    return environment


def _environment(folder: Path) -> "lmdb.Environment":
    _reserve(folder / "lock.mdb")
    return lmdb.open(
        str(folder),
        map_size=MAP_BYTES,
        max_dbs=4,
        max_readers=MAX_READERS,
        max_spare_txns=16,
        readahead=False,  # look-ups are random
        metasync=False,  # after a power cut the last commit may be gone; the store is whole
        meminit=False,
    )


def _lengths(folder: Path, environment: "lmdb.Environment") -> tuple[int, int]:
    """Return how long the file is, and how long it says that it is; none is ever made shorter."""
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    return (folder / DATA).stat().st_size, expected


def _reserve(lock: Path) -> None:
    """Give the table of readers its room: LMDB maps it, and where the disk is full a write there ends the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with lock.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, LOCK_BYTES)


def _table_bytes(stat: Any) -> int:
    return int(stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]))


def _set_aside(folder: Path, why: str) -> None:
    broken = folder / f"data.mdb.broken-{time.time_ns()}"
    with suppress(FileNotFoundError):  # another process was faster
        os.replace(folder / "data.mdb", broken)
        log.warning("the cache in %s was broken (%s): it is set aside as %s, and begun anew", folder, why, broken.name)
