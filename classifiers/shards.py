"""A dump's Parquet files -> what they are of, their columns, and their embeddings (n, dim) float32, mapped if many.

Columns are `key` (string), `embedding` (list of float32 or float16, null where there is an error), `label` (string or
null; several with `|` between), `error` (string or null) and whatever else was carried along; the schema's metadata
name the fingerprint. A dump is a folder of such files or one of them; or an `X.npy` with its keys in `X.npy.txt`, a
line a row, or in `X.jsonl`, an object a row.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import DumpUnreadable

SEPARATOR = "|"  # between several labels of one item
SUFFIX, ARRAY_SUFFIX = ".parquet", ".npy"
SHARD = re.compile(r"part-(\d+)(?:-r(\d+))?\.parquet")  # and the number of its retry
EMBEDDING, LABEL, KEY, ERROR = "embedding", "label", "key", "error"
FINGERPRINT_KEY, BACKBONE_KEY, FORMAT_KEY = b"headwater.fingerprint", b"headwater.backbone", b"headwater.format"
FORMAT = 1  # newer ones are refused
BATCH_ROWS = 8192
# Decoding is slow and takes memory. A million rows of 384 took 1.4 to 4.2 s and 1.6 GB at each opening, as their
# compression is; a copy that is mapped takes 3.5 to 7.7 s once, 1 ms from then on, and memory that the system can
# take back. Parquet's own pages cannot be mapped as arrays, compressed or not.
MAPPED_BYTES = 64 << 20
COPY = ".embeddings-{}.npy"
REST, REST_S = ".new-*", 3600.0  # what a killed process was writing, when it is as old as this
OWN_ARRAY, MANIFEST = "embeddings.npy", "manifest.json"


@dataclass(frozen=True)
class DumpFacts:
    """What a dump is of.

    Parameters
    ----------
    fingerprint, backbone : str
        Empty where the dump does not say.
    n_rows : int
        Items, those that failed among them.
    columns : tuple of str
        Carried along: all but key, embedding, label and error.
    has_labels : bool
        Whether there is a column of labels.
    """

    fingerprint: str
    n_rows: int
    backbone: str = ""
    columns: tuple[str, ...] = ()
    has_labels: bool = True


@dataclass(frozen=True, eq=False)
class Shards:
    """A dump that was read.

    Parameters
    ----------
    facts : DumpFacts
    table : pyarrow.Table of n rows
        Every column but the embeddings.
    valid : ndarray of shape (n,), bool
        Rows that have an embedding.
    matrix : ndarray of shape (n_valid, dim), float32
        Their embeddings, read-only.
    """

    facts: DumpFacts
    table: Any
    valid: NDArray[np.bool_]
    matrix: NDArray[np.float32]


def files_of(path: Path) -> list[Path]:
    """Return the files of a dump, in the order of their rows; of a shard and its retries the last retry alone."""
    if not path.is_dir():
        return [path]
    newest: dict[int, tuple[int, Path]] = {}
    for shard in path.glob(f"*{SUFFIX}"):
        if found := SHARD.fullmatch(shard.name):
            number, retry = int(found[1]), int(found[2] or 0)
            newest[number] = max(newest.get(number, (-1, shard)), (retry, shard))
    return [newest[number][1] for number in sorted(newest)] or sorted(path.glob(f"*{SUFFIX}"))


def is_dump(path: Path) -> bool:
    """Return whether a file, or a folder, is a dump rather than a table or a folder of items.

    Raises
    ------
    DumpUnreadable
        It is named as one, and cannot be read.
    """
    if path.suffix == ARRAY_SUFFIX:
        return path.is_file() and _keys_file(path) is not None
    shards = files_of(path)
    if not shards or shards[0].suffix != SUFFIX or not shards[0].is_file():
        return False
    if path.is_dir() and not SHARD.fullmatch(shards[0].name) and len(shards) < sum(1 for _ in _visible(path)):
        return False
    with reading(path) as parquet:
        return EMBEDDING in parquet.read_schema(shards[0]).names


def read_facts(path: Path) -> DumpFacts:
    """Return what a dump is of, without reading its rows.

    Raises
    ------
    DumpUnreadable
        It is none, or its files are not of one fingerprint.
    """
    return _facts_of(path, files_of(path))


def _facts_of(path: Path, shards: list[Path]) -> DumpFacts:
    if shards and shards[0].suffix == ARRAY_SUFFIX:
        fingerprint, backbone = _said_beside(shards[0])
        return DumpFacts(fingerprint, len(_array(shards[0])), backbone, has_labels=False)
    _check_any(path, shards)
    with reading(path) as parquet:
        found = [parquet.read_metadata(file) for file in shards]
        schemas, n_rows = [one.schema.to_arrow_schema() for one in found], sum(one.num_rows for one in found)
    said = [schema.metadata or {} for schema in schemas]
    of = {one.get(FINGERPRINT_KEY, b"").decode(errors="replace") for one in said}
    backbones = {one.get(BACKBONE_KEY, b"").decode(errors="replace") for one in said}
    if len(of) != 1 or not all(of):
        raise DumpUnreadable(
            f"the dump {path.name!r} has no one fingerprint, only {sorted(of)}; its schema's metadata must name "
            f"{FINGERPRINT_KEY.decode()!r}; dump it anew"
        )
    _check_format(path, {one.get(FORMAT_KEY, b"1").decode(errors="replace") for one in said})
    if not all(EMBEDDING in schema.names for schema in schemas):
        raise DumpUnreadable(f"the dump {path.name!r} lacks a column {EMBEDDING!r}; dump it anew")
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    carried = tuple(name for name in names if name not in (KEY, EMBEDDING, LABEL, ERROR))
    backbone = backbones.pop() if len(backbones) == 1 else ""
    has_labels = all(LABEL in schema.names for schema in schemas)
    return DumpFacts(of.pop(), n_rows, backbone, carried, has_labels)


def read_shards(path: Path, *, mapped: bool = True) -> Shards:
    """Read a dump.

    Parameters
    ----------
    path : Path
    mapped : bool
        Keep a copy of many embeddings beside the dump, as a hidden `.npy` that is mapped from then on, in place of
        decoding them into memory each time. Where it cannot be written there is none.

    Raises
    ------
    DumpUnreadable
        It is no dump, is damaged, or holds embeddings of different lengths.
    """
    shards = files_of(path)  # once, for a dump that is at work commits more
    facts = _facts_of(path, shards)
    if shards[0].suffix == ARRAY_SUFFIX:
        return _read_array(shards[0], facts)
    with reading(path):
        import pyarrow

        tables = [_without_embeddings(shard) for shard in shards]
        has_errors = all(ERROR in table.column_names for table in tables)
        table = pyarrow.concat_tables([_in_words(one, path) for one in tables], promote_options="permissive")
        decoded = _Decoded(path, shards, facts.n_rows)
        if not has_errors:
            return Shards(facts, table, *decoded.in_memory(np.ones(0, bool)))
        valid = np.asarray(table.column(ERROR).is_null())
        return Shards(facts, table, *(decoded.mapped if mapped else decoded.in_memory)(valid))


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Give the reader of Parquet; what it says of a file that is none becomes ours."""
    from pyarrow import ArrowException, parquet

    try:
        yield parquet
    except DumpUnreadable:
        raise
    except FileNotFoundError:  # in this moment: a retry puts another in the place of a shard
        raise DumpUnreadable(f"the dump {path.name!r} was changed while it was read; read it again") from None
    except (ArrowException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DumpUnreadable(f"the dump {path.name!r} cannot be read ({type(error).__name__}); dump it anew") from None


def _opened(file: Path) -> Any:
    """Open a file, to be closed again: a dump of one night has more of them than a process may hold open."""
    from pyarrow import parquet

    return parquet.ParquetFile(file, memory_map=True)


def _without_embeddings(file: Path) -> Any:
    with _opened(file) as opened:
        return opened.read(columns=[name for name in opened.schema_arrow.names if name != EMBEDDING])


def _check_any(path: Path, shards: list[Path]) -> None:
    """Tell a dump of which nothing is there from what is none."""
    if not shards and (path / MANIFEST).is_file():
        raise DumpUnreadable(f"the dump {path.name!r} has no rows; dump a source that has items, or go on with it")
    if not shards:
        raise DumpUnreadable(f"the folder {path.name!r} is no dump: it has no files of one; name the OUT of a dump")
    if path.is_file() and path.suffix != SUFFIX:
        raise DumpUnreadable(f"the file {path.name!r} is no dump; name its folder, one {SUFFIX} of it, or an X.npy")


def _check_format(path: Path, formats: set[str]) -> None:
    for one in formats:
        if not one.isdecimal() or int(one) > FORMAT:
            raise DumpUnreadable(
                f"the dump {path.name!r} is of format {one[:20]!r}, and this version reads up to {FORMAT}; "
                "read it with a newer headwater"
            )


class _Decoded:
    """The embeddings of a dump's files, block by block."""

    def __init__(self, path: Path, files: list[Path], n_rows: int) -> None:
        self._path = path
        self._files = files
        self._n = n_rows
        self._dim = next((dim for dim in map(_dim, files) if dim), 1)

    def in_memory(self, expected: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which rows have an embedding, (n,), and these, (n_valid, dim)."""
        matrix, start, valid = np.empty((self._n, self._dim), np.float32), 0, [np.zeros(0, bool)]
        for there, block in self._blocks():
            valid.append(there)
            matrix[start : start + len(block)] = block
            start += len(block)
        matrix.flags.writeable = False
        self._check(np.concatenate(valid), expected)
        return np.concatenate(valid), matrix[:start]

    def mapped(self, valid: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return the same, many as a map of a copy that is made now or was made before."""
        shape = int(valid.sum()), self._dim
        if 4 * shape[0] * shape[1] < MAPPED_BYTES or not self._path.is_dir():
            return self.in_memory(valid)
        if (own := self._own_array(shape)) is not None:
            return valid, own
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self._files]
        copy = self._path / COPY.format(blake2b(repr((stats, shape)).encode(), digest_size=8).hexdigest())
        try:
            if not copy.is_file():
                self._write(copy, valid)
            return valid, np.load(copy, mmap_mode="r")
        except OSError:  # a folder that may only be read, a full disk
            return self.in_memory(valid)

    def _own_array(self, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Return the array that `headwater dump --npy` wrote beside the shards, where it is of them as they are now."""
        path = self._path / OWN_ARRAY
        try:
            newest = max(file.stat().st_mtime_ns for file in self._files)
            found = np.load(path, mmap_mode="r") if path.stat().st_mtime_ns > newest else None
        except (OSError, ValueError):
            return None
        return found if found is not None and found.shape == shape and found.dtype == np.float32 else None

    def _write(self, copy: Path, valid: NDArray[np.bool_]) -> None:
        """Write plainly, for a map of a disk that fills up would kill the process; former copies and rests go."""
        temporary, found = copy.with_name(f".new-{secrets.token_hex(4)}"), [np.zeros(0, bool)]
        try:
            with temporary.open("xb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (int(valid.sum()), self._dim)}
                np.lib.format.write_array_header_1_0(file, header)
                for there, block in self._blocks():
                    found.append(there)
                    file.write(np.ascontiguousarray(block, "<f4").data)
            self._check(np.concatenate(found), valid)
            rests = (one for one in copy.parent.glob(REST) if time.time() - one.stat().st_mtime > REST_S)
            for former in (*copy.parent.glob(COPY.format("*")), *rests):
                former.unlink(missing_ok=True)
            temporary.replace(copy)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _blocks(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float32]]]:
        """Give which rows of a block have an embedding, (n_block,), and these, (n_valid, dim)."""
        for batch in self._batches():
            column = batch.column(0)
            there, flat = np.asarray(column.is_valid()), column.flatten().to_numpy(zero_copy_only=False)
            lengths = set(column.value_lengths().drop_null().unique().to_pylist())
            if not lengths <= {self._dim}:
                raise DumpUnreadable(
                    f"the embeddings of the dump {self._path.name!r} have different lengths, "
                    f"{sorted(lengths | {self._dim})[:5]}; dump it anew"
                )
            yield there, flat.astype(np.float32, copy=False).reshape(-1, self._dim)

    def _batches(self) -> Iterator[Any]:
        for file in self._files:
            with _opened(file) as opened:
                yield from opened.iter_batches(BATCH_ROWS, columns=[EMBEDDING])

    def _check(self, found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> None:
        if len(expected) and not np.array_equal(found, expected):
            row = int(np.flatnonzero(found != expected)[0])
            raise DumpUnreadable(
                f"row {row:,} of the dump {self._path.name!r} has {'both' if found[row] else 'neither'} an embedding "
                f"{'and' if found[row] else 'nor'} an error; dump it anew"
            )


def _dim(file: Path) -> int:
    """Return the length of a file's embeddings, 0 where no row tells."""
    from pyarrow import types

    with _opened(file) as opened:
        kind = opened.schema_arrow.field(EMBEDDING).type
        if types.is_fixed_size_list(kind):
            return int(kind.list_size)
        first = (batch.column(0).value_lengths().drop_null() for batch in opened.iter_batches(64, columns=[EMBEDDING]))
        return next((int(lengths[0].as_py()) for lengths in first if len(lengths)), 0)


def _in_words(table: Any, path: Path) -> Any:
    """Return a table whose keys, labels and errors are strings, the labels and errors null where there are none."""
    import pyarrow

    for name in (KEY, LABEL, ERROR):
        if name not in table.column_names:
            if name != KEY:
                table = table.append_column(name, pyarrow.nulls(len(table), pyarrow.string()))
            continue
        place = table.column_names.index(name)
        try:
            table = table.set_column(place, name, table.column(name).cast(pyarrow.string()))
        except pyarrow.ArrowException:
            raise DumpUnreadable(
                f"the column {name!r} of the dump {path.name!r} is {table.column(name).type}, and must be strings; "
                "dump it anew"
            ) from None
    return table.replace_schema_metadata(None)


def _array(path: Path) -> NDArray[Any]:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DumpUnreadable(f"{path.name!r} cannot be read ({type(error).__name__}); extract it anew") from None
    if found.ndim != 2 or found.dtype.kind != "f":
        raise DumpUnreadable(f"{path.name!r} is {found.shape} of {found.dtype}, not floats (n, dim); extract it anew")
    return np.asarray(found)


def _read_array(path: Path, facts: DumpFacts) -> Shards:
    import pyarrow

    matrix, keys_file = _array(path), _keys_file(path)
    keys, labels = _keys(keys_file) if keys_file else (None, [None] * len(matrix))
    if keys_file and len(labels) != len(matrix):
        raise DumpUnreadable(
            f"{path.name!r} has {len(matrix):,} rows, and {keys_file.name!r} {len(labels):,} lines; extract it anew"
        )
    words = {LABEL: labels, ERROR: [None] * len(matrix)} | ({} if keys is None else {KEY: keys})
    table = pyarrow.table({name: pyarrow.array(column, pyarrow.string()) for name, column in words.items()})
    rows = matrix if matrix.dtype == np.float32 else matrix.astype(np.float32)
    return Shards(facts, table, np.ones(len(matrix), bool), rows)


def _said_beside(path: Path) -> tuple[str, str]:
    """Return the fingerprint and backbone of an array that stands where a dump wrote it; of another one nothing."""
    try:
        manifest = json.loads((path.parent / MANIFEST).read_bytes()) if path.name == OWN_ARRAY else {}
        return str(manifest.get("fingerprint", "")), str(manifest.get("backbone", ""))
    except (OSError, ValueError, AttributeError):
        return "", ""


def _keys_file(path: Path) -> Path | None:
    beside = path.with_name(f"{path.name}.txt"), path.with_suffix(".jsonl")
    return next((one for one in beside if one.is_file()), None)


def _keys(path: Path) -> tuple[list[str], list[str | None]]:
    with path.open(encoding="utf-8", errors="replace") as file:  # not `splitlines`: keys may hold other line ends
        lines = [line.removesuffix("\n") for line in file]
    if path.suffix == ".txt":
        return lines, [None] * len(lines)
    try:
        rows = [json.loads(line) for line in lines]
        return [str(row[KEY]) for row in rows], [None if row[LABEL] is None else str(row[LABEL]) for row in rows]
    except (ValueError, KeyError, TypeError):
        raise DumpUnreadable(f"{path.name!r} is no list of keys and labels; dump it anew") from None


def _visible(folder: Path) -> Iterator[Path]:
    return (one for one in folder.iterdir() if not one.name.startswith("."))
