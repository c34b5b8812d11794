"""Changes to a task -> rows of its SQLite file, each change one transaction, and what it does to the support.

Functions take a connection within a transaction and the version that they make; `task` gives them both.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import ExampleConflict, ExampleNotFound, InvalidLabels, InvalidOption, TaskInvalid
from classifiers.tasks.facts import Change, Example, Limits, TaskFacts, check_text
from classifiers.tasks.live import as_embeddings, cosine
from classifiers.tasks.settings import Settings
from classifiers.tasks.support import Delta

ALIKE = 1 - 1e-4  # cosine from which on an embedding counts as the same item's, extracted again
KEPT_FOR_GOOD = ("undo", "update")  # changes that are not undone, and that no undo minds
_EMBEDDING = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples to add, checked: X (n, dim) float32 and what goes with each row."""

    X: NDArray[np.float32]
    labels: Sequence[str]
    ids: Sequence[str]
    notes: Sequence[str | None]
    item_keys: Sequence[bytes | None]
    items: Sequence[bytes | None]


def now() -> str:
    """Return the time as it is kept."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_facts(db: sqlite3.Connection, facts: TaskFacts, labels: Iterable[str]) -> None:
    """Begin a task at version 1, with its labels."""
    rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in asdict(facts).items()]
    db.executemany("INSERT INTO facts VALUES (?, ?)", [*rows, ("version", "1")])
    db.executemany("INSERT INTO classes (label, since) VALUES (?, 1)", [(label,) for label in labels])
    db.execute("INSERT INTO history VALUES (1, 'create', '{}', 0, ?, 0, NULL)", (facts.created,))


def read_facts(db: sqlite3.Connection, path: Path) -> tuple[TaskFacts, int]:
    """Return what a task is, and its version; raises TaskInvalid."""
    try:
        values = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM facts")}
        version = values.pop("version")
        facts = TaskFacts(**values | {"settings": Settings(**values["settings"])})
        kinds = {"name": str, "backbone": str, "fingerprint": str, "dim": int}
        for name, kind in (kinds | {"keep_items": bool, "created": str}).items():
            if type(getattr(facts, name)) is not kind:
                raise TypeError(f"{name} is {getattr(facts, name)!r}")
        if type(version) is not int or facts.dim < 1:
            raise TypeError(f"version is {version!r}, dim is {facts.dim}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TaskInvalid(f"{path} is malformed ({error}); import an export of the task") from None
    return facts, version


def rename(db: sqlite3.Connection, facts: TaskFacts, name: str) -> TaskFacts:
    """Give a task another name; return what it is then."""
    db.execute("UPDATE facts SET value = ? WHERE key = 'name'", (json.dumps(name),))
    return replace(facts, name=name)


def set_settings(db: sqlite3.Connection, version: int, settings: Settings, dim: int) -> Delta:
    """Let a task classify otherwise; its examples stay as they are."""
    text = json.dumps(asdict(settings), ensure_ascii=False)
    db.execute("UPDATE facts SET value = ? WHERE key = 'settings'", (text,))
    return Delta.none(version, dim, settings=settings)


def read_version(db: sqlite3.Connection) -> int:
    """Return the version of a task."""
    return int(db.execute("SELECT value FROM facts WHERE key = 'version'").fetchone()[0])


def read_support(db: sqlite3.Connection, facts: TaskFacts, path: Path) -> Delta:
    """Return all that a task has, as what an empty support becomes it by; raises TaskInvalid."""
    rows = db.execute("SELECT number, id, class FROM examples WHERE gone = 0 ORDER BY number").fetchall()
    numbers = np.array([row[0] for row in rows], np.int64)
    classes = np.array([row[2] for row in rows], np.int64)
    labels = _labels(db)
    strangers = set(classes.tolist()) - set(labels)
    if strangers or not all(isinstance(row[1], str) for row in rows):
        raise TaskInvalid(f"{path} is damaged: examples of no class, or with no id; import an export of the task")
    found = db.execute(
        "SELECT number, crc, embedding FROM embeddings WHERE number IN (SELECT number FROM examples WHERE gone = 0) "
        "ORDER BY number"
    )
    X = _checked(found, numbers, facts.dim, path)
    delta = Delta.none(read_version(db), facts.dim, numbers=numbers, classes=classes, X=X, labels=labels)
    ids = np.empty(len(rows), object)
    ids[:] = [row[1] for row in rows]
    return replace(delta, ids=ids)


def count(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many examples and classes a task has."""
    examples, classes = (
        db.execute(f"SELECT count(*) FROM {table} WHERE gone = 0").fetchone()[0]  # noqa: S608  # one of two names
        for table in ("examples", "classes")
    )
    return examples, classes


def read_examples(
    db: sqlite3.Connection, ids: Sequence[str], facts: TaskFacts, path: Path, *, with_items: bool
) -> list[Example]:
    """Return examples in the order of their ids; raises ExampleNotFound."""
    numbers = _numbers(db, ids)
    return [_example(db, number, facts, path, with_items=with_items) for number in numbers]


def read_history(db: sqlite3.Connection, n: int) -> list[Change]:
    """Return the last n changes, the newest first."""
    rows = db.execute(
        "SELECT version, kind, detail, n_examples, created, kept, undone_by FROM history ORDER BY version DESC LIMIT ?",
        (n,),
    )
    return [Change(v, kind, json.loads(detail), m, at, bool(kept), by) for v, kind, detail, m, at, kept, by in rows]


def add(db: sqlite3.Connection, version: int, batch: Batch, n_there: int, limits: Limits, dim: int) -> Delta | None:
    """Add examples that are not there yet to the `n_there` that are; None, where all are."""
    new = _new(db, batch)
    if not new:
        return None
    way_on = "remove some, or train a head on them: headwater train"
    limits.check_count("examples", n_there + len(new), limits.max_examples, way_on)
    known, labels = _by_label(db), {batch.labels[i] for i in new}
    _add_classes(db, version, known, sorted(labels - set(known)), limits)
    created, last = now(), db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'examples'")
    first = last.fetchone()[0] + 1
    numbers = range(first, first + len(new))
    classes = [known[batch.labels[i]] for i in new]
    db.executemany(
        "INSERT INTO examples (number, id, class, note, item_key, created, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (number, batch.ids[i], one, batch.notes[i], batch.item_keys[i], created, version)
            for number, one, i in zip(numbers, classes, new, strict=True)
        ),
    )
    rows = (batch.X[i].astype(_EMBEDDING).tobytes() for i in new)
    db.executemany(
        "INSERT INTO embeddings VALUES (?, ?, ?)",
        ((number, _crc(number, row), row) for number, row in zip(numbers, rows, strict=True)),
    )
    items = ((number, batch.items[i]) for number, i in zip(numbers, new, strict=True) if batch.items[i] is not None)
    db.executemany("INSERT INTO items VALUES (?, ?)", items)
    ids = np.empty(len(new), object)
    ids[:] = [batch.ids[i] for i in new]
    return Delta.none(
        version,
        dim,
        numbers=np.array(numbers, np.int64),
        ids=ids,
        classes=np.array(classes, np.int64),
        X=batch.X[new],
        labels=_labels(db) if labels else None,
    )


def remove(db: sqlite3.Connection, version: int, ids: Sequence[str], dim: int) -> Delta | None:
    """Remove examples by id; None, where none is named. Raises ExampleNotFound."""
    if not ids:
        return None
    numbers = sorted(set(_numbers(db, ids)))
    db.executemany("UPDATE examples SET gone = ? WHERE number = ?", [(version, number) for number in numbers])
    return Delta.none(version, dim, removed=np.array(numbers, np.int64))


def relabel(db: sqlite3.Connection, version: int, labels: Mapping[str, str], limits: Limits, dim: int) -> Delta | None:
    """Give examples, by id, other labels; a label that is new is a new class; None, where none is named.

    Raises ExampleNotFound.
    """
    if not labels:
        return None
    numbers, known = _numbers(db, list(labels)), _by_label(db)
    _add_classes(db, version, known, sorted(set(labels.values()) - set(known)), limits)
    relabelled = {number: known[label] for number, label in zip(numbers, labels.values(), strict=True)}
    _move(db, version, relabelled)
    return Delta.none(version, dim, relabelled=relabelled, labels=_labels(db))


def rename_class(db: sqlite3.Connection, version: int, label: str, to: str, dim: int) -> Delta:
    """Give a class another label; raises InvalidLabels where it is not there, or the other one is."""
    known = _by_label(db)
    number = _class(known, label)
    if to in known:
        raise InvalidLabels(f"there is a class {to!r} already; merge {label!r} into it, or take another label")
    db.execute("UPDATE classes SET label = ? WHERE number = ?", (to, number))
    return Delta.none(version, dim, labels=_labels(db))


def merge_classes(db: sqlite3.Connection, version: int, labels: Sequence[str], into: str, dim: int) -> Delta:
    """Make the examples of classes examples of another one, and remove the classes; raises InvalidLabels."""
    known = _by_label(db)
    target = _class(known, into)
    classes = sorted({_class(known, label) for label in labels} - {target})
    relabelled = {number: target for one in classes for number in _of_class(db, one)}
    _move(db, version, relabelled)
    db.executemany("UPDATE classes SET gone = ? WHERE number = ?", [(version, one) for one in classes])
    return Delta.none(version, dim, relabelled=relabelled, labels=_labels(db))


def remove_class(db: sqlite3.Connection, version: int, label: str, dim: int) -> Delta:
    """Remove a class with its examples; raises InvalidLabels."""
    number = _class(_by_label(db), label)
    gone = np.array(_of_class(db, number), np.int64)
    db.execute("UPDATE examples SET gone = ? WHERE class = ? AND gone = 0", (version, number))
    db.execute("UPDATE classes SET gone = ? WHERE number = ?", (version, number))
    return Delta.none(version, dim, removed=gone, labels=_labels(db))


def undo(db: sqlite3.Connection, version: int, n: int, facts: TaskFacts, path: Path) -> tuple[Delta, list[int]]:
    """Take back the last n changes that are not taken back yet; return also their versions."""
    rows = db.execute(
        "SELECT version, kind, detail FROM history WHERE kept = 1 ORDER BY version DESC LIMIT ?", (n,)
    ).fetchall()
    if len(rows) < n:
        raise InvalidOption(f"{n} changes cannot be undone, {len(rows)} can; ask for at most so many")
    touched = _touched(db, rows[-1][0])
    before = _live(db, touched)
    for one, kind, detail in rows:
        _undo_one(db, one, json.loads(detail) if kind == "rename class" else None)
    undone = [row[0] for row in rows]
    db.executemany("UPDATE history SET kept = 0, undone_by = ? WHERE version = ?", [(version, one) for one in undone])
    after = _live(db, touched)
    come = [number for number in after if number not in before]
    ids = np.empty(len(come), object)
    ids[:] = [after[number][1] for number in come]
    numbers = np.array(come, np.int64)
    found = (_row(db, number) for number in come)
    delta = Delta.none(
        version,
        facts.dim,
        removed=np.array(sorted(set(before) - set(after)), np.int64),
        numbers=numbers,
        ids=ids,
        classes=np.array([after[number][0] for number in come], np.int64),
        X=_checked(found, numbers, facts.dim, path),
        relabelled={
            number: after[number][0] for number in after if number in before and before[number] != after[number]
        },
        labels=_labels(db),
    )
    return delta, undone


def record(
    db: sqlite3.Connection, version: int, kind: str, detail: Mapping[str, Any], n_examples: int, limits: Limits
) -> None:
    """Write a change down, and forget what is beyond the bounds of history and undo."""
    db.execute("UPDATE facts SET value = ? WHERE key = 'version'", (str(version),))
    text, kept = json.dumps(detail, ensure_ascii=False), int(kind not in KEPT_FOR_GOOD)
    db.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, NULL)", (version, kind, text, n_examples, now(), kept))
    db.execute("DELETE FROM history WHERE version <= ?", (version - max(limits.max_history, limits.max_undo + 1),))
    _forget(db, limits)


def forget_removed(db: sqlite3.Connection, version: int) -> None:
    """Delete what was removed up to a version, and with it the means to undo."""
    gone = "SELECT number FROM examples WHERE gone > 0 AND gone <= ?"  # in the words of the partial index
    for table in ("embeddings", "items"):
        db.execute(f"DELETE FROM {table} WHERE number IN ({gone})", (version,))  # noqa: S608  # one of two names
    db.execute("DELETE FROM examples WHERE gone > 0 AND gone <= ?", (version,))
    db.execute("DELETE FROM classes WHERE gone BETWEEN 1 AND ?", (version,))
    db.execute("DELETE FROM before WHERE version <= ?", (version,))
    db.execute("UPDATE history SET kept = 0 WHERE version <= ?", (version,))


def _forget(db: sqlite3.Connection, limits: Limits) -> None:
    n_rows = 0
    for i, (version, n) in enumerate(
        db.execute("SELECT version, n_examples FROM history WHERE kept = 1 ORDER BY version DESC").fetchall()
    ):
        n_rows += n
        if i >= limits.max_undo or (i and n_rows > limits.max_undo_rows):
            forget_removed(db, version)
            return


def _touched(db: sqlite3.Connection, version: int) -> list[int]:
    """Return the examples that the changes from a version on have brought, taken or moved."""
    found = db.execute(
        "SELECT number FROM examples WHERE since >= :v UNION SELECT number FROM examples WHERE gone > 0 AND gone >= :v "
        "UNION SELECT number FROM before WHERE version >= :v ORDER BY number",
        {"v": version},
    )
    return [row[0] for row in found]


def _live(db: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, tuple[int, str]]:
    """Return class and id of those examples that are there."""
    select = "SELECT number, class, id FROM examples WHERE number = ? AND gone = 0"
    found = (db.execute(select, (number,)).fetchone() for number in numbers)
    return {row[0]: row[1:] for row in found if row is not None}


def _undo_one(db: sqlite3.Connection, version: int, renamed: Mapping[str, Any] | None) -> None:
    """Take back the newest change that there is: first what it brought, then what it took."""
    came = "SELECT number FROM examples WHERE since = ?"
    for table in ("embeddings", "items"):
        db.execute(f"DELETE FROM {table} WHERE number IN ({came})", (version,))  # noqa: S608  # one of two names
    db.execute("DELETE FROM examples WHERE since = ?", (version,))
    db.execute("UPDATE examples SET gone = 0 WHERE gone > 0 AND gone = ?", (version,))
    moved = db.execute("SELECT class, number FROM before WHERE version = ?", (version,)).fetchall()
    db.executemany("UPDATE examples SET class = ? WHERE number = ?", moved)
    db.execute("DELETE FROM before WHERE version = ?", (version,))
    db.execute("DELETE FROM classes WHERE since = ?", (version,))
    db.execute("UPDATE classes SET gone = 0 WHERE gone = ?", (version,))
    if renamed:
        db.execute("UPDATE classes SET label = ? WHERE label = ? AND gone = 0", (renamed["label"], renamed["to"]))


def _new(db: sqlite3.Connection, batch: Batch) -> list[int]:
    """Return which of a batch are not there yet; raises ExampleConflict for an id that is another example's."""
    new: dict[str, int] = {}
    for i, one in enumerate(batch.ids):
        same = new.get(one)
        if same is not None:
            found = (batch.labels[same], batch.item_keys[same], batch.X[same])
        else:
            row = db.execute(
                "SELECT label, item_key, embedding FROM examples JOIN classes ON classes.number = class "
                "JOIN embeddings USING (number) WHERE id = ? AND examples.gone = 0",
                (one,),
            ).fetchone()
            if row is None:
                new[one] = i
                continue
            found = (row[0], row[1], np.frombuffer(row[2], _EMBEDDING))
        _check_same(one, found, (batch.labels[i], batch.item_keys[i], batch.X[i]))
    return list(new.values())


def _check_same(example_id: str, there: tuple[Any, ...], given: tuple[Any, ...]) -> None:
    if there[0] != given[0]:
        raise ExampleConflict(
            f"example {example_id!r} is there with label {there[0]!r}, and is added with {given[0]!r}; nothing was "
            "added: relabel it, or take another id"
        )
    keys = (there[1], given[1])
    same = keys[0] == keys[1] if None not in keys else _alike(there[2], given[2])
    if not same:
        raise ExampleConflict(
            f"example {example_id!r} is there with another item; nothing was added: remove it first, or take another id"
        )


def _alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(a, b)) or bool(cosine(a[None], b)[0] >= ALIKE)


def _labels(db: sqlite3.Connection) -> dict[int, str]:
    return dict(db.execute("SELECT number, label FROM classes WHERE gone = 0 ORDER BY number"))


def _by_label(db: sqlite3.Connection) -> dict[str, int]:
    return dict(db.execute("SELECT label, number FROM classes WHERE gone = 0 ORDER BY number"))


def _class(known: Mapping[str, int], label: str) -> int:
    if label not in known:
        some = ", ".join(map(repr, list(known)[:5])) or "none yet; add examples"
        raise InvalidLabels(f"the task has no class {label[:100]!r}; it has {len(known):,}: {some}; name one of them")
    return known[label]


def _add_classes(
    db: sqlite3.Connection, version: int, known: dict[str, int], labels: Sequence[str], limits: Limits
) -> None:
    """Add classes, and put them among the known ones."""
    limits.check_count("labels", len(known) + len(labels), limits.max_labels, "merge or remove classes first")
    for label in labels:
        known[label] = int(
            db.execute("INSERT INTO classes (label, since) VALUES (?, ?)", (label, version)).lastrowid or 0
        )


def _move(db: sqlite3.Connection, version: int, classes: Mapping[int, int]) -> None:
    """Put examples into other classes, and keep those that they were in."""
    db.executemany(
        "INSERT INTO before SELECT ?, number, class FROM examples WHERE number = ?",
        [(version, number) for number in classes],
    )
    db.executemany("UPDATE examples SET class = ? WHERE number = ?", [(one, number) for number, one in classes.items()])


def _of_class(db: sqlite3.Connection, number: int) -> list[int]:
    found = db.execute("SELECT number FROM examples WHERE class = ? AND gone = 0 ORDER BY number", (number,))
    return [row[0] for row in found]


def _numbers(db: sqlite3.Connection, ids: Sequence[str]) -> list[int]:
    """Return the numbers of examples in the order of their ids; raises ExampleNotFound."""
    select = "SELECT number FROM examples WHERE id = ? AND gone = 0"
    found = [db.execute(select, (one,)).fetchone() for one in ids]
    missing = [one for one, row in zip(ids, found, strict=True) if row is None]
    if missing:
        raise ExampleNotFound(
            f"{len(missing)} of {len(ids)} examples are not in the task, first {str(missing[0])[:100]!r}; nothing was "
            "done: ask for those that are there"
        )
    return [row[0] for row in found]


def _example(db: sqlite3.Connection, number: int, facts: TaskFacts, path: Path, *, with_items: bool) -> Example:
    one, label, note, key, created = db.execute(
        "SELECT id, label, note, item_key, created FROM examples JOIN classes ON classes.number = class "
        "WHERE examples.number = ?",
        (number,),
    ).fetchone()
    found = db.execute("SELECT item FROM items WHERE number = ?", (number,)).fetchone() if with_items else None
    item = found[0] if found else None
    X = _checked([_row(db, number)], np.array([number]), facts.dim, path)
    return Example(id=one, label=label, embedding=X[0], note=note, item_key=key, item=item, created=created)


def _row(db: sqlite3.Connection, number: int) -> Any:
    found = db.execute("SELECT number, crc, embedding FROM embeddings WHERE number = ?", (number,)).fetchone()
    return found or (number, None, b"")


def _crc(number: int, embedding: bytes) -> int:
    return zlib.crc32(embedding, zlib.crc32(number.to_bytes(8, "little")))


def _checked(rows: Iterable[Any], numbers: NDArray[np.int64], dim: int, path: Path) -> NDArray[np.float32]:
    """Return embeddings (n, dim) of rows of number, checksum and bytes; raises TaskInvalid where one is not right."""
    X = np.empty((len(numbers), dim), np.float32)
    n = 0
    for number, crc, embedding in rows:
        right = n < len(numbers) and number == numbers[n] and isinstance(embedding, bytes)
        if not right or len(embedding) != 4 * dim or crc != _crc(number, embedding):
            raise TaskInvalid(f"{path} is damaged: the embedding of example {number} is; import an export of the task")
        X[n] = np.frombuffer(embedding, _EMBEDDING)
        n += 1
    if n != len(numbers):
        raise TaskInvalid(f"{path} is damaged: it has {n} embeddings of {len(numbers)} examples; import an export")
    if not np.isfinite(X).all():
        raise TaskInvalid(f"{path} is damaged: NaN or infinity is among its embeddings; import an export of the task")
    return X


def checked_batch(
    facts: TaskFacts,
    limits: Limits,
    X: Any,
    labels: Sequence[str],
    ids: Sequence[str],
    notes: Sequence[str | None] | None,
    item_keys: Sequence[bytes | None] | None,
    items: Sequence[bytes | None] | None,
) -> Batch:
    """Return examples as they are added; raises LimitExceeded, InvalidOption, EmbeddingMismatch, NotFinite."""
    rows = as_embeddings(X, facts.dim)
    none = [None] * len(rows)
    batch = Batch(rows, labels, ids, notes or none, item_keys or none, (facts.keep_items and items) or none)
    for name in ("labels", "ids", "notes", "item_keys", "items"):
        n = len(getattr(batch, name))
        if n != len(rows):
            raise InvalidOption(f"there are {n} {name} and {len(rows)} embeddings; give one to each")
    _check_values(batch, limits)
    return batch


def _check_values(batch: Batch, limits: Limits) -> None:
    texts = (("label", set(batch.labels), limits.max_label_bytes), ("id", batch.ids, limits.max_id_bytes))
    for what, values, limit in (*texts, ("note", filter(None, batch.notes), limits.max_note_bytes)):
        for text in values:
            check_text(what, text, limit)
    contents = (("item key", batch.item_keys, limits.max_id_bytes), ("item", batch.items, limits.max_item_bytes))
    for what, contents_of, limit in contents:
        for content in filter(None, contents_of):
            if not isinstance(content, bytes):
                raise InvalidOption(f"an {what} is {type(content).__name__}, and must be bytes; turn it into them")
            limits.check_count(f"bytes in an {what}", len(content), limit, "make it smaller")
