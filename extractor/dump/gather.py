"""A stream -> runs of its items, gathered by a thread of its own: what it gave does not wait for what it has not.

A run is handed on when it has many items or bytes, or when its first item has waited for a while.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Generic, TypeVar

READY = 2  # runs that wait to be taken

T = TypeVar("T")


class Runs(Generic[T]):
    """A stream that is gathered from now on; iterated, or taken from when there is room for more.

    Parameters
    ----------
    stream : iterable
        Iterated by a thread of its own, which also closes it.
    max_items : float
        Of a run; may be changed meanwhile.
    max_bytes : int
        A run ends with the item that reaches it.
    max_s : float
        How long an item may wait for others.
    size : callable
        Tells the bytes of an item.
    """

    def __init__(
        self, stream: Iterable[T], *, max_items: float, max_bytes: int, max_s: float, size: Callable[[T], int]
    ) -> None:
        self.max_items = max_items
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._size = size
        self._ready: deque[list[T]] = deque()
        self._run: list[T] = []  # which is being gathered
        self._n_bytes = 0
        self._due = 0.0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()
        Thread(target=self._gather, args=(stream,), name="dump-gather", daemon=True).start()

    def __iter__(self) -> Iterator[list[T]]:
        """Yield runs; raises what ended the stream, after what came before it."""
        while run := self.take():
            yield run
        self.check()

    def take(self, *, unless: Callable[[], bool] = bool) -> list[T]:
        """Wait for the next run, and return it; empty at the end, or where `unless` says so before there is one."""
        with self._changed:
            while not (self._may_go() or unless()):
                self._changed.wait(self._due - time.monotonic() if self._run else self._max_s)
            if not self._ready and self._may_go():
                self._end_run()
            self._changed.notify_all()  # there is room
            return self._ready.popleft() if self._ready else []

    def look(self, _: object = None) -> None:
        """Have whoever waits ask its `unless` again."""
        with self._changed:
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what ended the stream early."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Take no more; a stream that is waited for is closed by its thread as soon as it gives something."""
        with self._changed:
            self._closed = self._ended = True
            self._changed.notify_all()

    def _may_go(self) -> bool:
        return bool(self._ready) or self._ended or bool(self._run and time.monotonic() >= self._due)

    def _end_run(self) -> None:
        if self._run:
            self._ready.append(self._run)
            self._run, self._n_bytes = [], 0

    def _gather(self, stream: Iterable[T]) -> None:
        try:
            with ending(stream):
                for item in stream:
                    self._add(item)
                    del item
                    if self._closed:
                        break
        except BaseException as error:  # whoever takes has to know
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _add(self, item: T) -> None:
        with self._changed:
            if not self._run:
                self._due = time.monotonic() + self._max_s
            self._run.append(item)
            self._n_bytes += self._size(item)
            if len(self._run) >= self.max_items or self._n_bytes >= self._max_bytes:
                self._end_run()
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or len(self._ready) < READY)


@contextmanager
def ending(stream: object) -> Iterator[None]:
    """Close a generator where it is iterated, though others may hold it: no other thread should."""
    try:
        yield
    finally:
        if isinstance(stream, Generator):
            stream.close()
