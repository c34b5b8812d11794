"""A lock that many readers share and one writer has alone; a writer that waits goes before new readers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Guards what many threads read and one changes. Neither side may take it twice at once."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_readers = 0
        self._n_waiting = 0
        self._writes = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it among other readers."""
        with self._condition:
            self._condition.wait_for(lambda: not self._writes and not self._n_waiting)
            self._n_readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_readers -= 1
                if not self._n_readers:
                    self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it alone."""
        with self._condition:
            self._n_waiting += 1
            try:
                self._condition.wait_for(lambda: not self._writes and not self._n_readers)
            finally:
                self._n_waiting -= 1
            self._writes = True
        try:
            yield
        finally:
            with self._condition:
                self._writes = False
                self._condition.notify_all()
