"""The SQLite file of one task: its tables, and a connection to it that is durable and trusts nothing in it.

A row that is removed stays until its change can no longer be undone: `gone` is the version that removed it, 0 while
it is there; `since` is the version that brought it. `before` has the class that an example had before a change.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classifiers.errors import ClassifierError, TaskInvalid, TaskNotFound, TaskUnwritable

FORMAT = 1
APPLICATION_ID = 0x48575441  # "HWTA"
BUSY_S = 10.0
CACHE_KIB = 256  # a file; what is read is in memory already, and the rest the system keeps
OF_THE_PLACE = {  # SQLite's codes of what is wrong around a file, and not in it
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}

_TABLES = (
    "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE classes (number INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT NOT NULL, since INTEGER NOT NULL, "
    "gone INTEGER NOT NULL DEFAULT 0)",
    "CREATE UNIQUE INDEX class_label ON classes (label) WHERE gone = 0",
    "CREATE TABLE examples (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, class INTEGER NOT NULL, "
    "note TEXT, item_key BLOB, created TEXT NOT NULL, since INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0)",
    "CREATE UNIQUE INDEX example_id ON examples (id) WHERE gone = 0",
    "CREATE INDEX example_class ON examples (class) WHERE gone = 0",
    "CREATE INDEX example_since ON examples (since)",
    "CREATE INDEX example_gone ON examples (gone) WHERE gone > 0",
    # Apart from the examples, so that what changes a label or removes a row rewrites no embedding.
    "CREATE TABLE embeddings (number INTEGER PRIMARY KEY, crc INTEGER NOT NULL, embedding BLOB NOT NULL)",
    "CREATE TABLE items (number INTEGER PRIMARY KEY, item BLOB NOT NULL)",
    "CREATE TABLE before (version INTEGER NOT NULL, number INTEGER NOT NULL, class INTEGER NOT NULL, "
    "PRIMARY KEY (version, number)) WITHOUT ROWID",
    "CREATE TABLE history (version INTEGER PRIMARY KEY, kind TEXT NOT NULL, detail TEXT NOT NULL, "
    "n_examples INTEGER NOT NULL, created TEXT NOT NULL, kept INTEGER NOT NULL, undone_by INTEGER)",
)


def connect(path: Path, *, staged: bool = False) -> sqlite3.Connection:
    """Open a task's file; a commit is on disk when it returns (WAL, synchronous=FULL).

    Parameters
    ----------
    path : Path
    staged : bool
        It has not its name yet: commits need not wait for the disk, because all of it is synced before it has.

    Raises
    ------
    TaskInvalid
        It is damaged, of a newer format, or no task.
    TaskUnwritable
        There is no room for the index that SQLite keeps beside it, or no right to write there.
    TaskNotFound
    """
    connection: sqlite3.Connection | None = None
    try:
        # By its URI: a file that is not there is not made.
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        for pragma in (
            "trusted_schema=OFF",
            "cell_size_check=ON",
            f"synchronous={'OFF' if staged else 'FULL'}",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        _check(connection, path)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise unreadable(path, error) from None
    except TaskInvalid:
        if connection is not None:
            connection.close()
        raise
    return connection


def create(path: Path) -> None:
    """Make a staged file with a task's tables, and nothing in them; raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def damaged(path: Path, error: Exception) -> TaskInvalid:
    """Return the error of a file that SQLite cannot read."""
    return TaskInvalid(
        f"{path} cannot be read ({error}): it is damaged, or no task; delete the task, and import an export of it"
    )


def unreadable(path: Path, error: sqlite3.Error) -> ClassifierError:
    """Return the error of a file that SQLite could not read: nobody shall delete a task because the disk is full."""
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in OF_THE_PLACE:
        return damaged(path, error)
    if not path.exists():
        return TaskNotFound(f"{path} is no longer there; the task was deleted meanwhile")
    return TaskUnwritable(
        f"{path} could not be opened ({error}), which takes a little room beside it even to read; nothing is lost: "
        "make room on the disk, or the folder writable, and repeat"
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what SQLite says while it writes into our errors.

    Raises
    ------
    TaskUnwritable
        The disk is full, or fails.
    TaskInvalid
        The file is damaged.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise TaskUnwritable(
            f"{path} could not be written ({error}), and nothing was changed; make room on the disk, or mend it, and "
            "repeat"
        ) from None
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from None


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Commit what is done within, or nothing of it; raises TaskUnwritable, TaskInvalid."""
    with writing(path):
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a file that it cannot read into TaskInvalid, or TaskUnwritable; see `connect`."""
    try:
        yield
    except sqlite3.Error as error:
        raise unreadable(path, error) from None


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise TaskInvalid(f"{path} is no task, but another program's file; name a file that an export has made")
    if found != FORMAT:
        raise TaskInvalid(f"task in {path} has format {found}, this Headwater reads {FORMAT}; upgrade Headwater")
    # Its own statements only: a trigger or a view of a stranger would run within ours.
    statements = {row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    if statements != {*_TABLES, "CREATE TABLE sqlite_sequence(name,seq)"}:
        raise TaskInvalid(f"{path} has other tables than a task has; name a file that an export has made")
