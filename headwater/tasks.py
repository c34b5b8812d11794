"""A flow driven by asyncio: items -> positions and outcomes.

One task reads the items, gRPC's own sends them, one receives the answers; whatever happens is put as a function into
one queue, and the caller's task does it, as in `threads`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any, Generic

import grpc

from headwater.content import Content
from headwater.exchange import A
from headwater.flow import Flow
from headwater.retry import Failure

# What grpc.aio says when it sends just as the other side ends the stream, in place of the status. The flow then sends
# one message over the next stream, and waits: if that is refused too, the status is heard.
CUT_OFF = "Internal error from Core"
LAST_WORD_S = 1.0  # for a server to end a stream whose items are all answered


class AsyncFlow(Generic[A]):
    """Drives one flow.

    Parameters
    ----------
    flow : Flow
    open_stream : callable
        An asynchronous iterator of messages to send -> a call that iterates over the answers.
    failure : callable
        What gRPC raised, None for a call that was cancelled -> Failure.
    """

    def __init__(
        self,
        flow: Flow[A],
        open_stream: Callable[[AsyncIterator[Any]], Any],
        failure: Callable[[grpc.RpcError | None], Failure],
    ) -> None:
        self._flow = flow
        self._open_stream = open_stream
        self._failure = failure
        self._events: asyncio.Queue[Callable[[], object]] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Event()
        self._call: Any = None
        self._receiver: asyncio.Task[None] | None = None

    async def outcomes(self, contents: AsyncIterator[Content]) -> AsyncGenerator[tuple[int, A], None]:
        """Yield positions and outcomes until all are given; raises what ends the flow early."""
        reader = asyncio.create_task(self._read(contents))
        try:
            while not self._flow.done:
                await self._handle_events()
                self._flow.tick()
                self._send()
                for found in self._flow.found():
                    yield found
                self._room.set()  # now, for several at once
        finally:
            reader.cancel()
            await self._hang_up()

    async def _handle_events(self) -> None:
        """Wait for something to happen, or for something to be due, and do all that has happened."""
        try:
            async with asyncio.timeout(self._flow.wait_s()):
                (await self._events.get())()
        except TimeoutError:
            pass
        while not self._events.empty():
            self._events.get_nowait()()

    def _send(self) -> None:
        if self._call is None and self._flow.may_open:
            self._outbox = asyncio.Queue()
            self._call = self._open_stream(_until_none(self._outbox))
            self._receiver = asyncio.create_task(self._receive(self._call))
            self._flow.opened()
        while (message := self._flow.next_message()) is not None:
            self._outbox.put_nowait(message)

    async def _read(self, contents: AsyncIterator[Content]) -> None:
        """Read items while there is room, in a task of its own."""
        try:
            await self._wait_for_room()
            async for one in contents:
                self._flow.count(one)
                self._events.put_nowait(partial(self._flow.take, one))
                await self._wait_for_room()
        except BaseException as error:  # whatever the caller's iterable raises is the caller's, who waits for it
            self._events.put_nowait(partial(self._flow.end, error))
        else:
            self._events.put_nowait(self._flow.end)

    async def _wait_for_room(self) -> None:
        while not self._flow.has_room:
            self._room.clear()
            await self._room.wait()

    async def _receive(self, call: Any) -> None:
        """Receive answers until the stream ends, in a task of its own."""
        try:
            async for response in call:
                self._events.put_nowait(partial(self._flow.answer, response))
        except grpc.RpcError as error:
            cut = error.details() == CUT_OFF
            self._events.put_nowait(partial(self._broke, None if cut else self._failure(error)))
        except asyncio.CancelledError:  # the client was closed; or nobody listens any more, and this is not heard
            self._events.put_nowait(partial(self._broke, self._failure(None)))
            raise
        else:
            self._events.put_nowait(partial(self._broke, None))

    def _broke(self, failure: Failure | None) -> None:
        self._outbox.put_nowait(None)
        self._call = None
        self._flow.broke(failure)

    async def _hang_up(self) -> None:
        """End the stream: well, if all was answered."""
        self._outbox.put_nowait(None)
        if self._call is not None and self._receiver is not None:
            if self._flow.done:
                await asyncio.wait([self._receiver], timeout=LAST_WORD_S)
            self._call.cancel()
            self._receiver.cancel()


async def _until_none(outbox: "asyncio.Queue[Any]") -> AsyncIterator[Any]:
    while (message := await outbox.get()) is not None:
        yield message
