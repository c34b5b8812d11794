"""OUT -> all that is wrong with it: every shard is read and held against the manifest. Changes nothing."""

import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from blake3 import blake3

from extractor.dump import shard as shards
from extractor.dump.folder import LOCK, leftovers
from extractor.dump.manifest import MANIFEST, SHARDS, Manifest, Shard, read_manifest
from extractor.errors import DumpSpoilt

KEY_BYTES = 16  # of a key's digest: duplicates are found in memory


@dataclass(frozen=True)
class Checked:
    """What was found.

    Parameters
    ----------
    manifest : Manifest
    at_work : bool
        A dump writes there meanwhile: what it had committed was checked.
    problems : tuple of str
        Empty when all is well.
    """

    manifest: Manifest
    at_work: bool
    problems: tuple[str, ...]


def check(out: str | Path) -> Checked:
    """Verify a dump: that it has the files that its manifest says and no others, with the checksums, rows and errors.

    Keys have to be there and unique, embeddings finite, and each row has either an embedding or an error.

    Parameters
    ----------
    out : str or Path

    Raises
    ------
    DumpSpoilt
        There is no manifest, or it cannot be read.
    """
    path = Path(out)
    at_work = _at_work(path)
    try:
        manifest = read_manifest(path)
    except FileNotFoundError:
        said = "has no manifest.json" if path.exists() else "is not there"
        raise DumpSpoilt(f"{path} {said}; name the folder of a dump, or run the dump again") from None
    digests = bytearray()
    problems = [] if at_work else list(_strangers(path, manifest))
    start = 0
    for shard in manifest.shards:
        if shard.start != start:
            problems.append(f"{shard.file}: starts at row {shard.start:,}, the shards before it have {start:,}")
        problems.extend(f"{shard.file}: {problem}" for problem in _of_shard(path, manifest, shard, digests))
        start += shard.rows
    problems.extend([] if at_work else _edited(path, manifest))
    problems.extend(_duplicates(path, manifest, digests))
    return Checked(manifest, at_work, tuple(problems))


def _at_work(path: Path) -> bool:
    try:
        with (path / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _strangers(path: Path, manifest: Manifest) -> Iterator[str]:
    known = {shard.file for shard in manifest.shards}
    for file in sorted(path.glob(SHARDS)):
        if file.name not in known:
            yield f"{file.name}: is not in the manifest; run the dump again, which takes it up"
    for file in leftovers(path):
        yield f"{file.name}: is left from a dump that was killed; run the dump again, which removes it"


def _edited(path: Path, manifest: Manifest) -> Iterator[str]:
    """Name what the manifest's own lines contradict; what only it knows, as where the source was, nothing does."""
    found = json.loads((path / MANIFEST).read_bytes())
    expected = json.loads(manifest.as_json())
    for name in ("rows", "errors"):
        if found.get(name) != expected[name]:
            yield f"{MANIFEST}: says {name} {found.get(name)}, its shards have {expected[name]:,} in all"


def _of_shard(path: Path, manifest: Manifest, shard: Shard, digests: bytearray) -> Iterator[str]:
    try:
        data = (path / shard.file).read_bytes()
    except OSError as error:
        yield f"cannot be read: {error.strerror}"
        return
    if len(data) != shard.bytes or shards.checksum(data) != shard.blake3:
        yield f"bytes: {len(data):,}, with another checksum than the {shard.bytes:,} that were written"
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            yield from _of_schema(file, manifest, shard)
            yield from _of_line(file, shard)
            yield from _of_rows(file, manifest, shard, digests)
    except shards.UNREADABLE as error:
        yield f"is no shard ({type(error).__name__})"


def _of_schema(file: pq.ParquetFile, manifest: Manifest, shard: Shard) -> Iterator[str]:
    schema = file.schema_arrow
    for what in ("fingerprint", "backbone", "dim"):
        said = (schema.metadata or {}).get(f"headwater.{what}".encode(), b"").decode(errors="replace")
        if said != str(getattr(manifest.origin, what)):
            yield f"is of the {what} {said!r}, the dump of {str(getattr(manifest.origin, what))!r}"
    expected = shards.schema_of(manifest.origin, {}).field(shards.EMBEDDING).type
    if schema.field(shards.EMBEDDING).type != expected:
        yield f"has embeddings of {schema.field(shards.EMBEDDING).type}, not of {expected}"
    if file.metadata.num_rows != shard.rows:
        yield f"rows: {file.metadata.num_rows:,}, not {shard.rows:,}"


def _of_line(file: pq.ParquetFile, shard: Shard) -> Iterator[str]:
    """Hold the manifest's line against the one that the shard keeps itself."""
    said = json.loads((file.schema_arrow.metadata or {}).get(shards.SHARD_KEY, b"{}"))
    differing = [name for name, value in said.items() if value != getattr(shard, name, None)]
    if differing:
        yield f"says {', '.join(f'{name} {said[name]!r}' for name in differing)}, the manifest something else"


def _of_rows(file: pq.ParquetFile, manifest: Manifest, shard: Shard, digests: bytearray) -> Iterator[str]:
    keys: list[str] = []
    errors = neither = infinite = 0
    for batch in file.iter_batches(shards.BATCH_ROWS, columns=[shards.KEY, shards.EMBEDDING, shards.ERROR]):
        key, embedding, error = (batch.column(name) for name in (shards.KEY, shards.EMBEDDING, shards.ERROR))
        own = key.to_pylist()
        keys = [*keys[:1], *own]
        digests += b"".join(map(_digest, own))
        errors += len(error) - error.null_count
        neither += pc.sum(pc.equal(error.is_valid(), embedding.is_valid())).as_py() or 0
        infinite += _n_infinite(embedding, manifest.origin.dim)
    if errors != shard.errors:
        yield f"errors: {errors:,}, not {shard.errors:,}"
    if neither:
        yield f"rows with both an embedding and an error, or neither: {neither:,}"
    if infinite:
        yield f"embeddings that are not finite: {infinite:,}"
    if keys and (keys[0], keys[-1]) != (shard.first_key, shard.last_key):
        yield f"goes from {keys[0]!r} to {keys[-1]!r}, not from {shard.first_key!r} to {shard.last_key!r}"


def _n_infinite(embedding: Any, dim: int) -> int:
    values = embedding.flatten().to_numpy(zero_copy_only=False)  # without those that are null
    return int((~np.isfinite(values.reshape(-1, dim)).all(axis=1)).sum()) if dim else 0


def _duplicates(path: Path, manifest: Manifest, digests: bytearray) -> Iterator[str]:
    """Name keys that stand twice; only where there are some, keys are read again."""
    if not digests:
        return
    rows, n_times = np.unique(np.frombuffer(digests, np.dtype([("a", "<u8"), ("b", "<u8")])), return_counts=True)
    twice = {row.tobytes() for row in rows[n_times > 1]}
    if not twice:
        return
    named: list[str] = []
    for shard in manifest.shards:
        try:
            for batch in shards.batches(path / shard.file, [shards.KEY]):
                named.extend(key for key in batch.column(0).to_pylist() if _digest(key) in twice)
        except DumpSpoilt:  # it was told of
            continue
    yield f"keys that stand more than once: {len(twice):,}, as {', '.join(map(repr, list(dict.fromkeys(named))[:3]))}"


def _digest(key: str | None) -> bytes:
    return blake3((key or "").encode()).digest(KEY_BYTES)
