"""A flow driven by threads: items -> positions and outcomes.

One thread reads the items, gRPC's own sends them, one receives the answers; whatever happens is put as a function into
one queue, and the caller's thread does it. So the flow has one thread.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Generic

import grpc

from extractor.items import Item
from headwater.content import content_of
from headwater.exchange import A
from headwater.flow import Flow
from headwater.retry import Failure

LAST_WORD_S = 1.0  # for a server to end a stream whose items are all answered

_END = object()


class ThreadedFlow(Generic[A]):
    """Drives one flow.

    Parameters
    ----------
    flow : Flow
    open_stream : callable
        An iterator of messages to send -> a call that iterates over the answers.
    failure : callable
        What gRPC raised -> Failure.
    """

    def __init__(
        self,
        flow: Flow[A],
        open_stream: Callable[[Iterator[Any]], Any],
        failure: Callable[[grpc.RpcError], Failure],
    ) -> None:
        self._flow = flow
        self._open_stream = open_stream
        self._failure = failure
        self._events: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self._room = Event()
        self._over = False
        self._call: Any = None
        self._receiver: Thread | None = None

    def outcomes(self, items: Iterable[Item]) -> Iterator[tuple[int, A]]:
        """Yield positions and outcomes until all are given; raises what ends the flow early."""
        Thread(target=self._read, args=(items,), name="headwater-items", daemon=True).start()
        try:
            while not self._flow.done:
                self._handle_events()
                self._flow.tick()
                self._send()
                yield from self._flow.found()
                self._room.set()  # now, for several at once
        finally:
            self._over = True
            self._room.set()
            self._hang_up()

    def _handle_events(self) -> None:
        """Wait for something to happen, or for something to be due, and do all that has happened."""
        try:
            self._events.get(timeout=self._flow.wait_s())()
            while True:
                self._events.get_nowait()()
        except Empty:
            return

    def _send(self) -> None:
        if self._call is None and self._flow.may_open:
            self._outbox = SimpleQueue()
            self._call = self._open_stream(iter(self._outbox.get, None))
            self._receiver = Thread(target=self._receive, args=(self._call,), name="headwater-answers", daemon=True)
            self._receiver.start()
            self._flow.opened()
        while (message := self._flow.next_message()) is not None:
            self._outbox.put(message)

    def _read(self, items: Iterable[Item]) -> None:
        """Read items while there is room, in a thread of its own."""
        try:
            source = iter(items)
            while self._wait_for_room() and (item := next(source, _END)) is not _END:
                one = content_of(item, self._flow.info)
                self._flow.count(one)
                self._events.put(partial(self._flow.take, one))
        except BaseException as error:  # whatever the caller's iterable raises is the caller's, who waits for it
            self._events.put(partial(self._flow.end, error))
        else:
            self._events.put(self._flow.end)

    def _wait_for_room(self) -> bool:
        while True:
            self._room.clear()  # before both looks, so that neither a later room nor the end is missed
            if self._over:
                return False
            if self._flow.has_room:
                return True
            self._room.wait()

    def _receive(self, call: Any) -> None:
        """Receive answers until the stream ends, in a thread of its own."""
        try:
            for response in call:
                self._events.put(partial(self._flow.answer, response))
        except grpc.RpcError as error:
            self._events.put(partial(self._broke, self._failure(error)))
        else:
            self._events.put(partial(self._broke, None))

    def _broke(self, failure: Failure | None) -> None:
        self._outbox.put(None)
        self._call = None
        self._flow.broke(failure)

    def _hang_up(self) -> None:
        """End the stream: well, if all was answered."""
        self._outbox.put(None)
        if self._call is not None:
            if self._flow.done and self._receiver is not None:
                self._receiver.join(LAST_WORD_S)
            self._call.cancel()
