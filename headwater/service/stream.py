"""A stream of items: messages of items in, answers out as they finish, with a bounded number in between.

Three parties work on it. The reader (a task) reads a message when there is room, and has its items submitted in a
thread, for hashing is not for the event loop. The extractor's workers finish them. `run` writes what is finished. What
a message asks for, and what its items are answered with, is for `Answers` to say: embeddings, or classifications.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import grpc.aio

from extractor.errors import Closed, ExtractorError, QueueFull, RequestInvalid, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.request import Request
from extractor.stages import StageTimes
from headwater.convert import RequestLimits
from headwater.service.calls import Call, Calls, Context
from headwater.service.served import Served
from headwater.v1 import extractor_pb2 as pb

MAX_OUTCOMES = 64  # a message; what has finished meanwhile goes into the next
GATHER_S = 0.001  # so that the items of one forward go out together, while others are on their way
FULL_QUEUE_S = 0.02  # to wait where a full queue does not say how long

Identified = tuple[int, bytes]


class Message(Protocol):
    """A message of items, with an id for each."""

    @property
    def ids(self) -> Sequence[int]:
        """One for each item."""

    @property
    def items(self) -> Sequence[pb.Item]:
        """What is to be embedded."""


M_contra = TypeVar("M_contra", bound=Message, contravariant=True)
M = TypeVar("M", bound=Message)


class Answers(Protocol[M_contra]):
    """What the messages of a stream ask for, and what its items are answered with."""

    async def backbone_of(self, message: M_contra) -> str:
        """Return the name of the backbone that the first message asks for; raises what ends the stream."""

    def check(self, message: M_contra, extractor: Extractor) -> None:
        """Raise what ends the stream, where a message does not go with the extractor, or with those before it."""

    async def answer(self, some: Mapping[int, Outcome], times: StageTimes, extractor: Extractor) -> Any:
        """Return the message that answers some items, by their ids."""


class Stream(Generic[M]):
    """One call of a stream of items.

    Parameters
    ----------
    requests : asynchronous iterator of messages
    context : grpc.aio.ServicerContext
    call : Call
    served : Served
    limits : RequestLimits
    calls : Calls
        When they are refused, no more items are begun; nor when the backbone is replaced or unloaded.
    answers : Answers
    """

    def __init__(
        self,
        requests: AsyncIterator[M],
        context: Context,
        call: Call,
        served: Served,
        limits: RequestLimits,
        calls: Calls,
        answers: Answers[M],
    ) -> None:
        self._requests = requests
        self._context = context
        self._call = call
        self._served = served
        self._limits = limits
        self._calls = calls
        self._answers = answers
        self._extractor: Extractor | None = None  # as the first message has it
        self._using = ExitStack()  # of that extractor
        self._closed: Closed | None = None  # why no more items are begun
        self._watching: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._submitted: dict[int, Request | None] = {}  # until it is answered; None: it was refused by itself
        self._finished: deque[tuple[int, Outcome]] = deque()  # filled by workers, emptied by `run`
        self._n_writing = 0
        self._changed = asyncio.Event()  # something has finished, or the reader has ended
        self._room = asyncio.Event()  # something was written
        self._woken = False
        self._left = False
        self._lock = Lock()  # of `_submitted` and `_left`

    async def run(self) -> None:
        """Answer all items until the sender closes its side, or, once the server stops, those that were begun.

        Raises
        ------
        ExtractorError
            What ends the stream early.
        """
        self._reading = reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._changed.set())
        self._watch(self._calls.refusing, "the server is stopping")
        try:
            while not reading.done() or self._submitted:
                await self._changed.wait()
                self._changed.clear()
                if reading.done() and not reading.cancelled() and isinstance(reading.exception(), grpc.aio.AbortError):
                    break  # the call has ended: a message was none
                await self._write()
        finally:
            for task in (*self._watching, reading):
                task.cancel()
            self._leave()
            self._using.close()
        if self._closed is not None and reading.cancelled():
            raise self._closed
        reading.result()

    def _watch(self, event: asyncio.Event, what: str) -> None:
        """Begin no more items once an event is set."""

        async def end() -> None:
            await event.wait()
            self._closed = Closed(f"{what}; send what is unanswered on another stream")
            self._reading.cancel()

        self._watching.append(asyncio.create_task(end()))

    async def _read(self) -> None:
        """Take messages while there is room, until the sender closes its side."""
        async for message in self._requests:
            items = await self._accepted(message)
            del message  # its items are held one by one, and let go so
            await self._call.pace(len(items))
            while items:
                await asyncio.sleep(await asyncio.to_thread(self._submit, items))
            while len(self._submitted) + self._n_writing >= self._limits.max_stream_items:
                self._room.clear()
                await self._room.wait()

    async def _accepted(self, message: M) -> deque[Identified]:
        """Check a message and return its items."""
        if self._extractor is None:
            self._extractor = self._use(await self._answers.backbone_of(message))
        self._answers.check(message, self._extractor)
        self._check_ids(message.ids, len(message.items))
        return deque(zip(message.ids, (item.data for item in message.items), strict=True))

    def _use(self, name: str) -> Extractor:
        one = self._served.named(name)
        self._watch(one.leaving, f"backbone {one.extractor.spec.name!r} was replaced or unloaded")
        return self._using.enter_context(self._served.using(name))

    def _check_ids(self, ids: Sequence[int], n_items: int) -> None:
        if n_items > self._limits.max_items:
            raise RequestTooLarge(
                f"message has {n_items:,} items, the limit is {self._limits.max_items:,}; send them in several"
            )
        if len(ids) != n_items:
            raise RequestInvalid(f"message has {len(ids):,} ids for {n_items:,} items; give each item one")
        seen: set[int] = set()
        for one in ids:
            if one in seen or one in self._submitted:
                raise RequestInvalid(f"id {one} is of an item that is not answered yet; give each its own")
            seen.add(one)

    def _submit(self, items: deque[Identified]) -> float:
        """Submit items one by one, in a thread; return the seconds after which a full queue may take the others."""
        at_once: list[tuple[int, Outcome]] = []
        try:
            while items and self._closed is None:
                identity, content = items[0]
                outcome = self._begin(identity, content)
                items.popleft()
                if outcome is not None:
                    at_once.append((identity, outcome))
        except QueueFull as full:
            return max(FULL_QUEUE_S, (full.retry_after_ms or 0) / 1000)
        finally:
            self._tell(at_once)
        return 0.0

    def _begin(self, identity: int, content: bytes) -> Outcome | None:
        """Submit one item, and return its outcome if that is there at once; otherwise it is told later."""
        assert self._extractor is not None  # noqa: S101  # for mypy: a message was accepted
        try:
            request = self._extractor.submit(
                [content],
                caller=self._call.caller,
                deadline=self._call.deadline,
                control=self._call.cache_control,
            )
        except (QueueFull, Closed):
            raise
        except ExtractorError as error:
            self._follow(identity, None)
            return Outcome(error=error)
        if not self._follow(identity, request):
            self._extractor.cancel(request)
        elif request.future.done():
            return request.future.result()[0]
        else:
            request.future.add_done_callback(partial(self._landed, identity))
        return None

    def _follow(self, identity: int, request: Request | None) -> bool:
        """Count an item as submitted; False when the stream has ended meanwhile."""
        with self._lock:
            if not self._left:
                self._submitted[identity] = request
            return not self._left

    def _landed(self, identity: int, future: "Future[list[Outcome]]") -> None:
        if not future.cancelled():
            self._tell([(identity, future.result()[0])])

    def _tell(self, outcomes: list[tuple[int, Outcome]]) -> None:
        """Hand outcomes to the event loop, from any thread; one call wakes it for all that come before it runs."""
        self._finished.extend(outcomes)
        if self._finished and not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop has ended, and the stream with it
                self._loop.call_soon_threadsafe(self._changed.set)

    async def _write(self) -> None:
        """Write what has finished; a receiver that does not read stops this, and so in turn the reading."""
        if len(self._finished) < len(self._submitted):
            await asyncio.sleep(GATHER_S)
        self._woken = False  # before the look, so that what comes after it wakes again
        while self._finished:
            some = dict(self._finished.popleft() for _ in range(min(MAX_OUTCOMES, len(self._finished))))
            requests = [self._submitted.pop(one) for one in some]  # now: an id may come again as soon as it is read
            self._n_writing = len(some)
            times = _together([one.times for one in requests if one is not None])
            assert self._extractor is not None  # noqa: S101  # for mypy: it has answered
            message = await self._answers.answer(some, times, self._extractor)
            try:
                await self._context.write(message)
            except grpc.aio.InternalError:  # the receiver is gone, and gRPC is about to cancel this call
                raise asyncio.CancelledError from None
            self._n_writing = 0
            self._room.set()

    def _leave(self) -> None:
        """Leave everything that is unanswered: a caller that is gone is not worked for."""
        with self._lock:
            self._left = True
            requests = [one for one in self._submitted.values() if one is not None]
        for request in requests:
            assert self._extractor is not None  # noqa: S101  # for mypy: it was submitted
            self._extractor.cancel(request)


def _together(each: Sequence[StageTimes]) -> StageTimes:
    times = StageTimes()
    for one in each:
        times.add(one)
    return times
