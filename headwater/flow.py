"""A stream of items of any length -> messages to send; answers -> outcomes as they finish, each with its position.

Knows what is unanswered, so that a stream that broke is taken up with just that. Does no I/O, waits for nothing and
starts no thread: `Client` and `AsyncClient` drive it. All of it is for one thread, except `has_room` and `count`, which
are for the one that reads the items.
"""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic

import grpc

from extractor.errors import BackboneChanged, ExtractorError
from extractor.outcome import Outcome
from headwater import content, retry
from headwater.content import Content
from headwater.errors import ServiceError
from headwater.exchange import A, Progress, StreamQuestion
from headwater.retry import Failure, Tries

WINDOW = 256  # items that are read and not given out yet
WINDOW_BYTES = 32 << 20  # of items that are read and not answered yet, and one item more
MESSAGE_ITEMS = 32  # so that the server begins while the next message is on its way


class Flow(Generic[A]):
    """One call's items on their way through a stream, and the next one where it breaks.

    Parameters
    ----------
    question : StreamQuestion
        What is asked about them.
    timeout_s : float
        How long nothing at all may be answered while something is asked.
    progress : callable, optional
        Called with (items done, items in all or None) whenever some are done.
    total : int, optional
    clock : callable
    """

    def __init__(
        self,
        question: StreamQuestion[A],
        *,
        timeout_s: float,
        progress: Progress | None = None,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.question = question
        self.info = question.info
        self._timeout_s = timeout_s
        self._progress = progress
        self._total = total
        self._clock = clock
        # Written by who reads the items, and by nobody else; the counters of what left are written by the other side.
        self._n_read = 0
        self._bytes_read = 0
        self._n_given = 0
        self._bytes_answered = 0
        self._n_taken = 0
        self._n_done = 0
        self._unanswered: dict[int, bytes] = {}
        self._unsent: deque[int] = deque()
        self._later: list[tuple[float, int]] = []  # when to ask for an item again
        self._item_tries: dict[int, Tries] = {}
        self._found: deque[tuple[int, A]] = deque()
        self._ended = False
        self._source_error: BaseException | None = None  # raised when all before it is given
        self._error: Exception | None = None
        self._streaming = False
        self._open_at = 0.0
        self._may_send = False
        self._careful = False  # after a break, one message is sent, and no other before there is an answer
        self._tries: Tries | None = None  # of the stream, since something was answered
        self._last_answer = clock()

    @property
    def has_room(self) -> bool:
        """Whether another item should be read now."""
        return self._n_read - self._n_given < WINDOW and self._bytes_read - self._bytes_answered < WINDOW_BYTES

    def count(self, one: Content) -> None:
        """Say that an item was read, which is to be taken soon."""
        self._n_read += 1
        self._bytes_read += len(one) if isinstance(one, bytes) else 0

    @property
    def done(self) -> bool:
        """Whether every outcome has been given."""
        return self._ended and not self._unanswered and not self._found

    @property
    def may_open(self) -> bool:
        """Whether a stream should be opened now."""
        wanted = bool(self._unsent) and self._error is None
        return wanted and not self._streaming and self._clock() >= self._open_at

    def take(self, one: Content) -> None:
        """Take one more item, or the outcome of one that cannot be sent."""
        position, self._n_taken = self._n_taken, self._n_taken + 1
        if isinstance(one, Outcome):
            assert one.error is not None  # noqa: S101  # for mypy: it is not sent
            self._finish(position, self.question.failed(one.error))
            self._report()
            return
        if not self._unanswered:
            self._last_answer = self._clock()
        self._unanswered[position] = one
        self._unsent.append(position)

    def end(self, error: BaseException | None = None) -> None:
        """Say that there are no more items, or that reading them failed."""
        self._ended, self._source_error = True, error

    def opened(self) -> None:
        """Say that a stream was opened; what is unanswered is sent over it."""
        self._streaming = self._may_send = True

    def next_message(self) -> Any:
        """Return the next message to send over the open stream; None when there is none for the moment."""
        numbered: dict[int, bytes] = {}
        n_bytes = 0
        max_items = min(MESSAGE_ITEMS, self.info.request_limits.max_items)
        while self._may_send and self._unsent and len(numbered) < max_items:
            one = self._unanswered[self._unsent[0]]
            n_bytes += len(one)
            if numbered and n_bytes > content.max_bytes(self.info):
                break
            numbered[self._unsent.popleft()] = one
        if not numbered:
            return None
        self._may_send = not self._careful
        return self.question.message(numbered)

    def answer(self, response: Any) -> None:
        """Take the outcomes of a message; those that may come out better are asked for again."""
        try:
            outcomes = self.question.answers(response)
        except BackboneChanged as error:
            self._error = error
            return
        self._last_answer, self._tries = self._clock(), None
        self._careful, self._may_send = False, True
        for position, outcome in zip(response.ids, outcomes, strict=True):
            if position in self._unanswered and not self._again(position, outcome.error):
                self._finish(position, outcome)
        self._report()

    def broke(self, failure: Failure | None) -> None:
        """Have another stream opened later for what is unanswered, or give up; None: the server closed it well."""
        self._streaming = self._may_send = False
        self._careful = True
        waiting = {position for _, position in self._later}
        self._unsent = deque(position for position in self._unanswered if position not in waiting)
        if not self._unanswered and (failure is None or failure.retryable):
            return
        failure = failure or Failure(_left_open(len(self._unanswered)), grpc.StatusCode.UNAVAILABLE)
        now = self._clock()
        self._tries = self._tries or Tries(self._last_answer + self._timeout_s)
        pause = self._tries.pause_s(failure, now)
        if pause is None:
            self._error = failure.error
        else:
            self._open_at = now + pause

    def tick(self) -> None:
        """Act on the time: take up what is due, give up what is overdue."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            self._unsent.append(heapq.heappop(self._later)[1])
        if self._error is None and self._unanswered and now >= self._last_answer + self._timeout_s:
            overdue = Failure(_overdue(len(self._unanswered), self._timeout_s), grpc.StatusCode.DEADLINE_EXCEEDED)
            self._error = (overdue if self._tries is None else self._tries.cause(overdue)).error

    def wait_s(self) -> float | None:
        """Return the seconds until `tick` has to be called; None when nothing waits for its time."""
        times = [due for due, _ in self._later[:1]]
        if self._unanswered:
            times.append(self._last_answer + self._timeout_s)
        if self._unsent and not self._streaming:
            times.append(self._open_at)
        return max(0.0, min(times) - self._clock()) if times else None

    def found(self) -> Iterator[tuple[int, A]]:
        """Give out the outcomes that are there, each with the position of its item.

        Raises
        ------
        ExtractorError, HeadwaterError
            After them, when the flow was given up.
        BaseException
            After all others, what reading the items raised.
        """
        while self._found:
            self._n_given += 1
            yield self._found.popleft()
        if self._error is not None:
            raise self._error
        if self.done and self._source_error is not None:
            raise self._source_error

    def _again(self, position: int, error: ExtractorError | None) -> bool:
        """Have an item asked for again later if that may help; tell whether it will be."""
        failure = None if error is None else retry.of_item(error)
        if failure is None or not failure.retryable:
            return False
        now = self._clock()
        tries = self._item_tries.setdefault(position, Tries(now + self._timeout_s))
        pause = tries.pause_s(failure, now)
        if pause is not None:
            heapq.heappush(self._later, (now + pause, position))
        return pause is not None

    def _finish(self, position: int, outcome: A) -> None:
        self._bytes_answered += len(self._unanswered.pop(position, b""))
        self._item_tries.pop(position, None)
        self._found.append((position, outcome))
        self._n_done += 1

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._n_done, self._total)


def _left_open(n_items: int) -> ServiceError:
    return ServiceError(grpc.StatusCode.UNAVAILABLE, f"the server closed the stream with {n_items:,} items unanswered")


def _overdue(n_items: int, timeout_s: float) -> ServiceError:
    return ServiceError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"none of {n_items:,} items was answered within {timeout_s:g} s; raise timeout_s, or look at the server's load",
    )
