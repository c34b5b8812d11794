"""A folder -> an LMDB environment that is whole, and stays within its bound.

LMDB (Chu, "MDB: A Memory-Mapped Database and Backend for OpenLDAP", 2011) lets many processes read while one writes,
survives a kill at any moment, and reads without a copy or a lock. It trusts its file: what it would not survive is
found out here, before it looks.
"""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb

log = logging.getLogger(__name__)

Transaction = Any  # lmdb types what it gives as bytes or memoryview; it is bytes unless one asks for buffers

DATA = "data.mdb"
LOCK = "lock.mdb"
MAP_BYTES = 1 << 40  # of address space, no more; the same in every process, so that none outgrows another's map
MAX_TABLES = 4
MAX_READERS = 1024  # threads that read at once, of all processes
LOCK_BYTES = 64 * (MAX_READERS + 16)  # of their table
BLOCK_BYTES = 512  # in which `stat` counts
BROKEN = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError)
HELD_S = 0.5  # that a writer waits for readers; longer ones are stopped processes


def open_environment(folder: Path) -> "lmdb.Environment":
    """Open the environment of a folder, or begin one.

    Raises
    ------
    OSError, lmdb.Error
        The folder cannot be written, or (one of BROKEN) its file is none of LMDB's, or shorter than it says: LMDB would
        end the process when it reads beyond the end.
    """
    _reserve(folder / LOCK)
    environment = lmdb.open(
        str(folder),
        map_size=MAP_BYTES,
        max_dbs=MAX_TABLES,
        max_readers=MAX_READERS,
        max_spare_txns=16,
        readahead=False,  # look-ups are random
        metasync=False,  # after a power cut the last commit may be gone; the store is whole
        meminit=False,
        mode=0o600,  # embeddings tell much of what they were made from
    )
    n_bytes, expected = _lengths(folder, environment)
    if n_bytes < expected:
        environment.close()
        raise lmdb.CorruptedError(f"{n_bytes:,} bytes are left of {expected:,}")
    environment.reader_check()  # frees what killed processes held
    return environment


def set_aside(folder: Path, why: str) -> None:
    """Move a broken file out of the way, for whoever wants to look at it; the one before it goes."""
    broken = folder / f"{DATA}.broken"
    with suppress(FileNotFoundError):  # another process was faster
        os.replace(folder / DATA, broken)
        log.warning("the cache in %s was broken (%s): it is set aside as %s, and begun anew", folder, why, broken.name)


def lengthen(folder: Path, environment: "lmdb.Environment") -> None:
    """Make the file as long as it says, after a commit.

    LMDB does not write pages at the end that a transaction took and gave back. Nobody reads those, but
    `open_environment` takes a file that is too short for a broken one.
    """
    n_bytes, expected = _lengths(folder, environment)
    if n_bytes < expected:
        with suppress(OSError):
            os.truncate(folder / DATA, expected)


def await_readers(environment: "lmdb.Environment", *, max_bytes: float) -> bool:
    """Wait, where the file is longer than a bound, until what former transactions freed can be used again.

    That is when nobody, in any process, reads what was before the last commit. False where somebody goes on reading.
    """
    until = time.monotonic() + HELD_S
    while _length(environment) > max_bytes and _is_held(environment):
        if time.monotonic() > until:
            return False
        time.sleep(0.001)
    return True


def used_bytes(transaction: Transaction, tables: tuple[Any, ...]) -> int:
    """Count the bytes of the pages that hold something of these tables."""
    stats = [transaction.stat(table) for table in tables]
    return sum(stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) for stat in stats)


def _is_held(environment: "lmdb.Environment") -> bool:
    environment.reader_check()  # frees what killed processes held
    last = environment.info()["last_txnid"]
    readers = [line.split() for line in environment.readers().splitlines()[1:]]  # process, thread, snapshot
    return any(snapshot.isdigit() and int(snapshot) < last for *_, snapshot in readers)


def _length(environment: "lmdb.Environment") -> int:
    return int((environment.info()["last_pgno"] + 1) * environment.stat()["psize"])


def _lengths(folder: Path, environment: "lmdb.Environment") -> tuple[int, int]:
    """Return how long the file is, and how long it says that it is; none is ever made shorter."""
    expected = _length(environment)
    return (folder / DATA).stat().st_size, expected


def _reserve(lock: Path) -> None:
    """Give the table of readers its room: LMDB maps it, and where the disk is full a write there ends the process.

    One that has it is not opened: a process that closes a file gives up all its locks on it, and this one may have the
    environment open, whose lock tells the others that it is alive.
    """
    has_room = lock.exists() and lock.stat().st_blocks * BLOCK_BYTES >= LOCK_BYTES
    if hasattr(os, "posix_fallocate") and not has_room:  # not on macOS
        with lock.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, LOCK_BYTES)
