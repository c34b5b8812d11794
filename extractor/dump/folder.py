"""OUT, the folder of a dump: held by one dump at a time, mended after a kill, and given whole shards only."""

import fcntl
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from extractor.dump import shard as shards
from extractor.dump.manifest import MANIFEST, SHARDS, Manifest, Origin, Shard, name_of, parsed, read_manifest
from extractor.dump.row import Row, times_of
from extractor.errors import DumpNotWritten, DumpRefused, DumpSpoilt

LOCK = ".lock"
SUPERSEDED = ".superseded"
TEMPORARY = (".part-*.tmp", f".{MANIFEST}.tmp", ".embeddings.*.tmp")  # what `write_whole` leaves when it is killed


class DumpFolder:
    """A dump that is open for writing; made by `open_folder`.

    Parameters
    ----------
    path : Path
    manifest : Manifest
        As it stands; it changes with each commit.
    schema : pyarrow.Schema
        Of every shard.
    """

    def __init__(self, path: Path, manifest: Manifest, schema: Any) -> None:
        self.path = path
        self.manifest = manifest
        self.schema = schema

    def commit(self, rows: Sequence[Row], columns: Sequence[str]) -> Shard:
        """Write rows as the next shard; raises DumpNotWritten."""
        table = shards.table_of(rows, self.schema, columns)
        facts = shards.facts_of(name_of(len(self.manifest.shards)), self.manifest.rows, rows)
        written = self._write_shard(table, facts)
        self._write_manifest(self.manifest.with_shard(written))
        return written

    def supersede(self, old: Shard, table: Any, errors: int, listed: list[list[float]]) -> Shard:
        """Write a shard anew under another name, and move the one that it stands for away; raises DumpNotWritten."""
        name = name_of(old.number, old.revision + 1)
        written = self._write_shard(table, replace(old, file=name, errors=errors, listed=listed))
        _move_away(self.path, old.file)
        self._write_manifest(self.manifest.with_shard(written))
        return written

    def say_complete(self, complete: bool) -> None:
        """Say whether the end of the source was reached; raises DumpNotWritten."""
        if self.manifest.complete != complete:
            self._write_manifest(replace(self.manifest, complete=complete))

    def keys(self) -> Iterator[tuple[str, float]]:
        """Read the keys of all rows, in order, and when each was listed; raises DumpSpoilt."""
        for one in self.manifest.shards:
            times = times_of(one.listed)
            for batch in shards.batches(self.path / one.file, [shards.KEY, shards.ERROR]):
                for key, error in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    time = next(times, math.inf)
                    yield key, time if error is None else math.inf

    def _write_shard(self, table: Any, facts: Shard) -> Shard:
        data = shards.encoded(table, facts)
        write_whole(self.path / facts.file, lambda file: file.write(data))
        return replace(facts, bytes=data.size, blake3=shards.checksum(data))

    def _write_manifest(self, manifest: Manifest) -> None:
        text = manifest.as_json().encode()
        write_whole(self.path / MANIFEST, lambda file: file.write(text))
        self.manifest = manifest


@contextmanager
def open_folder(
    path: Path, origin: Origin, source: Mapping[str, Any], carried: Mapping[str, Any], *, moved: bool = False
) -> Iterator[DumpFolder]:
    """Open a dump for writing, or begin one; nobody else can until it is closed.

    Parameters
    ----------
    path : Path
    origin : Origin
    source : mapping
        As `Source.describe` gives it.
    carried : mapping of str to pyarrow.DataType
    moved : bool
        The source is the same, though its place is another.

    Raises
    ------
    DumpRefused
        Another dump is at work there, or the dump there is of something else, or there is something else.
    DumpSpoilt
        Its files are not what was written.
    DumpNotWritten
        The folder cannot be made.
    """
    if moved and not any(path.glob(SHARDS)):
        raise DumpRefused(f"{path} holds no dump yet whose source could have moved; leave --moved away, or mend OUT")
    if path.exists() and not path.is_dir():
        raise DumpRefused(f"{path} is a file, and a dump is a folder; choose another name")
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    _check_ours(path)  # before anything is written there
    with locked(path):
        there, manifest = recovered(path, origin, source)
        if not manifest.shards:  # whatever it was to be of, there is nothing of it
            manifest = Manifest(origin, source, complete=manifest.complete)
        _check_same(path, manifest, origin, source, moved=moved)
        schema = _schema(path, manifest, origin, carried)
        folder = DumpFolder(path, manifest, schema)
        if manifest != there or source != manifest.source:
            folder._write_manifest(replace(manifest, source=source))
        yield folder


def recovered(path: Path, origin: Origin, source: Mapping[str, Any]) -> tuple[Manifest | None, Manifest]:
    """Mend what a kill may have left, and return the manifest that is there, and the one of all that is there.

    Raises
    ------
    DumpSpoilt, DumpRefused
    """
    there = None
    with writing(path):
        for left in leftovers(path):
            left.unlink()
    try:
        manifest = there = read_manifest(path)
    except FileNotFoundError:
        manifest = Manifest(_origin_of(path) or origin, source)
    known = {one.file for one in manifest.shards}
    for file in sorted(
        (file for file in path.glob(SHARDS) if file.name not in known), key=lambda one: parsed(one.name)
    ):
        manifest = _taken_up(path, manifest, file)
    _check_whole(path, manifest)
    return there, manifest


def leftovers(path: Path) -> list[Path]:
    """Return what a killed dump was writing."""
    return sorted(file for pattern in TEMPORARY for file in path.glob(pattern))


def write_whole(path: Path, write: Any) -> None:
    """Write a file under a temporary name, sync it, and rename it; raises DumpNotWritten."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what could not be written."""
    try:
        yield
    except OSError as error:
        raise DumpNotWritten(
            f"cannot write {path}: {error.strerror or error}; what was committed stays: make room, or make it "
            "writable, and run the dump again"
        ) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a dump that nobody else may write meanwhile; raises DumpRefused, DumpNotWritten."""
    with writing(path):
        file = (path / LOCK).open("a+")
    with file:
        if not _taken(file, path):
            raise DumpRefused(f"another dump{_by(file)} is at work in {path}; wait for it, or choose another folder")
        with writing(path):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _taken(file: IO[str], path: Path) -> bool:
    with writing(path / LOCK):  # where files cannot be locked, say
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _by(file: IO[str]) -> str:
    file.seek(0)
    pid = file.read(20)
    return f" (process {pid})" if pid.isdigit() else ""


def _check_ours(path: Path) -> None:
    """Refuse a folder of something else; beside a dump may stand what was made of it: an index, a map, an array."""
    with writing(path):
        names = sorted(file.name for file in path.iterdir())
        locked_by = (path / LOCK).read_bytes()[:20] if LOCK in names else b""
    others = [name for name in names if not name.startswith(".") and parsed(name)[0] < 0]
    others += [LOCK] if locked_by and not locked_by.isdigit() else []
    if others and MANIFEST not in names and not any(parsed(name)[0] >= 0 for name in names):
        raise DumpRefused(
            f"{path} is no dump: it holds {', '.join(others[:3])}; choose another folder, or an empty one"
        )


def _origin_of(path: Path) -> Origin | None:
    """Return what the shards say that they are of, where there is no manifest."""
    file = next(iter(sorted(path.glob(SHARDS))), None)
    if file is None:
        return None
    try:
        schema = pq.read_schema(file)
        facts = {name.decode(): value.decode() for name, value in schema.metadata.items()}
        return Origin(
            fingerprint=facts["headwater.fingerprint"],
            backbone=facts["headwater.backbone"],
            dim=int(facts["headwater.dim"]),
            dtype={"halffloat": "float16", "float": "float32"}[str(schema.field(shards.EMBEDDING).type.value_type)],
        )
    except (*shards.UNREADABLE, AttributeError) as error:
        raise shards.spoilt(file, error) from None


def _taken_up(path: Path, manifest: Manifest, file: Path) -> Manifest:
    """Take up a whole shard that the manifest does not know: a kill came between the two."""
    facts, schema = shards.read_facts(file)
    fingerprint = schema.metadata.get(b"headwater.fingerprint", b"").decode(errors="replace")
    if fingerprint != manifest.origin.fingerprint:
        raise DumpSpoilt(f"{file} is of the backbone {fingerprint}, not {manifest.origin.fingerprint}; move it away")
    former = next((one for one in manifest.shards if one.number == facts.number), None)
    if former is not None and former.revision > facts.revision:
        _move_away(path, facts.file)
        return manifest
    if former is not None:
        _move_away(path, former.file)
    elif facts.number != len(manifest.shards) or facts.start != manifest.rows:
        raise DumpSpoilt(
            f"{file} does not follow the {len(manifest.shards):,} shards that {path / MANIFEST} knows; move it away"
        )
    return manifest.with_shard(facts)


def _check_whole(path: Path, manifest: Manifest) -> None:
    for one in manifest.shards:
        file = path / one.file
        size = file.stat().st_size if file.exists() else None
        if size != one.bytes:
            found = "is missing" if size is None else f"has {size:,} bytes, not {one.bytes:,}"
            raise DumpSpoilt(f"{file} {found}; bring it back, or dump to another folder")


def _check_same(path: Path, manifest: Manifest, origin: Origin, source: Mapping[str, Any], *, moved: bool) -> None:
    former = manifest.origin
    for what, ours, theirs in (
        ("backbone", f"{origin.backbone} {origin.fingerprint}", f"{former.backbone} {former.fingerprint}"),
        ("precision", origin.dtype, former.dtype),
    ):
        same = origin.fingerprint == former.fingerprint if what == "backbone" else ours == theirs
        if not same:
            raise DumpRefused(
                f"the dump in {path} has the {what} {theirs}, this one {ours}; take the same, or choose another folder"
            )
    for name in {*source, *manifest.source}:
        if source.get(name) != manifest.source.get(name) and not (name == "place" and moved):
            hint = "; if it only moved, say --moved" if name == "place" else ""
            raise DumpRefused(
                f"the dump in {path} is of a source with {name} {manifest.source.get(name)!r}, not "
                f"{source.get(name)!r}: choose another folder{hint}"
            )


def _schema(path: Path, manifest: Manifest, origin: Origin, carried: Mapping[str, Any]) -> Any:
    """Return the schema of the shards that are there, or of those to come."""
    if not manifest.shards:
        return shards.schema_of(origin, carried)
    file = path / manifest.shards[0].file
    try:
        found = pq.read_schema(file)
    except shards.UNREADABLE as error:
        raise shards.spoilt(file, error) from None
    former = {field.name: field.type for field in list(found)[len(shards.OWN) :]}
    for name, kind in carried.items():
        if former.get(name, kind) != kind:
            raise DumpRefused(
                f"the dump in {path} has a column {name!r} of {former[name]}, and the source of {kind}; "
                "choose another folder"
            )
    return shards.schema_of(origin, former)


def _move_away(path: Path, name: str) -> None:
    file = path / name
    if file.exists():
        with writing(path):
            (path / SUPERSEDED).mkdir(exist_ok=True)
            file.replace(path / SUPERSEDED / name)
            _sync(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
