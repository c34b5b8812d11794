"""Dumps, as the service and the commands read them: what they are of, and their examples, labels and keys.

The format is `classifiers/shards.py`'s; what is wrong with a dump is told by an error that travels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from extractor.errors import RuntimeMissing
from headwater.errors import DumpInvalid

if TYPE_CHECKING:
    from classifiers.embedding_set import EmbeddingSet
    from classifiers.shards import DumpFacts


def is_dump(path: Path) -> bool:
    """Return whether a file, or a folder, is a dump rather than a table or a folder of items."""
    with _reading():
        from classifiers import shards

        return shards.is_dump(path)


def find(root: Path, relative: str) -> Path:
    """Return the dump that a caller names, below a folder, and nowhere else.

    Raises
    ------
    DumpInvalid
        There is none, or the path leads out: by `..`, from the root, or through a link.
    """
    from classifiers.shards import files_of

    wrong = DumpInvalid(f"there is no dump {relative[:200]!r}; give the path of one below the folder of dumps")
    if not relative or not relative.isprintable() or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise wrong
    try:
        inside, path = root.resolve(strict=True), (root / relative).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise wrong from None
    if not path.is_relative_to(inside) or not all(file.resolve().is_relative_to(inside) for file in files_of(path)):
        raise wrong
    return path


def facts(path: Path) -> "DumpFacts":
    """Return what a dump is of, without reading its rows; raises DumpInvalid, RuntimeMissing."""
    with _reading():
        from classifiers.shards import LABEL, read_facts

        found = read_facts(path)
        if not found.fingerprint or not found.has_labels:
            lacking = f"a column {LABEL!r}" if found.fingerprint else "a fingerprint"
            raise DumpInvalid(f"the dump {path.name!r} lacks {lacking}; dump it with labels, as Parquet")
        return found


def read(path: Path) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Return embeddings (n, dim), labels (n,) and keys (n,), or no keys; raises DumpInvalid, RuntimeMissing.

    Items that failed are left out, and nothing is written beside the dump.
    """
    found = opened(path, mapped=False)
    labels = found.y.tolist()
    if not labels:
        raise DumpInvalid(f"the dump {path.name!r} has no embeddings; look at its column 'error', and dump it again")
    if None in labels:
        row, n = int(found.numbers[labels.index(None)]), labels.count(None)
        raise DumpInvalid(
            f"row {row} of the dump {path.name!r} has no label, nor have {n - 1:,} others; give them one, or drop them"
        )
    return found.X, labels, found.keys.tolist() if found.has_keys else []


def opened(path: Path, *, mapped: bool = True) -> "EmbeddingSet":
    """Open a dump as what heads learn from; raises DumpInvalid, RuntimeMissing."""
    with _reading():
        from classifiers.embedding_set import EmbeddingSet

        return EmbeddingSet.open(path, mapped=mapped)


@contextmanager
def _reading() -> Iterator[None]:
    from classifiers.errors import DumpUnreadable

    try:
        yield
    except DumpUnreadable as error:
        raise DumpInvalid(str(error)) from None
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise RuntimeMissing("dumps need pyarrow, which is not installed: pip install 'headwater[dump]'") from None
