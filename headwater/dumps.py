"""Dumps: Parquet files of embeddings with their labels -> what they are of, and the examples themselves.

Columns are `embedding` (list of float32 or float16), `label` (string) and, where there are any, `key` and `error`
(strings); the schema's metadata name the fingerprint. A dump is one such file, or a folder of them, with what
`headwater dump` writes beside them. Rows with an error have no embedding, and are left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.dump.manifest import MANIFEST, read_manifest
from extractor.errors import RuntimeMissing
from headwater.errors import DumpInvalid

SUFFIX = ".parquet"
FINGERPRINT_KEY, BACKBONE_KEY = b"headwater.fingerprint", b"headwater.backbone"
EMBEDDING, LABEL, KEY = "embedding", "label", "key"
BESIDE = (MANIFEST, "embeddings.npy", "embeddings.jsonl")


@dataclass(frozen=True)
class DumpFacts:
    """What a dump is of: its fingerprint, how many rows there are, and the backbone's name, where known."""

    fingerprint: str
    n_rows: int
    backbone: str = ""


def is_dump(path: Path) -> bool:
    """Return whether a file, or a folder, is a dump rather than a table or a folder of items."""
    if path.is_dir():
        inside = [file for file in path.iterdir() if not file.name.startswith(".")]
        shards = [file for file in inside if file.name not in BESIDE]
        return bool(shards) and all(file.suffix == SUFFIX for file in shards)
    if path.suffix != SUFFIX or not path.is_file():
        return False
    with _read(path) as parquet:
        return EMBEDDING in parquet.read_schema(path).names


def find(root: Path, relative: str) -> Path:
    """Return the dump that a caller names, below a folder, and nowhere else.

    Raises
    ------
    DumpInvalid
        There is none, or the path leads out: by `..`, from the root, or through a link.
    """
    wrong = DumpInvalid(f"there is no dump {relative[:200]!r}; give the path of one below the folder of dumps")
    if not relative or not relative.isprintable() or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise wrong
    try:
        inside, path = root.resolve(strict=True), (root / relative).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise wrong from None
    if not path.is_relative_to(inside) or not all(file.resolve().is_relative_to(inside) for file in _files(path)):
        raise wrong
    return path


def facts(path: Path) -> DumpFacts:
    """Return what a dump is of, without reading its rows; raises DumpInvalid, RuntimeMissing."""
    with _read(path) as parquet:
        found = [parquet.ParquetFile(file) for file in _files(path)]
        of = {(one.schema_arrow.metadata or {}).get(FINGERPRINT_KEY, b"").decode(errors="replace") for one in found}
        columns = [set(one.schema_arrow.names) for one in found]
        n_rows = sum(one.metadata.num_rows for one in found)
        names = {(one.schema_arrow.metadata or {}).get(BACKBONE_KEY, b"").decode(errors="replace") for one in found}
    if len(of) != 1 or not all(of):
        raise DumpInvalid(
            f"the dump {path.name!r} has {'no files' if not of else 'no one fingerprint'}, only "
            f"{sorted(of) or 'nothing'}; its schema's metadata must name {FINGERPRINT_KEY.decode()!r}; dump it anew"
        )
    if not all({EMBEDDING, LABEL} <= names for names in columns):
        raise DumpInvalid(f"the dump {path.name!r} lacks a column {EMBEDDING!r} or {LABEL!r}; dump it with labels")
    return DumpFacts(of.pop(), n_rows, names.pop() if len(names) == 1 else "")


def read(path: Path) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Return embeddings (n, dim), labels (n,) and keys (n,), or no keys; raises DumpInvalid, RuntimeMissing."""
    with _read(path) as parquet:
        tables = [_without_errors(parquet.read_table(file, memory_map=True)) for file in _files(path)]
        tables = [table for table in tables if table.num_rows]
        if not tables:
            raise DumpInvalid(f"the dump {path.name!r} has no embeddings; look at its column 'error'")
        matrices = [_matrix(table.column(EMBEDDING), path) for table in tables]
        labels = [label for table in tables for label in table.column(LABEL).to_pylist()]
        has_keys = all(KEY in table.column_names for table in tables)
        keys = [str(key) for table in tables for key in table.column(KEY).to_pylist()] if has_keys else []
    if len({matrix.shape[1] for matrix in matrices}) != 1:
        raise DumpInvalid(f"the files of the dump {path.name!r} have embeddings of different lengths; dump it anew")
    if any(label is None for label in labels):
        raise DumpInvalid(f"row {labels.index(None)} of the dump {path.name!r} has no label; give it one, or drop it")
    return np.concatenate(matrices), [str(label) for label in labels], keys


def _without_errors(table: Any) -> Any:
    return table.filter(table.column(EMBEDDING).is_valid())


def _matrix(column: Any, path: Path) -> NDArray[np.float32]:
    """Return a column of lists, all of one length, as (n, dim)."""
    from pyarrow import compute

    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise DumpInvalid(f"the embeddings of the dump {path.name!r} have the lengths {lengths[:5]}; dump it anew")
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return flat.astype(np.float32, copy=False).reshape(-1, lengths[0])


def _files(path: Path) -> list[Path]:
    """Return a dump's files in the order of their rows: those that its manifest names, or all that are there."""
    if (path / MANIFEST).is_file():
        return [path / shard.file for shard in read_manifest(path).shards]
    return sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]


@contextmanager
def _read(path: Path) -> Iterator[Any]:
    """Give the reader of Parquet; what it says of a file that is none becomes ours."""
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise RuntimeMissing("dumps need pyarrow, which is not installed: pip install 'headwater[dump]'") from None
    try:
        yield parquet
    except DumpInvalid:
        raise
    except (ArrowException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DumpInvalid(f"the dump {path.name!r} cannot be read ({type(error).__name__}); dump it anew") from None
