"""Orders to learn -> their turns, in one process beside this one, which is replaced where it dies."""

import logging
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field

from classifiers import learning
from classifiers.learnt import Examples, Learnt

log = logging.getLogger(__name__)

CLOSED = "the learner is closed"
TRIES = 2  # a process may be killed for what another one does, but hardly twice


@dataclass(frozen=True, eq=False)
class Order:
    """What to learn.

    Parameters
    ----------
    examples : callable
        Gives them when it is their turn.
    method : str
    done : callable
        Told what was learnt, or why nothing was; in another thread.
    """

    examples: Callable[[], Examples]
    method: str
    done: Callable[[Learnt | str], object] = field(repr=False)


class Background:
    """Learns one order after the other; any thread may give one. The process starts with the first.

    Orders wait in two lines, of those that somebody waits for and of the others, which take turns.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: tuple[OrderedDict[Hashable, Order], ...] = (OrderedDict(), OrderedDict())
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def put(self, key: Hashable, order: Order, *, awaited: bool = False) -> bool:
        """Have an order done; one of the same key that has not begun is forgotten, and this has its place.

        False, where all is closed: then it is never told.
        """
        with self._changed:
            if self._closed:
                return False
            self._lines[not awaited][key] = order
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
                self._thread.start()
            self._changed.notify()
        return True

    def drop(self, key: Hashable) -> None:
        """Forget an order that has not begun."""
        with self._changed:
            for line in self._lines:
                line.pop(key, None)

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        process = self._process
        return process.pid if process else None

    def close(self) -> None:
        """End the process; orders that are not done are told so."""
        with self._changed:
            self._closed = True
            if self._process is not None:
                self._process.kill()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        awaited = True
        while (order := self._next(awaited)) is not None:
            awaited = not awaited
            order.done(self._told(order))
        self._end()
        for line in self._lines:
            for order in line.values():
                order.done(CLOSED)

    def _next(self, awaited: bool) -> Order | None:
        """Wait for an order, and take it from the line whose turn it is, if there is one; None: all is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._lines))
            if self._closed:
                return None
            line = self._lines[not awaited] or self._lines[awaited]
            return line.popitem(last=False)[1]

    def _told(self, order: Order) -> Learnt | str:
        try:
            examples = order.examples()
            for _ in range(TRIES):
                process = self._started()
                if process is None:
                    return CLOSED
                found = self._asked(process, examples, order.method)
                if found is not None:
                    return found if isinstance(found, str) else found.over(examples.X)
        except Exception as error:  # whatever it is, whoever waits is told
            log.exception("an order to learn failed")
            return f"{type(error).__name__}: {error}"
        return f"its process died {TRIES} times; there may be too little memory for so many examples"

    def _asked(self, process: "subprocess.Popen[bytes]", examples: Examples, method: str) -> Learnt | str | None:
        """Return what the process says; None, where it has died."""
        assert process.stdin is not None  # noqa: S101  # for mypy: both were asked for
        assert process.stdout is not None  # noqa: S101
        try:
            learning.ask(process.stdin, examples, method)
            return learning.answer(process.stdout)
        except (OSError, EOFError):
            log.warning("the process that learns died; it is replaced")
            self._end()
            return None

    def _started(self) -> "subprocess.Popen[bytes] | None":
        """Return the process, a new one where there is none; None, where all is closed."""
        with self._changed:
            if self._process is None and not self._closed:
                # In a group of its own: Ctrl-C is for the server, which ends it.
                self._process = subprocess.Popen(  # noqa: S603  # our own command
                    learning.command(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=learning.environment(),
                    process_group=0,
                )
            return None if self._closed else self._process

    def _end(self) -> None:
        with self._changed:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not written yet
                    pipe.close()
        process.wait()
