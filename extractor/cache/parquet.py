"""A store <-> a Parquet file, by which a warm cache goes from one machine to another: a row an entry.

| column | type | |
|---|---|---|
| fingerprint | string (dictionary) | 32 hexadecimal digits: the backbone |
| key | fixed_size_binary(32) | of the item: what follows the fingerprint in `extractor.cache.item_key` |
| truncated | bool | the item's end was left out |
| checksum | fixed_size_binary(8) | as `extractor.cache.row` has it: over key, mark and embedding |
| embedding | list of float32 | (dim,) |

Both ways go by row groups of some MiB, whatever the store holds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from extractor.cache import Entry, fingerprint_of, row
from extractor.cache.store import Store
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded

FORMAT = 1
FORMAT_KEY = b"headwater.cache.format"
GROUP_BYTES = 16 << 20
GROUP_ROWS = 16_384
BATCH_ROWS = 1024  # read, and stored, at once
_DAMAGED = (OSError, ValueError, pa.ArrowException)  # ValueError: a text in it that is not UTF-8
_PREFIX_BYTES, _KEY_BYTES = 16, 32
_NAMES = ("fingerprint", "key", "truncated", "checksum", "embedding")
_TYPES = (
    pa.dictionary(pa.int32(), pa.string()),
    pa.binary(_KEY_BYTES),
    pa.bool_(),
    pa.binary(row.CHECKSUM_BYTES),
    pa.list_(pa.float32()),
)
SCHEMA = pa.schema(list(zip(_NAMES, _TYPES, strict=True)), metadata={FORMAT_KEY: str(FORMAT).encode()})

Told = Callable[[int], object]  # is told how many rows more are done


@dataclass(frozen=True)
class Imported:
    """What became of the rows of a file.

    Parameters
    ----------
    n_rows, n_stored : int
    n_malformed : int
        Their checksum, their dimension or a value was wrong, or they could not be read.
    n_refused : int
        They were sound, and the store had no room.
    """

    n_rows: int
    n_stored: int
    n_malformed: int

    @property
    def n_refused(self) -> int:
        """Sound rows that the store had no room for."""
        return self.n_rows - self.n_stored - self.n_malformed


def write(store: Store, path: Path, *, fingerprint: str | None = None, told: Told = bool) -> int:
    """Write every entry of a store, or those of one backbone, to a file; return how many.

    The file is there when it is whole: it is written under another name, and renamed.

    Parameters
    ----------
    store : Store
    path : Path
    fingerprint : str, optional
    told : callable, optional

    Raises
    ------
    CacheInvalid
        The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    n_rows = 0
    try:
        with pq.ParquetWriter(temporary, SCHEMA, use_dictionary=["fingerprint"], compression="none") as file:
            for group in _groups(store.scan(fingerprint)):
                file.write_table(_table(group), row_group_size=GROUP_ROWS)
                n_rows += len(group)
                told(len(group))
        temporary.replace(path)
    except OSError as error:
        raise CacheInvalid(f"cannot write {path}: {error.strerror or error}; choose another file") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return n_rows


def n_rows(path: Path) -> int:
    """Return how many rows a file has; raises CacheInvalid where it is no dump of a cache, or a newer one."""
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def read(store: Store, path: Path, *, dims: Mapping[str, int] | None = None, told: Told = bool) -> Imported:
    """Put what a file holds into a store; rows that are not what once was written are left out, and counted.

    Parameters
    ----------
    store : Store
    path : Path
    dims : mapping of str to int, optional
        Lengths of the embeddings of known backbones, by fingerprint; of others, the first sound row tells.
    told : callable, optional

    Raises
    ------
    CacheInvalid
        The file is no dump of a cache, or a newer one.
    """
    known = dict(dims or {})
    n_stored = n_sound = 0
    with _opened(path) as file:
        total = int(file.metadata.num_rows)
        for batch in _batches(file):
            entries = [entry for entry in _entries(batch) if entry is not None and _fits(entry, known)]
            n_sound += len(entries)
            n_stored += store.put_many(entries) if entries else 0
            told(batch.num_rows)
    return Imported(total, n_stored, total - n_sound)


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    n_bytes = 0
    for entry in entries:
        group.append(entry)
        n_bytes += entry[1].embedding.nbytes
        if n_bytes >= GROUP_BYTES or len(group) == GROUP_ROWS:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _table(entries: Sequence[Entry]) -> pa.Table:
    rows = [embedded.embedding for _, embedded in entries]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    columns = [
        pa.array([fingerprint_of(key) for key, _ in entries]).dictionary_encode(),
        pa.array([key[_PREFIX_BYTES:] for key, _ in entries], pa.binary(_KEY_BYTES)),
        pa.array([embedded.truncated for _, embedded in entries]),
        pa.array([_checksum(entry) for entry in entries], pa.binary(row.CHECKSUM_BYTES)),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows))),
    ]
    return pa.table(columns, schema=SCHEMA)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except _DAMAGED as error:
        raise CacheInvalid(f"cannot read {path}: {error}; name a file that `headwater cache export` wrote") from None
    try:
        _check(path, file.schema_arrow)
    except CacheInvalid:
        file.close()
        raise
    return file


def _check(path: Path, schema: pa.Schema) -> None:
    form = (schema.metadata or {}).get(FORMAT_KEY, b"").decode(errors="replace")
    if form.isdecimal() and int(form) > FORMAT:
        raise CacheInvalid(f"{path} has format {form}, this Headwater reads {FORMAT}; upgrade Headwater")
    if not form.isdecimal() or not schema.equals(SCHEMA):
        raise CacheInvalid(f"{path} is no dump of a cache; name a file that `headwater cache export` wrote")


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """Yield what can be read; of a row group that is damaged, nothing more."""
    for group in range(file.num_row_groups):
        with suppress(*_DAMAGED):
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group]):
                batch.validate(full=True)
                yield batch


def _entries(batch: pa.RecordBatch) -> Iterator[Entry | None]:
    """Yield each row that is what was written, None for one that is not."""
    fingerprints, keys, truncated, checksums = (batch.column(name).to_pylist() for name in _NAMES[:-1])
    column = batch.column("embedding")
    offsets, values = column.offsets.to_pylist(), column.values.to_numpy(zero_copy_only=False)
    for i, (fingerprint, key, mark, checksum) in enumerate(zip(fingerprints, keys, truncated, checksums, strict=True)):
        embedding = values[offsets[i] : offsets[i + 1]]
        prefix = _prefix(fingerprint)
        if prefix is None or key is None or mark is None or not (len(embedding) and np.isfinite(embedding).all()):
            yield None
            continue
        entry = prefix + key, Embedded(embedding, mark)
        yield entry if _checksum(entry) == checksum else None


def _fits(entry: Entry, dims: dict[str, int]) -> bool:
    key, embedded = entry
    return len(embedded.embedding) == dims.setdefault(fingerprint_of(key), len(embedded.embedding))


def _checksum(entry: Entry) -> bytes:
    return row.encode(*entry)[: row.CHECKSUM_BYTES]


def _prefix(fingerprint: str | None) -> bytes | None:
    """Return what a key begins with; None where the column holds no fingerprint."""
    with suppress(ValueError):
        prefix = bytes.fromhex(fingerprint or "")
        return prefix if len(prefix) == _PREFIX_BYTES else None
    return None
