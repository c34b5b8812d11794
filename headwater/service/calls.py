"""The calls that a server has accepted: each gets its errors as statuses, and all are counted so that it can drain."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import grpc

from extractor.cache.control import PLAIN, CacheControl
from extractor.caller import Caller
from extractor.errors import Closed
from headwater import status
from headwater.convert import RequestLimits
from headwater.errors import RateExceeded
from headwater.service.door import Context as Context  # for the services
from headwater.service.door import Door, Pass
from headwater.service.sight import Sight

MOMENT_S = 0.1
REQUEST_ID_KEY = "x-request-id"  # metadata, either way
CACHE_CONTROL_KEY = "cache-control"  # metadata
_REQUEST_ID = re.compile(r"[!-~]{1,64}")  # visible ASCII


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
    request_id : str
        Its caller's `x-request-id` where that is 1 to 64 visible ASCII characters, else a fresh one of 16 digits.
    metadata : mapping of str to str or bytes
        What came with it. It may hold keys: it is never printed.
    begun_s : float
        When it was accepted, on the clock of `time.monotonic`.
    n_items : int
        Items that it had answered.
    """

    method: str
    deadline: float | None = None
    caller: Caller = field(default_factory=Caller)
    error: status.CallError | None = None
    admitted: Pass | None = None
    request_id: str = ""
    metadata: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)
    begun_s: float = field(default_factory=time.monotonic)
    n_items: int = 0

    @property
    def cache_control(self) -> CacheControl:
        """What the call's metadata says of the cache."""
        sent = self.metadata.get(CACHE_CONTROL_KEY)
        return CacheControl.parse(sent) if isinstance(sent, str) else PLAIN

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
    sight : Sight, optional
        Sees each begin and end.
    """

    def __init__(self, door: Door | None = None, sight: Sight | None = None) -> None:
        self._door = door or Door()
        self.sight = sight or Sight()
        self._running = 0
        self._arrived = 0
        self.refusing = asyncio.Event()  # calls that go on for long watch it

    @asynccontextmanager
    async def accept(self, context: Context, method: str) -> AsyncIterator[Call]:
        """Run one call's work, if the door lets it in; an error that has a status ends the call with it."""
        metadata = _once_each(context.invocation_metadata() or ())
        call = Call(method, _deadline(context), metadata=metadata, request_id=_request_id(metadata))
        echo = ((REQUEST_ID_KEY, call.request_id),)
        code = grpc.StatusCode.UNKNOWN  # what gRPC makes of an exception that is not ours
        self._arrived += 1
        self._running += 1
        self.sight.began(call)
        try:
            context.set_trailing_metadata(echo)
            if self.refusing.is_set():
                raise Closed("the server is stopping; ask another one, or this one once it is back")
            with self._door.admit(context, method) as admitted:
                call.caller, call.admitted = admitted.caller, admitted
                yield call
            code = grpc.StatusCode.OK
        except status.ROOTS as error:
            call.error, code = error, status.code_of(error)
            context.set_trailing_metadata((*status.metadata_of(error), *echo))
            await context.abort(code, status.message_of(error))
        except asyncio.CancelledError:
            code = _left(call)
            raise
        finally:
            self._running -= 1
            self.sight.ended(call, code)

    def refuse(self) -> None:
        """Tell every call that comes from now on UNAVAILABLE, and every stream once it has answered what it began."""
        self.refusing.set()

    @property
    def running(self) -> int:
        """How many calls run."""
        return self._running

    async def quiet(self, timeout_s: float) -> bool:
        """Wait until no call runs and none has come for a moment; False when the time is over before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                arrived = -1
                while self._running or arrived != self._arrived:
                    arrived = self._arrived
                    await asyncio.sleep(MOMENT_S)
        return self._running == 0


def _once_each(sent: Collection[tuple[str, str | bytes]]) -> dict[str, str | bytes]:
    """Return a call's metadata by key: the last value of each, but all directives for the cache."""
    metadata = dict(sent)
    directives = [value for key, value in sent if key == CACHE_CONTROL_KEY and isinstance(value, str)]
    return metadata | {CACHE_CONTROL_KEY: ",".join(directives)} if len(directives) > 1 else metadata


def _request_id(metadata: Mapping[str, str | bytes]) -> str:
    sent = metadata.get(REQUEST_ID_KEY)
    if isinstance(sent, str) and _REQUEST_ID.fullmatch(sent):
        return sent
    return f"{random.getrandbits(64):016x}"  # a name, no secret


def _left(call: Call) -> grpc.StatusCode:
    """Return why a call was cancelled: its time was over, or its caller left."""
    late = call.deadline is not None and time.monotonic() >= call.deadline
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _deadline(context: Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
