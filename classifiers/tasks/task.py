"""One task: changes go to its file first, then to what readers see; each makes a version."""

import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from numpy.typing import ArrayLike

from classifiers.errors import EmbeddingMismatch, InvalidOption, TaskNotFound, VersionConflict
from classifiers.tasks import exchange, file, schema
from classifiers.tasks.facts import Added, Change, Example, Limits, TaskFacts, check_text
from classifiers.tasks.live import Live, Nearest
from classifiers.tasks.settings import Settings
from classifiers.tasks.support import Delta, Support

T = TypeVar("T")


class Task:
    """A task that is open; made by `TaskStore`. Any number of threads may use it.

    Readers (`support`, `nearest`) never wait for a disk. Writers take turns.

    Parameters
    ----------
    path : Path
        Its file.
    facts : TaskFacts
    live : Live
    limits : Limits
    on_use : callable
        Told of each use of the file, with the task.
    """

    def __init__(
        self, path: Path, facts: TaskFacts, live: Live, limits: Limits, on_use: "Callable[[Task], None]"
    ) -> None:
        self.path = path
        self.facts = facts
        self.limits = limits
        self._live = live
        self._on_use = on_use
        self._lock = threading.RLock()  # of the connection, and of writers
        self._db: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def open(cls, path: Path, limits: Limits, on_use: "Callable[[Task], None]") -> Self:
        """Read a task from its file; raises TaskInvalid, where it is damaged or too new."""
        with closing(schema.connect(path)) as db, schema.reading(path):
            facts = replace(file.read_facts(db, path)[0], name=path.stem)  # a file may have been renamed
            live = Live(facts.dim)
            live.apply(file.read_support(db, facts, path))
        # Its file is opened again by the first change: most tasks are only read, and SQLite's cache is memory too.
        return cls(path, facts, live, limits, on_use)

    @property
    def support(self) -> Support:
        """The examples now; it never changes, and the next version has another."""
        return self._live.support

    @property
    def settings(self) -> Settings:
        """How it classifies now; read after `support`, they are of its version, or newer."""
        return self.facts.settings

    @property
    def version(self) -> int:
        """Of the support now."""
        return self.support.version

    def nearest(self, X: ArrayLike, k: int) -> Nearest:
        """Find the k most similar examples of each query X (n, dim), or all, where there are fewer.

        Raises
        ------
        EmbeddingMismatch, NotFinite, InvalidOption
        """
        return self._live.nearest(X, k)

    def add(
        self,
        X: ArrayLike,
        labels: Sequence[str],
        *,
        fingerprint: str,
        ids: Sequence[str] | None = None,
        notes: Sequence[str | None] | None = None,
        item_keys: Sequence[bytes | None] | None = None,
        items: Sequence[bytes | None] | None = None,
        if_version: int | None = None,
    ) -> Added:
        """Add examples; on disk when it returns. All of them, or with an error none.

        Parameters
        ----------
        X : array-like of shape (n, dim), float32
        labels : sequence of str
            One each; a label that is new is a new class.
        fingerprint : str
            Of the backbone that X comes from.
        ids : sequence of str, optional
            By default random. An id that is there with the same label and item is left as it is, so that an add can
            be repeated.
        notes, item_keys, items : sequence, optional
            `items` are kept only where the task says `keep_items`.
        if_version : int, optional
            Nothing is added unless the task is at this version.

        Raises
        ------
        EmbeddingMismatch, NotFinite, LimitExceeded, InvalidOption, ExampleConflict, VersionConflict, TaskUnwritable
        """
        if fingerprint != self.facts.fingerprint:
            raise EmbeddingMismatch(
                f"the embeddings have fingerprint {fingerprint!r}, task {self.facts.name!r} holds those of "
                f"{self.facts.backbone!r}, {self.facts.fingerprint!r}; extract the items with that backbone"
            )
        labels = list(labels)
        names = [uuid.uuid4().hex for _ in labels] if ids is None else list(ids)
        batch = file.checked_batch(self.facts, self.limits, X, labels, names, notes, item_keys, items)
        detail = {"labels": sorted(set(labels))[:10]}
        delta, version = self._change(
            "add",
            detail,
            lambda db, version: file.add(db, version, batch, len(self.support), self.limits, self.facts.dim),
            if_version,
        )
        return Added(version, tuple(names), len(delta.numbers) if delta else 0)

    def remove(self, ids: Sequence[str], *, if_version: int | None = None) -> int:
        """Remove examples; return the version.

        Raises
        ------
        ExampleNotFound, VersionConflict, TaskUnwritable
        """
        return self._version("remove", {}, lambda db, v: file.remove(db, v, ids, self.facts.dim), if_version)

    def relabel(self, labels: Mapping[str, str], *, if_version: int | None = None) -> int:
        """Give examples, by id, other labels; return the version.

        Raises
        ------
        ExampleNotFound, LimitExceeded, VersionConflict, TaskUnwritable
        """
        for label in set(labels.values()):
            check_text("label", label, self.limits.max_label_bytes)
        detail = {"labels": sorted(set(labels.values()))[:10]}
        return self._version(
            "relabel", detail, lambda db, v: file.relabel(db, v, labels, self.limits, self.facts.dim), if_version
        )

    def rename_class(self, label: str, to: str, *, if_version: int | None = None) -> int:
        """Give a class a label that no other has; return the version.

        Raises
        ------
        InvalidLabels, LimitExceeded, VersionConflict, TaskUnwritable
        """
        check_text("label", to, self.limits.max_label_bytes)
        detail = {"label": label, "to": to}
        return self._version(
            "rename class", detail, lambda db, v: file.rename_class(db, v, label, to, self.facts.dim), if_version
        )

    def merge_classes(self, labels: Sequence[str], into: str, *, if_version: int | None = None) -> int:
        """Put the examples of classes into another one, and remove the classes; return the version.

        Raises
        ------
        InvalidLabels, VersionConflict, TaskUnwritable
        """
        detail = {"labels": list(labels)[:10], "into": into}
        return self._version(
            "merge classes", detail, lambda db, v: file.merge_classes(db, v, labels, into, self.facts.dim), if_version
        )

    def remove_class(self, label: str, *, if_version: int | None = None) -> int:
        """Remove a class and its examples; return the version.

        Raises
        ------
        InvalidLabels, VersionConflict, TaskUnwritable
        """
        return self._version(
            "remove class", {"label": label}, lambda db, v: file.remove_class(db, v, label, self.facts.dim), if_version
        )

    def update(self, settings: Settings, *, if_version: int | None = None) -> int:
        """Classify otherwise from now on; return the version. This cannot be undone, and is in no undo's way.

        Raises
        ------
        InvalidOption, LimitExceeded, VersionConflict, TaskUnwritable
        """
        self.limits.check_settings(settings)
        detail: dict[str, Any] = {"settings": asdict(replace(settings, texts={}))}
        if settings.texts:
            detail["n_texts"] = len(settings.texts)

        def change(db: sqlite3.Connection, version: int) -> Delta | None:
            same = settings == self.facts.settings
            return None if same else file.set_settings(db, version, settings, self.facts.dim)

        return self._version("update", detail, change, if_version)

    def undo(self, n: int = 1, *, if_version: int | None = None) -> int:
        """Take back the last n changes that are not taken back yet, in one change; return the version.

        An undo is not undone: two of one change take back two changes.

        Raises
        ------
        InvalidOption
            So many cannot be undone.
        VersionConflict, TaskUnwritable
        """
        if n < 1:
            raise InvalidOption(f"n is {n}; undo 1 change or more")
        detail: dict[str, Any] = {}

        def change(db: sqlite3.Connection, version: int) -> Delta:
            delta, undone = file.undo(db, version, n, self.facts, self.path)
            detail["versions"] = undone
            return delta

        return self._version("undo", detail, change, if_version)

    def examples(self, ids: Sequence[str], *, with_items: bool = True) -> list[Example]:
        """Return examples with all that is kept of them, in the order of their ids; raises ExampleNotFound."""
        return self._read(lambda db: file.read_examples(db, ids, self.facts, self.path, with_items=with_items))

    def history(self, n: int = 100) -> list[Change]:
        """Return the last n changes, the newest first."""
        return self._read(lambda db: file.read_history(db, n))

    def export(self, path: str | Path) -> int:
        """Write the task, as it is now, into one file; return its version. Writers need not wait.

        The file is SQLite, with the examples, their items and the history, and with nothing that was removed.

        Raises
        ------
        TaskUnwritable
        """
        self._check_open()
        return exchange.export(self.path, Path(path))

    @property
    def is_closed(self) -> bool:
        """Whether it was closed or deleted: the store has another, or none."""
        return self._closed

    def check_version(self, if_version: int | None) -> None:
        """Raise VersionConflict where the task is at another version; None is any."""
        if if_version is not None and if_version != self.version:
            raise VersionConflict(
                f"task {self.facts.name!r} is at version {self.version}, and the change was meant for version "
                f"{if_version}; look at what has changed, and repeat it for version {self.version}"
            )

    def rest(self) -> bool:
        """Close the file until the next change; False, where it is in use just now."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._disconnect()
            return True
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the file; supports that readers have stay as they are."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _version(
        self,
        kind: str,
        detail: Mapping[str, Any],
        change: Callable[[sqlite3.Connection, int], Delta | None],
        if_version: int | None,
    ) -> int:
        return self._change(kind, detail, change, if_version)[1]

    def _change(
        self,
        kind: str,
        detail: Mapping[str, Any],
        change: Callable[[sqlite3.Connection, int], Delta | None],
        if_version: int | None,
    ) -> tuple[Delta | None, int]:
        """Make a change on disk, and then for readers; return it, None where nothing is to do, and the version."""
        with self._lock:
            db = self._connection()
            self.check_version(if_version)
            version = self.version + 1
            with schema.transaction(db, self.path):
                delta = change(db, version)
                if delta is not None:
                    n = len(delta.numbers) + len(delta.removed) + len(delta.relabelled)
                    file.record(db, version, kind, detail, n, self.limits)
            if delta is not None:
                self._show(delta)
            version = self.version
        self._on_use(self)
        return delta, version

    def _show(self, delta: Delta) -> None:
        if delta.settings is not None:  # before the support: see `settings`
            self.facts = replace(self.facts, settings=delta.settings)
        try:
            self._live.apply(delta)
        except BaseException:  # no memory: what is on disk is right, so who opens it again is
            self.close()
            raise

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, schema.reading(self.path):
            found = read(self._connection())
        self._on_use(self)
        return found

    def _connection(self) -> sqlite3.Connection:
        self._check_open()
        if self._db is None:
            self._db = schema.connect(self.path)
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _check_open(self) -> None:
        if self._closed or self._pid != os.getpid():  # SQLite's connections do not survive a fork
            raise TaskNotFound(
                f"task {self.facts.name!r} was deleted or closed, or is another process's; ask the store for it again"
            )
