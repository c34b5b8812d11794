"""The few-shot tasks of a server: the name of one -> the task, and what it has taught, in threads of their own.

The folder of tasks is one process's at a time, and a server need not have it: it is opened when a call first asks for a
task, and where that fails, the next call tries again. What answers from memory has threads of its own, and so has what
goes to disk, so that answers do not queue behind it; what takes long runs apart, at low priority.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from classifiers.errors import ClassifierError, StoreInUse, TaskUnwritable
from extractor.errors import Closed, RuntimeMissing
from extractor.home import tasks_folder
from headwater.service.aside import aside

if TYPE_CHECKING:
    from classifiers.learner import Learner
    from classifiers.tasks import Task, TaskStore

ANSWERING = max(2, min(8, os.cpu_count() or 1))  # threads that answer from memory; more than cores wait for the GIL
ON_DISK = 8  # that read and change files: most of their time they wait, for the disk or for each other
LEARNING = 2  # that learn from examples of a call
APART = 2  # suggestions, audits, exports and imports at once
NICENESS = 10  # of these
NEEDED = {"sklearn": "scikit-learn", "faiss": "faiss-cpu"}  # modules, and the packages that have them

T = TypeVar("T")


class Tasks:
    """The tasks under HEADWATER_HOME; methods that are no coroutines are for any thread.

    Parameters
    ----------
    folder : Path, optional
        By default that of HEADWATER_HOME, when it is first asked for.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._store: TaskStore | None = None
        self._learner: Learner | None = None
        self._closed = False
        self._lock = Lock()  # of these
        self._answering = ThreadPoolExecutor(ANSWERING, "tasks")
        self._on_disk = ThreadPoolExecutor(ON_DISK, "tasks-disk")
        self._learning = ThreadPoolExecutor(LEARNING, "tasks-learn")
        self._room_apart = asyncio.Semaphore(APART)

    async def answering(self, function: Callable[..., T], *arguments: object) -> T:
        """Await what answers from memory; errors name tasks, and no path of the server."""
        return await self._in(self._answering, function, *arguments)

    async def on_disk(self, function: Callable[..., T], *arguments: object) -> T:
        """Await what reads or changes files; it goes on to its end also where the caller leaves."""
        return await self._in(self._on_disk, function, *arguments)

    async def learning(self, function: Callable[..., T], *arguments: object) -> T:
        """Await what learns from examples of a call."""
        return await self._in(self._learning, function, *arguments)

    async def apart(self, function: Callable[..., T], *arguments: object) -> T:
        """Await what takes long: in a thread that does not keep the process at the end, and at low priority."""
        await self._room_apart.acquire()
        running = aside(copy_context().run, _at_low_priority, self._call, function, *arguments)
        running.add_done_callback(self._left)
        return await asyncio.shield(running)  # who leaves does not end it, and so makes no room yet

    def at_hand(self, name: str) -> "Task | None":
        """Return a task if it is in memory, without waiting for anything."""
        return self._store.at_hand(name) if self._store is not None else None

    @property
    def store(self) -> "TaskStore":
        """The tasks; raises StoreInUse, TaskUnwritable, RuntimeMissing where they cannot be had; Closed at the end."""
        store = self._store
        if store is None:
            with self._lock:
                self._check_open()
                store = self._store = self._store or _opened(self._folder or tasks_folder())
        return store

    @property
    def learner(self) -> "Learner":
        """What learns from them, and from examples that are not kept; raises RuntimeMissing, Closed."""
        learner = self._learner
        if learner is None:
            with self._lock:
                self._check_open()
                learner = self._learner = self._learner or _learner()
        return learner

    def task(self, name: str) -> "Task":
        """Return a task.

        Raises
        ------
        TaskNotFound, TaskInvalid, InvalidOption
        StoreInUse, TaskUnwritable, RuntimeMissing, Closed
        """
        return self.store.task(name)

    def delete(self, name: str, if_version: int | None) -> None:
        """Delete a task, and forget what it has taught; raises as `TaskStore.delete` does, and as `store`."""
        self.store.delete(name, if_version=if_version)
        self.learner.forget(name)

    def told(self, error: ClassifierError) -> ClassifierError:
        """Return an error as callers are told it: with names of tasks in place of the server's paths."""
        folder = str(self._store.folder) if self._store is not None else ""
        if not folder or folder not in str(error):
            return error
        return type(error)(str(error).replace(f"{folder}{os.sep}", "").replace(folder, "the folder of tasks"))

    def close(self) -> None:
        """End what runs, then let go of the folder."""
        for threads in (self._answering, self._on_disk, self._learning):
            threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
        for one in (self._learner, self._store):
            if one is not None:
                one.close()

    def _left(self, done: "asyncio.Future[Any]") -> None:
        self._room_apart.release()
        if not done.cancelled():
            done.exception()  # somebody has seen it, whoever left

    async def _in(self, threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(threads, copy_context().run, self._call, function, *arguments)
        except RuntimeError:  # they were shut down
            raise _stopping() from None
        return await running

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return function(*arguments)
        except ClassifierError as error:
            raise self.told(error) from None

    def _check_open(self) -> None:
        if self._closed:
            raise _stopping()


def _opened(folder: Path) -> "TaskStore":
    check_installed()
    from classifiers.tasks import TaskStore

    try:
        return TaskStore.open(folder)
    except StoreInUse:
        raise StoreInUse(
            "another process has the few-shot tasks of this server's home; ask that server, stop it, or start one with "
            "another HEADWATER_HOME"
        ) from None
    except OSError as error:
        raise TaskUnwritable(
            f"the folder of few-shot tasks cannot be opened here ({error.strerror}); make it writable to the server, "
            "and repeat"
        ) from None


def _learner() -> "Learner":
    check_installed()
    from classifiers.learner import Learner

    return Learner()


def check_installed() -> None:
    """Raise RuntimeMissing where there can be no tasks; loads nothing."""
    missing = [package for module, package in NEEDED.items() if not _is_there(module)]
    if missing:
        raise RuntimeMissing(
            f"few-shot tasks need {' and '.join(missing)}, not installed beside the server: "
            "pip install 'headwater[classifiers]'"
        )


@cache
def _is_there(module: str) -> bool:
    return find_spec(module) is not None


def _at_low_priority(function: Callable[..., T], *arguments: object) -> T:
    """Let the threads that answer run before this one: on Linux a thread has its own niceness."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    return function(*arguments)


def _stopping() -> Closed:
    return Closed("the server is stopping; ask another one, or this one once it is back")
