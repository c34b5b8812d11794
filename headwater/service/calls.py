"""The calls that a server has accepted: each gets its errors as statuses, and all are counted so that it can drain."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio

from extractor.caller import ANYONE, Caller
from extractor.errors import Closed, ExtractorError
from headwater import status

Context = grpc.aio.ServicerContext[Any, Any]

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
    error : ExtractorError, optional
        What ended it.
    """

    method: str
    deadline: float | None = None
    caller: Caller = ANYONE
    error: ExtractorError | None = None


class Calls:
    """The running calls of a server.

    gRPC's own stop cuts off, as CANCELLED, the calls that have arrived and are not yet handled. So the server goes on
    taking calls while it drains, and tells each that it is stopping.
    """

    def __init__(self) -> None:
        self._running = 0
        self._arrived = 0
        self.refusing = asyncio.Event()  # calls that go on for long watch it

    @asynccontextmanager
    async def accept(self, context: Context, method: str) -> AsyncIterator[Call]:
        """Run one call's work; an ExtractorError ends the call with its status."""
        call = Call(method, _deadline(context))
        self._arrived += 1
        self._running += 1
        try:
            if self.refusing.is_set():
                raise Closed("the server is stopping; ask another one, or this one once it is back")
            yield call
        except ExtractorError as error:
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
