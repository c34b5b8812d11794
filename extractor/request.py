"""What one caller asked for at once: places for its outcomes, filled as they arrive, and one future for them all."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock

from extractor.errors import Cancelled, ExtractorError, InferenceFailed
from extractor.flights import Flight
from extractor.job import Job
from extractor.outcome import Embedded, Outcome
from extractor.stages import StageTimes


@dataclass(eq=False)
class Request:
    """What one caller asked for at once; `future` gives the outcomes, in the order of the items.

    `times` is complete when `future` is.
    """

    outcomes: list[Outcome | None]
    future: "Future[list[Outcome]]" = field(default_factory=Future)
    flights: list[Flight] = field(default_factory=list)
    times: StageTimes = field(default_factory=StageTimes)
    _pending: int = 1  # one for `submit` itself, so that no early outcome settles the request
    _lock: Lock = field(default_factory=Lock)

    def expect(self, flights: Sequence[Flight]) -> None:
        """Count these flights among what is awaited."""
        with self._lock:
            self.flights.extend(flights)
            self._pending += len(flights)

    def follow(self, flight: Flight, positions: Sequence[int]) -> None:
        """Put the outcome of an expected flight into its places once it has landed."""
        flight.future.add_done_callback(lambda future: self.settle(positions, _outcome(future), flight.job))

    def abandon(self) -> list[Flight]:
        """Give up what has not arrived; return the flights to leave, once."""
        self.future.cancel()
        with self._lock:
            flights, self.flights = self.flights, []
        return flights

    def settle(self, positions: Sequence[int] = (), outcome: Outcome | None = None, job: Job | None = None) -> None:
        """Put one outcome into its places; the last one that is awaited settles the request."""
        with self._lock:
            if job is not None:
                self.times.add(StageTimes(1000 * job.queue_s, 1000 * job.decode_s, 1000 * job.inference_s))
            for position in positions:
                self.outcomes[position] = outcome
            self._pending -= 1
            done = self._pending == 0
        if done and self.future.set_running_or_notify_cancel():
            self.future.set_result([one for one in self.outcomes if one is not None])


def _outcome(future: "Future[Embedded]") -> Outcome:
    if future.cancelled():
        return Outcome(error=Cancelled("every caller that asked for this item has left"))
    error = future.exception()
    if error is None:
        return Outcome(future.result().embedding, truncated=future.result().truncated)
    if isinstance(error, ExtractorError):
        return Outcome(error=error)
    return Outcome(error=InferenceFailed("the item could not be computed; the server's log says why"))
