"""A dump -> `embeddings.npy` (n, dim), rows without an error, and `embeddings.jsonl`, a key and a label a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from extractor.dump import shard as shards
from extractor.dump.folder import locked, write_whole
from extractor.dump.manifest import Manifest, read_manifest

ARRAY, KEYS = "embeddings.npy", "embeddings.jsonl"


def write_npy(out: str | Path) -> tuple[Path, Path]:
    """Write both files beside the shards, row by row alike, and return where they are.

    Raises
    ------
    DumpSpoilt, DumpNotWritten
    DumpRefused
        A dump is at work there.
    """
    path = Path(out)
    read_manifest(path)  # it is a dump: nothing is locked elsewhere
    with locked(path):  # a retry would move shards away that are being read
        manifest = read_manifest(path)
        write_whole(path / ARRAY, lambda file: _write_array(file, path, manifest))
        write_whole(path / KEYS, lambda file: _write_keys(file, path, manifest))
    return path / ARRAY, path / KEYS


def _write_array(file: IO[bytes], path: Path, manifest: Manifest) -> None:
    dtype = np.dtype(manifest.origin.dtype).newbyteorder("<")
    shape = (manifest.rows - manifest.errors, manifest.origin.dim)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for batch in _batches(path, manifest, [shards.EMBEDDING]):
        values = batch.column(0).flatten()  # without those that are null
        file.write(values.to_numpy(zero_copy_only=False).astype(dtype, copy=False).tobytes())


def _write_keys(file: IO[bytes], path: Path, manifest: Manifest) -> None:
    for batch in _batches(path, manifest, [shards.KEY, shards.LABEL, shards.ERROR]):
        for row in batch.to_pylist():
            if row[shards.ERROR] is None:
                said = {shards.KEY: row[shards.KEY], shards.LABEL: row[shards.LABEL]}
                file.write(f"{json.dumps(said)}\n".encode())


def _batches(path: Path, manifest: Manifest, columns: list[str]) -> Iterator[Any]:
    for shard in manifest.shards:
        yield from shards.batches(path / shard.file, columns)
