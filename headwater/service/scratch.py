"""Bytes that come in parts -> a file without a name beside the tasks; a full disk is told as one. For any thread."""

import os
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Self

from classifiers.errors import TaskUnwritable


class Scratch:
    """An open file; a context manager. It may be closed while another thread uses it: the caller has left.

    Without the lock a write could meet the descriptor of another file, which was opened since.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    TaskUnwritable
    """

    def __init__(self, folder: Path) -> None:
        self._lock = Lock()
        try:  # unbuffered, for what a buffer cannot get rid of is an error again when it is closed
            self._file: FileIO = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # open until `close`
        except OSError as error:
            raise not_kept(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Write all of some bytes; raises TaskUnwritable."""
        with self._lock:
            write(self._file, data)

    def reader(self) -> FileIO:
        """Return the file from its start, open on its own."""
        with self._lock:
            own = FileIO(os.dup(self._file.fileno()))
        own.seek(0)
        return own

    def close(self) -> None:
        """Let go of it, and of what is in it."""
        with self._lock:
            self._file.close()


def write(file: FileIO, data: bytes) -> None:
    """Write all of some bytes; raises TaskUnwritable."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise not_kept(error) from None


def not_kept(error: OSError) -> TaskUnwritable:
    """Return the error of what could not be written."""
    return TaskUnwritable(f"what was sent could not be kept ({error.strerror}); make room on the server, and repeat")
