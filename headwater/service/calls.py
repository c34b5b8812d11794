"""The calls that a server has accepted: each gets its errors as statuses, and all are counted so that it can drain."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from extractor.caller import Caller
from extractor.errors import Closed
from headwater import status
from headwater.convert import RequestLimits
from headwater.errors import RateExceeded
from headwater.service.door import Context as Context  # for the services
from headwater.service.door import Door, Pass

MOMENT_S = 0.1


@dataclass(eq=False)
class Call:
    """One call while it runs.

    Parameters
    ----------
    method : str
        The method's name: "Extract".
    deadline : float, optional
        When its caller stops waiting, on the clock of `time.monotonic`.
    caller : Caller
        Who asks.
    error : CallError, optional
        What ended it.
    admitted : Pass, optional
        What the door gave it.
    """

    method: str
    deadline: float | None = None
    caller: Caller = field(default_factory=Caller)
    error: status.CallError | None = None
    admitted: Pass | None = None

    def charge(self, n_items: int) -> None:
        """Count a request's items before they are worked on; raises what `Pass.charge` does."""
        if self.admitted is not None:
            self.admitted.charge(n_items)

    async def pace(self, n_items: int) -> None:
        """Count the items of a stream's message, and wait until they may come: a stream is slowed, not ended.

        While it waits nothing is read, and so gRPC's flow control slows the one who sends. Raises what `Pass.charge`
        does, RateExceeded only for what can never come.
        """
        while True:
            try:
                return self.charge(n_items)
            except RateExceeded as error:
                if error.retry_after_ms is None or error.retry_after_ms < 0:
                    raise
                await asyncio.sleep(error.retry_after_ms / 1000)

    def limits(self, limits: RequestLimits) -> RequestLimits:
        """Return a server's limits as they are for this caller."""
        max_items = self.admitted.max_items if self.admitted is not None else None
        return limits if max_items is None else replace(limits, max_items=min(max_items, limits.max_items))


class Calls:
    """The running calls of a server.

    gRPC's own stop cuts off, as CANCELLED, the calls that have arrived and are not yet handled. So the server goes on
    taking calls while it drains, and tells each that it is stopping.

    Parameters
    ----------
    door : Door, optional
        Decides which calls are let in; by default one that asks for no key.
    """

    def __init__(self, door: Door | None = None) -> None:
        self._door = door or Door()
        self._running = 0
        self._arrived = 0
        self.refusing = asyncio.Event()  # calls that go on for long watch it

    @asynccontextmanager
    async def accept(self, context: Context, method: str) -> AsyncIterator[Call]:
        """Run one call's work, if the door lets it in; an error that has a status ends the call with it."""
        call = Call(method, _deadline(context))
        self._arrived += 1
        self._running += 1
        try:
            if self.refusing.is_set():
                raise Closed("the server is stopping; ask another one, or this one once it is back")
            with self._door.admit(context, method) as admitted:
                call.caller, call.admitted = admitted.caller, admitted
                yield call
        except status.ROOTS as error:
            call.error = error
            context.set_trailing_metadata(status.metadata_of(error))
            await context.abort(status.code_of(error), str(error))
        finally:
            self._running -= 1

    def refuse(self) -> None:
        """Tell every call that comes from now on UNAVAILABLE, and every stream once it has answered what it began."""
        self.refusing.set()

    async def quiet(self, timeout_s: float) -> None:
        """Wait until no call runs and none has come for a moment, or until the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                arrived = -1
                while self._running or arrived != self._arrived:
                    arrived = self._arrived
                    await asyncio.sleep(MOMENT_S)


def _deadline(context: Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
