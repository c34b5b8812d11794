"""A task's file <-> the parts in which it travels; a file that is written appears when it is whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART_BYTES = 1 << 20


def parts_of(path: Path) -> Iterator[bytes]:
    """Return the parts of a file; raises OSError, at once where it cannot be opened."""
    path.open("rb").close()
    return _parts(path)


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            yield part


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write, which gets its name, in place of what has it, when the block ends well; raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
