"""Single flight: a key and its item -> one computation at a time, whoever asks, with those who wait for it counted."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock

from extractor.job import Job
from extractor.outcome import Embedded


@dataclass(eq=False)
class Flight:
    """One item on its way, how many requests wait for it, and whether one of them wants it stored."""

    key: bytes
    job: Job
    store: bool = True
    waiters: int = field(default=1)

    @property
    def future(self) -> "Future[Embedded]":
        """What the waiting requests get."""
        return self.job.future


class Flights:
    """The items that are being computed now.

    Parameters
    ----------
    landed : callable
        Called once with (key, embedded) for each flight that succeeds and is to be stored, while newcomers still find
        the flight: what `landed` stores is there before the flight is gone.
    """

    def __init__(self, landed: Callable[[bytes, Embedded], None]) -> None:
        self._landed = landed
        self._aloft: dict[bytes, Flight] = {}
        self._watches: dict[object, set[bytes]] = {}
        self._lock = RLock()  # cancelling a future calls `_land` in the same thread

    @contextmanager
    def watch(self) -> Iterator[set[bytes]]:
        """Collect the keys of the flights that land meanwhile and are stored.

        Who looks a key up and then boards its flight may miss the one that has landed in between; here it finds it.
        """
        stored: set[bytes] = set()
        watch = object()
        with self._lock:
            self._watches[watch] = stored
        try:
            yield stored
        finally:
            with self._lock:
                del self._watches[watch]

    def board(self, key: bytes, job: Job, *, store: bool = True) -> tuple[Flight, bool]:
        """Join the flight of a key, or open one; the second value tells whether it is new, and so to be submitted."""
        with self._lock:
            flight = self._aloft.get(key)
            if flight is not None:
                flight.waiters += 1
                flight.job.deadline = max(flight.job.deadline, job.deadline)
                flight.store = flight.store or store
                return flight, False
            flight = self._aloft[key] = Flight(key, job, store)
        flight.future.add_done_callback(lambda _: self._land(flight))
        return flight, True

    def leave(self, flight: Flight) -> bool:
        """Stop waiting for a flight; the last one to leave cancels it, if it has not begun, which is then told."""
        with self._lock:
            flight.waiters -= 1
            return flight.waiters == 0 and flight.future.cancel()

    def _land(self, flight: Flight) -> None:
        future, stored = flight.future, False
        try:
            if flight.store and not future.cancelled() and future.exception() is None:
                self._landed(flight.key, future.result())
                stored = True
        finally:
            with self._lock:
                del self._aloft[flight.key]
                for keys in self._watches.values() if stored else ():
                    keys.add(flight.key)
