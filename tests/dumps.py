"""Dumps, written by hand: Parquet shards as `headwater dump` lays them out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FINGERPRINT = "ab" * 16


def write_dump(
    folder: Path,
    X: np.ndarray,
    *,
    labels: Sequence[str | None] | None = None,
    keys: Sequence[str] | None = None,
    errors: dict[int, str] | None = None,
    shard_rows: int = 1000,
    fingerprint: str = FINGERPRINT,
    backbone: str = "pixels",
    dtype: Any = np.float32,
    **carried: Sequence[Any],
) -> Path:
    """Write rows of X (n, dim); those with an error have no embedding."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "key": list(keys) if keys is not None else [f"items/{i}.jpg" for i in range(len(X))],
        "embedding": np.asarray(X, dtype),
        "label": list(labels) if labels is not None else [None] * len(X),
        "error": [(errors or {}).get(i) for i in range(len(X))],
        **carried,
    }
    for number, start in enumerate(range(0, len(X), shard_rows)):
        rows = {name: column[start : start + shard_rows] for name, column in columns.items()}
        write_shard(folder / f"part-{number:05d}.parquet", rows, fingerprint=fingerprint, backbone=backbone)
    (folder / "manifest.json").write_text("{}")
    return folder


def write_shard(path: Path, rows: dict[str, Any], *, fingerprint: str = FINGERPRINT, backbone: str = "pixels") -> None:
    """Write one shard: the columns of its rows, embeddings (n, dim)."""
    X = rows["embedding"]
    failed = pa.array([error is not None for error in rows["error"]])
    flat = pa.array(np.ascontiguousarray(X).ravel())
    table = pa.table(
        {
            "key": pa.array(rows["key"], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, X.shape[1], mask=failed),
            "label": pa.array(rows["label"], pa.string()),
            "error": pa.array(rows["error"], pa.string()),
            **{name: rows[name] for name in rows if name not in ("key", "embedding", "label", "error")},
        }
    )
    facts = {"fingerprint": fingerprint, "backbone": backbone, "dim": str(X.shape[1]), "format": "1"}
    table = table.replace_schema_metadata({f"headwater.{name}": fact for name, fact in facts.items()})
    pq.write_table(table, path)
