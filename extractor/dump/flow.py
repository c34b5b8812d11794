"""reader -> extractor or client -> writer: entries become rows, handed on in the order of the source."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from threading import Event, Lock, Thread
from typing import Any, Protocol

from extractor.dump.counts import Counts
from extractor.dump.gather import ending
from extractor.dump.reader import read_ahead
from extractor.dump.row import Row, row_of
from extractor.dump.verb import ReadingVerb, StreamingVerb
from extractor.errors import InferenceFailed, ItemError
from extractor.outcome import Outcome
from extractor.sources.entry import Entry, clean

TICK_S = 0.25  # between two looks at whether to stop, and two reports
LEAVE_S = 2.0  # for the flow to let go of what it was asked to stop
MAX_PENDING = 8192  # rows that wait for one before them
MAX_FAILED = 256  # items one after the other on which the session itself failed: then it is not the items
ITEM_ERRORS = (ItemError, InferenceFailed)  # of one item; any other error is the dump's

Told = Callable[[Counts], object]


class Sink(Protocol):
    """Takes rows in the order of the source."""

    def put(self, rows: list[Row]) -> None:
        """Take the next rows; may wait."""
        ...


class Flow:
    """One run over the entries of a source.

    Parameters
    ----------
    entries : iterable of Entry
    verb : StreamingVerb
    sink : Sink
    counts : Counts
    numbered : bool
        Keys are row numbers.
    """

    def __init__(
        self, entries: Iterable[Entry], verb: StreamingVerb, sink: Sink, counts: Counts, *, numbered: bool
    ) -> None:
        self._entries = entries
        self._verb = verb
        self._sink = sink
        self._counts = counts
        self._numbered = numbered
        self._pending: dict[int, Row] = {}
        self._next = 0  # the position of the row that is handed on next
        self._lock = Lock()
        self._stop = Event()
        self._error: BaseException | None = None
        self._source_error: Exception | None = None  # raised when what came before it is done
        self._failed_in_a_row = 0
        self._settled = Event()

    def run(self, stop: Event, told: Told) -> bool:
        """Run until the end of the source, or until told to stop; return whether it was the end.

        Parameters
        ----------
        stop : Event
            Whoever sets it ends the flow: what is settled by then is handed on, the rest is not.
        told : callable
            Called in this thread, every now and then.

        Raises
        ------
        Exception
            What ended the flow early; rows that were settled before are handed on.
        """
        begun = time.monotonic()
        thread = Thread(target=self._work, name="dump-flow", daemon=True)
        thread.start()
        try:
            while thread.is_alive() and not stop.is_set():
                thread.join(TICK_S)
                self._counts.elapsed_s = time.monotonic() - begun
                told(self._counts)
        finally:
            stopped = thread.is_alive()
            self._stop.set()
            self._settled.set()
            thread.join(LEAVE_S)
            with self._lock:  # what comes after this is not handed on
                self._next = -1
        self._counts.elapsed_s = time.monotonic() - begun
        told(self._counts)
        self._error = self._error or self._source_error
        if self._error is not None and not stop.is_set():  # a signal may reach those who are asked, too
            raise self._error
        return not stopped and self._error is None

    def _work(self) -> None:
        try:
            with closing(self._verb.outcomes(self._items())) as outcomes:
                for position, outcome in outcomes:
                    self._settle(position, outcome)
                    if self._stop.is_set():
                        return
        except BaseException as error:
            if not self._stop.is_set():
                self._error = error

    def _items(self) -> Iterator[Any]:
        """Yield what the verb takes, and remember whose it is; in whichever thread the verb reads."""
        try:
            yield from self._read()
        except Exception as error:
            self._source_error = error

    def _read(self) -> Iterator[Any]:
        read: Iterator[tuple[Entry, Any]]
        listed_at: deque[float] = deque()  # of entries that are being read
        entries = _timed(self._entries, listed_at)
        if isinstance(self._verb, ReadingVerb):
            read = self._verb.reading(entries, self._counts)
        else:
            read = read_ahead(entries, max_bytes=self._verb.max_item_bytes, counts=self._counts)
        begun = time.monotonic()
        for position, (entry, item) in enumerate(read):
            self._counts.source_wait_s += time.monotonic() - begun
            self._pending[position] = row_of(entry, listed_at.popleft(), numbered=self._numbered)
            del entry
            while len(self._pending) > MAX_PENDING and not self._stop.is_set():
                self._settled.clear()
                self._settled.wait(TICK_S)
            if self._stop.is_set():
                return
            yield item
            del item
            begun = time.monotonic()

    def _settle(self, position: int, outcome: Outcome) -> None:
        if outcome.error is not None and not isinstance(outcome.error, ITEM_ERRORS):
            raise outcome.error
        self._failed_in_a_row = self._failed_in_a_row + 1 if isinstance(outcome.error, InferenceFailed) else 0
        if outcome.error is not None and self._failed_in_a_row > MAX_FAILED:
            raise outcome.error
        row = self._pending[position]
        row.embedding = outcome.embedding
        row.error = None if outcome.error is None else clean(str(outcome.error) or type(outcome.error).__name__)
        row.outcome = outcome
        self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            ready = []
            while (row := self._pending.get(self._next)) is not None and row.outcome is not None:
                self._counts.count(row.outcome, row.key)
                row.outcome = None
                ready.append(self._pending.pop(self._next))
                self._next += 1
            if ready:
                begun = time.monotonic()
                self._sink.put(ready)
                self._counts.disk_wait_s += time.monotonic() - begun
                self._settled.set()


def _timed(entries: Iterable[Entry], listed_at: deque[float]) -> Iterator[Entry]:
    """Yield entries, and note when."""
    with ending(entries):
        for entry in entries:
            listed_at.append(time.time())
            yield entry
