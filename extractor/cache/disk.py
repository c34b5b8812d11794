"""The disk tier: embeddings in an LMDB environment in a folder, which processes share, least recently used out first.

`rows` has the entries, by key; `ages` says when each was last used; `environment` keeps the file whole and in bounds.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import lmdb

from extractor.cache import CacheFacts, Entry, fingerprint_of, row
from extractor.cache.ages import Ages
from extractor.cache.environment import (
    BROKEN,
    MAP_BYTES,
    Transaction,
    await_readers,
    lengthen,
    open_environment,
    set_aside,
    used_bytes,
)
from extractor.cache.store import Checked, Holding
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded

T = TypeVar("T")

FORMAT = b"1"
MIN_BYTES = 8 << 20
FULL = 0.75  # of the bound; the rest is for pages that wait for their last reader, and for gaps
NEAR = 0.85  # of the bound: from here on a writer waits for readers
TRANSACTIONS = 32  # to a turnover at least, so that what one frees is small beside the bound
MAX_TRANSACTION_BYTES = 32 << 20
ENTRY_BYTES = 4 * 4096  # beside its row: the pages that one entry, and the one it evicts, have rewritten
MAX_EVICTED = MAX_TRANSACTION_BYTES // ENTRY_BYTES  # in one transaction, which LMDB and memory have to hold
MAX_NOTED = 65_536  # keys that wait to be made young, or dropped; more are forgotten
PAGE_OF_KEYS = 512  # gone through in one transaction when all are, so that pages are never held for long


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
        self._rows = environment.open_db(b"rows")
        self._facts = environment.open_db(b"facts")
        self._ages = Ages(environment)
        self._tables = (self._rows, self._ages.ages, self._ages.order)
        self._touched: set[bytes] = set()
        self._spoilt: set[bytes] = set()
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._lacks_room = False
        self._lock = threading.Lock()  # of what is noted and counted

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
            store = cls(folder, open_environment(folder), **bounds)
        except BROKEN as error:
            set_aside(folder, str(error))
            store = cls(folder, open_environment(folder), **bounds)
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
            if len(self._touched) < MAX_NOTED:
                self._touched.update(hits)
            if len(self._spoilt) < MAX_NOTED:
                self._spoilt.update(spoilt)
            self._counts["spoilt"] += len(spoilt)
        return found

    def put_many(self, entries: Sequence[Entry]) -> int:
        """Store entries, make young what was looked up, drop what is spoilt, and evict the oldest beyond the bound."""
        if not self._has_room():
            self._drop("no room on disk", len(entries))
            return 0
        bulk: list[tuple[bytes, bytes]] = []
        n_bytes = n_stored = 0
        for key, entry in entries:
            encoded = row.encode(key, entry)
            if len(encoded) > self._max_transaction_bytes:
                self._drop("too large", 1)
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
            n_bytes = used_bytes(transaction, self._tables)
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
                n_astray += sum(self._has(transaction, key) and self._ages.give(transaction, key) for key, _ in page)
        for ages in self._pages(self._ages.ages, len):
            with self._environment.begin(write=True) as transaction:
                n_astray += sum(self._drop_if_astray(transaction, key) for key, _ in ages)
        for order in self._pages(self._ages.order, len):
            with self._environment.begin(write=True) as transaction:
                n_astray += sum(self._ages.drop_place(transaction, place) for place, _ in order)
        return Checked(n_rows, n_spoilt, n_astray)

    @property
    def _max_transaction_bytes(self) -> int:
        return min(MAX_TRANSACTION_BYTES, self.max_bytes // TRANSACTIONS)

    def _commit(self, bulk: Sequence[tuple[bytes, bytes]], n_bytes: int) -> int:
        if not await_readers(self._environment, max_bytes=NEAR * self.max_bytes):
            self._drop("held by a reader", len(bulk))
            return 0
        with self._lock:
            touched = set(islice(self._touched, self._max_transaction_bytes // ENTRY_BYTES))
            self._touched -= touched
            spoilt, self._spoilt = self._spoilt, set()
        with self._environment.begin(write=True) as transaction:
            generation = self._ages.advance(transaction, n_bytes, self.max_bytes)
            for key in spoilt:
                self._drop_if_spoilt(transaction, key)
            for key, encoded in bulk:
                transaction.put(key, encoded, db=self._rows)
                self._ages.make_young(transaction, key, generation)
            for key in touched:
                if self._ages.knows(transaction, key):
                    self._ages.make_young(transaction, key, generation)
            is_over = self._evict(transaction)
        lengthen(self.folder, self._environment)
        with self._lock:
            self._counts["stored"] += len(bulk)
        while is_over and await_readers(self._environment, max_bytes=NEAR * self.max_bytes):
            with self._environment.begin(write=True) as transaction:
                is_over = self._evict(transaction)
            lengthen(self.folder, self._environment)
        return len(bulk)

    def _evict(self, transaction: Transaction) -> bool:
        """Delete the oldest until what is left is within its share of the bound; True where that takes another turn.

        It does where the bound was larger before, or another process has a larger one.
        """
        n, bound, left = 0, FULL * self.max_bytes, MAX_EVICTED
        with closing(self._ages.oldest(transaction)) as oldest:
            while left and (used := used_bytes(transaction, self._tables)) > bound:
                mean = used / max(1, transaction.stat(self._rows)["entries"])
                most = min(left, 1 + int((used - bound) / mean))  # as many as the mean size says
                several = list(islice(oldest, most))
                if not several:
                    break
                n += sum(self._delete(transaction, key) for key in several)
                left -= len(several)
        with self._lock:
            self._counts["evicted"] += n
        return not left

    def _delete(self, transaction: Transaction, key: bytes) -> bool:
        self._ages.forget(transaction, key)
        return bool(transaction.delete(key, db=self._rows))

    def _has(self, transaction: Transaction, key: bytes) -> bool:
        return transaction.get(key, db=self._rows) is not None

    def _drop_if_spoilt(self, transaction: Transaction, key: bytes) -> bool:
        raw = transaction.get(key, db=self._rows)
        return raw is not None and row.decode(key, raw) is None and self._delete(transaction, key)

    def _drop_if_astray(self, transaction: Transaction, key: bytes) -> bool:
        """Drop the age of a row that is not there."""
        if self._has(transaction, key) or not self._ages.knows(transaction, key):
            return False
        self._ages.forget(transaction, key)
        return True

    def _drop(self, why: str, n_entries: int) -> None:
        with self._lock:
            self._dropped[why] += n_entries

    def _has_room(self) -> bool:
        self._lacks_room = shutil.disk_usage(self.folder).free < self.min_free_bytes
        return not self._lacks_room

    def _degraded(self) -> str | None:
        if not self._lacks_room:
            return None
        return f"nothing is stored: less than {self.min_free_bytes:,} bytes are free in {self.folder}"

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
            found: Any = transaction.get(b"format", db=self._facts)
            if found is None:
                transaction.put(b"format", FORMAT, db=self._facts)
        if found not in (None, FORMAT):
            self.close()
            raise CacheInvalid(
                f"cache in {self.folder} has format {found.decode()}, this Headwater reads {FORMAT.decode()}; "
                "upgrade Headwater, or name another folder"
            )


def _prefix(fingerprint: str | None) -> bytes:
    return b"" if fingerprint is None else bytes.fromhex(fingerprint)
