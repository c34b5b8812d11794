"""A task's file <-> one file to take elsewhere, which is checked before it is let in."""

import os
import secrets
import shutil
from contextlib import closing
from pathlib import Path

from classifiers.errors import EmbeddingMismatch, TaskInvalid, TaskUnwritable
from classifiers.tasks import file, schema
from classifiers.tasks.facts import Limits, TaskFacts, check_name, check_text

SIDE_FILES = ("-wal", "-shm", "-journal")


def export(source: Path, target: Path) -> int:
    """Write a task's file without what was removed; return its version. Raises TaskUnwritable, TaskInvalid."""
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with closing(schema.connect(source)) as db, schema.writing(target):
            db.execute("VACUUM INTO ?", (str(staged),))
        with closing(schema.connect(staged, staged=True)) as db, schema.writing(target):
            version = file.read_version(db)
            db.execute("PRAGMA secure_delete=ON")
            db.execute("PRAGMA journal_mode=DELETE")
            with schema.transaction(db, staged):
                file.forget_removed(db, version)
        settle(staged, target)
    except OSError as error:
        raise TaskUnwritable(
            f"{target} could not be written ({error.strerror}); make room, or name another place"
        ) from None
    finally:
        discard(staged)
    return version


def take_in(source: Path, staged: Path, name: str | None, limits: Limits) -> TaskFacts:
    """Copy an exported file, check all of it, and give it a name; return what it is.

    Raises
    ------
    TaskInvalid, LimitExceeded, TaskUnwritable
    """
    try:
        shutil.copyfile(source, staged)
    except FileNotFoundError:
        raise TaskInvalid(f"there is no file {source}; name one that an export has made") from None
    except OSError as error:
        raise TaskUnwritable(f"{source} could not be copied ({error.strerror}); make room, and repeat") from None
    with closing(schema.connect(staged, staged=True)) as db:
        with schema.reading(source):
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise TaskInvalid(f"{source} is damaged; export the task again")
            facts, _ = file.read_facts(db, source)
            # Before memory is taken for them.
            limits.check_count("values in an embedding", facts.dim, limits.max_dim, "take a backbone with fewer")
            delta = file.read_support(db, facts, source)
        limits.check_count("examples", len(delta.numbers), limits.max_examples, "export fewer")
        limits.check_count("labels", len(delta.labels or ()), limits.max_labels, "merge or remove classes first")
        for label in (delta.labels or {}).values():
            check_text("label", label, limits.max_label_bytes)
        for one in delta.ids:
            check_text("id", one, limits.max_id_bytes)
        check_name(name or facts.name)
        limits.check_settings(facts.settings)
        with schema.transaction(db, staged):
            facts = file.rename(db, facts, name or facts.name)
            # What it could undo elsewhere it cannot here: an export has nothing that was removed.
            file.forget_removed(db, delta.version)
        with schema.reading(staged):
            db.execute("PRAGMA journal_mode=WAL")
    return facts


def check_embeddings(facts: TaskFacts, source: Path, fingerprint: str | None, dim: int | None) -> None:
    """Raise EmbeddingMismatch where a task holds other embeddings than are wanted."""
    for what, own, wanted in (("fingerprint", facts.fingerprint, fingerprint), ("dim", facts.dim, dim)):
        if wanted is not None and wanted != own:
            raise EmbeddingMismatch(
                f"the task in {source} has {what} {own!r}, and {wanted!r} is wanted; load the backbone "
                f"{facts.backbone!r} that it was made with, or add its items to a new task"
            )


def settle(staged: Path, target: Path) -> None:
    """Give a written file its name, so that it has it after a power cut too; raises OSError."""
    with staged.open("rb") as content:
        os.fsync(content.fileno())
    staged.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Have the names of a folder on disk; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a file and what SQLite keeps beside it."""
    for suffix in ("", *SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
