"""A stream of items -> requests to send now, and again; their answers -> outcomes in the order of the items.

Knows which items are answered and which are to be asked for again, and when. Does no I/O, waits for nothing and starts
no thread: `Client` and `AsyncClient` drive it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Generic, Protocol, TypeVar

import grpc

from extractor.errors import BackboneChanged, ExtractorError
from extractor.outcome import Outcome
from headwater import content, convert, retry
from headwater.content import Content
from headwater.convert import BackboneInfo
from headwater.errors import HeadwaterError, ServiceError
from headwater.retry import Failure, Tries
from headwater.status import CallError
from headwater.v1 import extractor_pb2 as pb

MAX_ITEMS = 64  # a request; small enough that a first answer comes soon and no server's limit is met
REQUESTS_IN_FLIGHT = 4  # so that the server always has the next request at hand
REQUESTS_OPEN = 16  # with those that wait to be sent again, and those answered before an earlier one

Progress = Callable[[int, int | None], object]


class Answer(Protocol):
    """What a server tells of one item, or why it does not."""

    @property
    def error(self) -> ExtractorError | None:
        """The item's own error."""
        ...


A = TypeVar("A", bound=Answer)
A_co = TypeVar("A_co", bound=Answer, covariant=True)


class Question(Protocol[A_co]):
    """What is asked about items, in any number of requests; `Extraction` is one.

    Parameters
    ----------
    info : BackboneInfo
        Of the backbone that reads the items: what its server accepts.
    method : str
    """

    @property
    def info(self) -> BackboneInfo:
        """The backbone that reads the items."""
        ...

    @property
    def method(self) -> str:
        """The name of the method that answers."""
        ...

    def request(self, items: Iterable[bytes]) -> Any:
        """Return the request about items."""
        ...

    def answers(self, response: Any) -> Iterator[A_co]:
        """Return what a response tells of each item; raises BackboneChanged."""
        ...

    def failed(self, error: ExtractorError) -> A_co:
        """Return what stands in the place of an item that cannot be sent."""
        ...


class StreamQuestion(Question[A_co], Protocol[A_co]):
    """What is asked about items over one stream; `answers` then takes one of its messages.

    Parameters
    ----------
    stream : str
    """

    @property
    def stream(self) -> str:
        """The name of the method that answers a stream."""
        ...

    def message(self, numbered: Mapping[int, bytes]) -> Any:
        """Return the message that carries items, by their ids."""
        ...


@dataclass(frozen=True)
class Extraction:
    """Asks for embeddings; see `Question` and `StreamQuestion`."""

    info: BackboneInfo
    method: str = "Extract"
    stream: str = "ExtractStream"

    def request(self, items: Iterable[bytes]) -> pb.ExtractRequest:
        """Return the request for items."""
        return convert.from_items(self.info.name, items)

    def message(self, numbered: Mapping[int, bytes]) -> pb.ExtractStreamRequest:
        """Return the message that carries items of a stream, by their ids."""
        return convert.from_numbered(self.info.name, numbered)

    def answers(self, response: pb.ExtractResponse | pb.ExtractStreamResponse) -> Iterator[Outcome]:
        """Return the outcomes of a response; raises BackboneChanged."""
        if response.fingerprint or isinstance(response, pb.ExtractResponse):  # a stream says it in its first message
            convert.check_fingerprint(response, self.info)
        return convert.to_outcomes(response, self.info.dim)

    def failed(self, error: ExtractorError) -> Outcome:
        """Return the outcome of an item that cannot be sent."""
        return Outcome(error=error)


@dataclass(eq=False)
class Slice(Generic[A]):
    """Consecutive items, which are sent together; again, with those that are unanswered, as often as it takes."""

    outcomes: list[A | None] = field(default_factory=list)
    unanswered: dict[int, bytes] = field(default_factory=dict)  # by their places in `outcomes`
    n_bytes: int = 0
    complete: bool = False  # no item will be added
    in_flight: bool = False
    due: float = 0.0  # when to send it
    tries: Tries | None = None  # since it was first sent
    error: CallError | HeadwaterError | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of it."""
        return self.error is not None or (self.complete and not self.unanswered)

    def add(self, one: bytes | A) -> None:
        """Take one more item, or the outcome of one that cannot be sent."""
        if isinstance(one, bytes):
            self.unanswered[len(self.outcomes)] = one
            self.n_bytes += len(one)
            self.outcomes.append(None)
        else:
            self.outcomes.append(one)

    def settle(self, place: int, outcome: A) -> None:
        """Put an item's outcome in its place."""
        self.outcomes[place] = outcome
        del self.unanswered[place]


class Exchange(Generic[A]):
    """One call's items on their way through requests.

    Parameters
    ----------
    question : Question
        What is asked about them.
    timeout_s : float
        For one request and all its repetitions.
    progress : callable, optional
        Called with (items done, items in all or None) whenever some are done.
    total : int, optional
    clock : callable
    """

    def __init__(
        self,
        question: Question[A],
        *,
        timeout_s: float,
        progress: Progress | None = None,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.question = question
        self.info = info = question.info
        self._timeout_s = timeout_s
        self._progress = progress
        self._total = total
        self._clock = clock
        self._open: deque[Slice[A]] = deque()
        self._ended = False
        self._n_done = 0
        self._max_items = min(MAX_ITEMS, info.request_limits.max_items)
        self._max_bytes = content.max_bytes(info)

    @property
    def wants_items(self) -> bool:
        """Whether another item should be taken now."""
        if self._ended or any(part.error for part in self._open):
            return False
        if sum(part.complete for part in self._open) >= REQUESTS_OPEN:
            return False
        now = self._clock()
        return sum(part.due <= now for part in self._waiting()) < self._n_free

    @property
    def done(self) -> bool:
        """Whether every outcome has been given."""
        return self._ended and not self._open

    def take(self, one: Content) -> None:
        """Take one more item, or the outcome of one that cannot be sent."""
        size = len(one) if isinstance(one, bytes) else 0
        part = self._open[-1] if self._open else None
        if part is None or part.complete or part.n_bytes + size > self._max_bytes:
            self._complete()
            part = Slice[A]()
            self._open.append(part)
        if isinstance(one, Outcome):
            assert one.error is not None  # noqa: S101  # for mypy: it is not sent
            part.add(self.question.failed(one.error))
        else:
            part.add(one)
        if len(part.outcomes) == self._max_items:
            self._complete()

    def end(self) -> None:
        """Say that there are no more items."""
        self._ended = True
        self._complete()

    def due(self) -> list[Slice[A]]:
        """Return the slices to send now; each is to be answered or refused."""
        now = self._clock()
        parts = [part for part in self._waiting() if part.due <= now][: self._n_free]
        for part in parts:
            part.in_flight = True
            part.tries = part.tries or Tries(now + self._timeout_s)
        return parts

    def request(self, part: Slice[A]) -> tuple[Any, float]:
        """Return the request for what is unanswered of a slice, and the seconds that it may take."""
        assert part.tries is not None  # noqa: S101  # for mypy: it was due
        message = self.question.request(part.unanswered.values())
        return message, max(0.0, part.tries.deadline - self._clock())

    def answer(self, part: Slice[A], response: Any) -> None:
        """Put the outcomes of a response where they belong; those that may come out better are asked for again."""
        part.in_flight = False
        try:
            self._settle(part, response)
        except (BackboneChanged, ServiceError) as error:
            part.error = error
        self._report()

    def refuse(self, part: Slice[A], failure: Failure) -> None:
        """Have a slice sent again later, or give it up."""
        part.in_flight = False
        if not self._again(part, failure):
            part.error = failure.error if part.tries is None else part.tries.cause(failure).error

    def wait_s(self) -> float | None:
        """Return the seconds until a slice is due; None when only an answer can bring something to do."""
        due = [part.due for part in self._waiting()] if self._n_free else []
        return max(0.0, min(due) - self._clock()) if due else None

    def ready(self) -> Iterator[A]:
        """Give out the outcomes that are there, in the order of the items, as far as there is no gap.

        Raises
        ------
        ExtractorError, HeadwaterError
            In the place of a slice that was given up.
        """
        while self._open and self._open[0].settled:
            part = self._open.popleft()
            if part.error is not None:
                raise part.error
            begun = self._clock()
            yield from (outcome for outcome in part.outcomes if outcome is not None)
            self._extend(self._clock() - begun)

    @property
    def _n_free(self) -> int:
        return REQUESTS_IN_FLIGHT - sum(part.in_flight for part in self._open)

    def _waiting(self) -> Iterator[Slice[A]]:
        """Yield what is to be sent, now or later; nothing that comes after a slice that was given up."""
        before_an_error = takewhile(lambda part: part.error is None, self._open)
        return (part for part in before_an_error if part.complete and not part.in_flight and not part.settled)

    def _complete(self) -> None:
        if self._open and not self._open[-1].complete:
            self._open[-1].complete = True
            self._n_done += len(self._open[-1].outcomes) - len(self._open[-1].unanswered)
            if not self._open[-1].unanswered:
                self._report()

    def _settle(self, part: Slice[A], response: Any) -> None:
        answers = list(self.question.answers(response))
        if len(answers) != len(part.unanswered):
            found, asked = len(answers), len(part.unanswered)
            raise ServiceError(grpc.StatusCode.UNKNOWN, f"the server gave {found:,} outcomes for {asked:,} items")
        refused: dict[int, A] = {}
        for place, outcome in zip(list(part.unanswered), answers, strict=True):
            if outcome.error is not None and retry.of_item(outcome.error).retryable:
                refused[place] = outcome
            else:
                self._n_done += 1
                part.settle(place, outcome)
        errors = [outcome.error for outcome in refused.values() if outcome.error is not None]
        if errors and not self._again(part, retry.of_item(errors[0])):
            self._n_done += len(refused)
            for place, outcome in refused.items():
                part.settle(place, outcome)

    def _again(self, part: Slice[A], failure: Failure) -> bool:
        now = self._clock()
        pause = part.tries.pause_s(failure, now) if part.tries is not None else None
        part.due = now + (pause or 0.0)
        return pause is not None

    def _extend(self, seconds: float) -> None:
        """Give the open slices the time in which the caller was busy with outcomes: nothing is repeated meanwhile."""
        for part in self._open:
            if part.tries is not None:
                part.tries.deadline += seconds

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._n_done, self._total)
