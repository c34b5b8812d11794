"""A folder of tasks, `NAME.sqlite` each; one process has it at a time.

A file a task: a large import holds up no other task, a damaged file harms none, a delete frees its bytes at once, and
an export is a copy. One process, because what it has in memory is derived from the files, and would not hear of
another's changes; others go through the server.
"""

import fcntl
import os
import secrets
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Self

from classifiers.errors import InvalidLabels, InvalidOption, StoreInUse, TaskExists, TaskNotFound, TaskUnwritable
from classifiers.tasks import exchange, file, schema
from classifiers.tasks.facts import Glance, Limits, TaskFacts, check_name, check_text
from classifiers.tasks.settings import Settings
from classifiers.tasks.task import Task

SUFFIX = ".sqlite"
LOCK_FILE = ".lock"


class TaskStore:
    """The tasks of a folder; opened by `TaskStore.open`, a context manager. Any number of threads may use it.

    Parameters
    ----------
    folder : Path
    lock : int
        Descriptor that holds the folder's lock.
    limits : Limits
    """

    def __init__(self, folder: Path, lock: int, limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self._descriptor = lock
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._tasks: dict[str, Task] = {}
        self._used: OrderedDict[str, Task] = OrderedDict()  # those whose file is open, least recently used first
        self._used_lock = threading.Lock()

    @classmethod
    def open(cls, folder: str | Path, *, limits: Limits | None = None) -> Self:
        """Open the tasks of a folder, or begin it.

        Raises
        ------
        StoreInUse
            Another process has it.
        OSError
            The folder cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StoreInUse(
                f"another process has the tasks in {folder}; ask that server for what you want, stop it, or name "
                "another folder"
            ) from None
        store = cls(folder, descriptor, limits or Limits())
        for path in folder.glob(".new-*"):  # what a killed process had begun
            path.unlink(missing_ok=True)
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def names(self) -> list[str]:
        """Return the names of all tasks, sorted."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"[!.]*{SUFFIX}"))

    def create(
        self,
        name: str,
        *,
        backbone: str,
        fingerprint: str,
        dim: int,
        settings: Settings | None = None,
        labels: Sequence[str] = (),
        keep_items: bool = False,
    ) -> Task:
        """Make a task, at version 1.

        Raises
        ------
        TaskExists, InvalidOption, InvalidLabels, LimitExceeded, TaskUnwritable
        """
        check_name(name)
        if dim < 1:
            raise InvalidOption(f"dim is {dim}; name the length of the backbone's embeddings")
        self.limits.check_count("values in an embedding", dim, self.limits.max_dim, "take a backbone with fewer")
        self.limits.check_count("labels", len(labels), self.limits.max_labels, "begin with fewer")
        for label in labels:
            check_text("label", label, self.limits.max_label_bytes)
        self.limits.check_settings(settings or Settings())
        if len(set(labels)) < len(labels):
            raise InvalidLabels(f"of {len(labels)} labels {len(set(labels))} differ; name each once")
        facts = TaskFacts(
            name=name,
            backbone=backbone,
            fingerprint=fingerprint,
            dim=dim,
            settings=settings or Settings(),
            keep_items=keep_items,
            created=file.now(),
        )
        with self._lock:
            self.check_new(name)
            staged = self._staged()
            try:
                self._write(staged, facts, labels)
                return self._settle(staged, name)
            finally:
                exchange.discard(staged)

    def task(self, name: str) -> Task:
        """Return a task, read from its file when it is first asked for.

        Raises
        ------
        TaskNotFound
        TaskInvalid
            Its file is damaged, or of a newer format.
        """
        self._check_process()
        found = self.at_hand(name)  # without the lock: who opens or deletes another one holds up nobody
        if found is not None:
            return found
        with self._lock:
            found = self.at_hand(name)
            if found is None:
                check_name(name)
                self._check_there(name)
                found = self._tasks[name] = Task.open(self._path(name), self.limits, self._note_use)
            return found

    def at_hand(self, name: str) -> Task | None:
        """Return a task if it is in memory; waits for nothing."""
        found = self._tasks.get(name)
        return None if found is None or found.is_closed else found

    def glance(self, name: str) -> Glance:
        """Return what a task is and how much it holds, without reading all of it into memory.

        Raises
        ------
        TaskNotFound, TaskInvalid
        """
        self._check_process()
        task = self.at_hand(name)
        if task is not None:
            support = task.support
            return Glance(task.facts, support.version, len(support), len(support.labels))
        check_name(name)
        self._check_there(name)
        path = self._path(name)
        with closing(schema.connect(path)) as db, schema.reading(path):
            facts, version = file.read_facts(db, path)
            return Glance(replace(facts, name=name), version, *file.count(db))

    def delete(self, name: str, *, if_version: int | None = None) -> None:
        """Delete a task and all that it holds; this cannot be undone. A damaged one goes too.

        Raises
        ------
        TaskNotFound, VersionConflict, TaskUnwritable
        """
        self._check_process()
        with self._lock:
            check_name(name)
            self._check_there(name)
            if if_version is not None:
                self.task(name).check_version(if_version)
            task = self._tasks.pop(name, None)
            if task is not None:
                task.close()
            with self._used_lock:
                self._used.pop(name, None)
            try:
                exchange.discard(self._path(name))
                exchange.sync_folder(self.folder)
            except OSError as error:
                raise TaskUnwritable(f"task {name!r} could not be deleted ({error.strerror}); repeat it") from None

    def import_file(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        fingerprint: str | None = None,
        dim: int | None = None,
        accept: Callable[[TaskFacts], object] | None = None,
    ) -> Task:
        """Make a task of a file that `Task.export` has written; all of it is checked first.

        Parameters
        ----------
        path : str or Path
        name : str, optional
            By default the one that it had.
        fingerprint, dim : optional
            Of the backbone that it shall be used with; by default any.
        accept : callable, optional
            Called with what the task is, before it appears; raises where it shall not.

        Raises
        ------
        TaskInvalid
            It is damaged, altered, too new, or no task.
        TaskExists, EmbeddingMismatch, LimitExceeded, InvalidOption, TaskUnwritable
        """
        self._check_process()
        if name is not None:
            check_name(name)
        staged = self._staged()
        try:
            facts = exchange.take_in(Path(path), staged, name, self.limits)
            exchange.check_embeddings(facts, Path(path), fingerprint, dim)
            if accept is not None:
                accept(facts)
            with self._lock:
                self.check_new(facts.name)
                return self._settle(staged, facts.name)
        finally:
            exchange.discard(staged)

    def close(self) -> None:
        """Close all tasks, and let others have the folder."""
        with self._lock:
            for task in self._tasks.values():
                task.close()
            self._tasks.clear()
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _write(self, staged: Path, facts: TaskFacts, labels: Sequence[str]) -> None:
        try:
            schema.create(staged)
        except sqlite3.Error as error:
            raise TaskUnwritable(f"a task could not be written to {self.folder} ({error}); make room") from None
        db = schema.connect(staged, staged=True)
        try:
            with schema.transaction(db, staged):
                file.write_facts(db, facts, labels)
        finally:
            db.close()

    def _settle(self, staged: Path, name: str) -> Task:
        """Give a written file its task's name, and open it."""
        path = self._path(name)
        try:
            for suffix in exchange.SIDE_FILES:  # of a file that is gone: SQLite would play them into the new one
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            exchange.settle(staged, path)
        except OSError as error:
            raise TaskUnwritable(f"task {name!r} could not be written ({error.strerror}); make room") from None
        return self.task(name)

    def _note_use(self, task: Task) -> None:
        """Let the file of the task that was least recently used rest, where too many are open."""
        with self._used_lock:
            self._used[task.facts.name] = task
            self._used.move_to_end(task.facts.name)
            over = len(self._used) > self.limits.max_open_files
            oldest = self._used.popitem(last=False)[1] if over else None
        if oldest is not None and not oldest.rest():  # it works just now, and will be noted again
            with self._used_lock:
                self._used.setdefault(oldest.facts.name, oldest)

    def _staged(self) -> Path:
        return self.folder / f".new-{secrets.token_hex(8)}"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def check_new(self, name: str) -> None:
        """Raise TaskExists where a name is taken, InvalidOption for what is none."""
        self._check_process()
        check_name(name)
        if self._path(name).exists():
            raise TaskExists(f"there is a task {name!r} already; delete it first, or take another name")

    def _check_there(self, name: str) -> None:
        if not self._path(name).exists():
            some = ", ".join(self.names()[:10]) or "none yet; create one"
            raise TaskNotFound(f"there is no task {name!r}; there are: {some}")

    def _check_process(self) -> None:
        """SQLite's connections and the folder's lock do not survive a fork."""
        if self._descriptor < 0 or self._pid != os.getpid():
            raise StoreInUse(f"the tasks in {self.folder} are closed, or another process's; open the folder anew")
