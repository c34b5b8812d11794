"""Rows <-> the bytes of a Parquet shard."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from extractor.dump.manifest import FORMAT, Origin, Shard
from extractor.dump.row import Row, digest_of, listed_of
from extractor.errors import DumpRefused, DumpSpoilt

KEY, EMBEDDING, LABEL, ERROR = "key", "embedding", "label", "error"
OWN = (KEY, EMBEDDING, LABEL, ERROR)
SHARD_KEY = b"headwater.shard"
BATCH_ROWS = 4096
UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError)
_TYPES = {"float32": pa.float32(), "float16": pa.float16()}


def schema_of(origin: Origin, carried: Mapping[str, Any]) -> Any:
    """Return the schema of a dump's shards; raises DumpRefused for a type of numbers that there is not."""
    if origin.dtype not in _TYPES:
        raise DumpRefused(f"a dump holds {' or '.join(_TYPES)}, not {origin.dtype!r}; take one of these")
    own = [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(EMBEDDING, pa.list_(_TYPES[origin.dtype], origin.dim)),
        pa.field(LABEL, pa.string()),
        pa.field(ERROR, pa.string()),
    ]
    facts = {
        "headwater.format": str(FORMAT),
        "headwater.fingerprint": origin.fingerprint,
        "headwater.backbone": origin.backbone,
        "headwater.dim": str(origin.dim),
    }
    return pa.schema([*own, *(pa.field(name, kind) for name, kind in carried.items())], metadata=facts)


def table_of(rows: Sequence[Row], schema: Any, columns: Sequence[str]) -> Any:
    """Return rows as a table of a schema.

    Parameters
    ----------
    rows : sequence of Row
        Each settled; one whose embedding the schema's type cannot hold gets that for its error.
    schema : pyarrow.Schema
    columns : sequence of str
        Names of the rows' own `columns`.
    """
    kind = schema.field(EMBEDDING).type
    matrix = np.zeros((len(rows), kind.list_size), kind.value_type.to_pandas_dtype())
    with np.errstate(over="ignore"):
        for i, row in enumerate(rows):
            if row.embedding is not None:
                matrix[i] = row.embedding
    for i in np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist():
        rows[i].error = f"the embedding has values that {kind.value_type} cannot hold; dump float32"
        rows[i].embedding, matrix[i] = None, 0
    absent = np.array([row.embedding is None for row in rows], bool)
    places = {name: place for place, name in enumerate(columns)}
    own = [
        pa.array([row.key for row in rows], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=kind, mask=pa.array(absent)),
        pa.array([row.label for row in rows], pa.string()),
        pa.array([row.error for row in rows], pa.string()),
    ]
    carried = [
        pa.array(
            [row.columns[places[field.name]] if field.name in places and row.columns else None for row in rows],
            field.type,
        )
        for field in list(schema)[len(OWN) :]
    ]
    return pa.table([*own, *carried], schema=schema)


def facts_of(file: str, start: int, rows: Sequence[Row]) -> Shard:
    """Return what a shard's own line says before its file is written."""
    return Shard(
        file=file,
        start=start,
        rows=len(rows),
        errors=sum(row.error is not None for row in rows),
        first_key=rows[0].key,
        last_key=rows[-1].key,
        digest=digest_of(row.mark for row in rows),
        listed=listed_of(row.listed_at for row in rows),
    )


def encoded(table: Any, facts: Shard) -> Any:
    """Return the bytes of a shard, as an Arrow buffer."""
    said = {name: value for name, value in asdict(facts).items() if name not in ("bytes", "blake3")}
    table = table.replace_schema_metadata({**table.schema.metadata, SHARD_KEY: json.dumps(said)})
    texts = [name for name in table.column_names if name != EMBEDDING]
    sink = pa.BufferOutputStream()
    # Embeddings do not compress, and their least and greatest numbers tell nothing.
    pq.write_table(
        table,
        sink,
        compression=dict.fromkeys(texts, "zstd"),
        use_dictionary=[name for name in texts if name != KEY],
        write_statistics=[KEY, LABEL],
    )
    return sink.getvalue()


def checksum(data: Any) -> str:
    """Return the BLAKE3 of a file's bytes."""
    return str(blake3(data).hexdigest())


def read_facts(path: Path) -> tuple[Shard, Any]:
    """Return what a shard says of itself, with its size and checksum, and its schema; raises DumpSpoilt."""
    try:
        data = path.read_bytes()
        schema = pq.read_schema(pa.BufferReader(data))
        said = json.loads(schema.metadata[SHARD_KEY])
        known = {field.name: said[field.name] for field in fields(Shard) if field.name not in ("bytes", "blake3")}
    except UNREADABLE as error:
        raise spoilt(path, error) from None
    return Shard(**{**known, "file": path.name, "bytes": len(data), "blake3": checksum(data)}), schema


def batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Read some columns of a shard, batch by batch; raises DumpSpoilt."""
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=list(columns))
    except UNREADABLE as error:
        raise spoilt(path, error) from None


def spoilt(path: Path, error: Exception) -> DumpSpoilt:
    """Return the error of a shard that cannot be read."""
    return DumpSpoilt(
        f"the shard {path} cannot be read ({type(error).__name__}); `headwater dump --check` lists all that are spoilt"
    )
