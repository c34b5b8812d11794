"""Bytes that come in parts -> a file without a name beside the tasks; a full disk is told as one. For any thread."""

from io import FileIO
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from classifiers.errors import TaskUnwritable

if TYPE_CHECKING:
    from headwater.service.tasks import Tasks


def begun(tasks: "Tasks") -> FileIO:
    """Return an empty file; unbuffered, for what a buffer cannot get rid of is an error again when it is closed."""
    try:
        return TemporaryFile(dir=tasks.store.folder, buffering=0)
    except OSError as error:
        raise not_kept(error) from None


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
