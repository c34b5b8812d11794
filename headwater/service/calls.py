"""The calls that a server has accepted: each gets its errors as statuses, and all are counted so that it can drain."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from extractor.caller import Caller
from extractor.errors import Closed, ExtractorError
from headwater import status
from headwater.service.sight import Sight

Context = grpc.aio.ServicerContext[Any, Any]

MOMENT_S = 0.1
REQUEST_ID_KEY = "x-request-id"  # metadata, either way
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
    error : ExtractorError, optional
        What ended it.
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
    error: ExtractorError | None = None
    request_id: str = ""
    metadata: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)
    begun_s: float = field(default_factory=time.monotonic)
    n_items: int = 0


class Calls:
    """The running calls of a server.

    gRPC's own stop cuts off, as CANCELLED, the calls that have arrived and are not yet handled. So the server goes on
    taking calls while it drains, and tells each that it is stopping.

    Parameters
    ----------
    sight : Sight, optional
        Sees each begin and end.
    """

    def __init__(self, sight: Sight | None = None) -> None:
        self.sight = sight or Sight()
        self._running = 0
        self._arrived = 0
        self._refusing = False

    @asynccontextmanager
    async def accept(self, context: Context, method: str) -> AsyncIterator[Call]:
        """Run one call's work; an ExtractorError ends the call with its status."""
        metadata = dict(context.invocation_metadata() or ())
        caller = Caller(context.peer())  # a connection, where nobody has a name
        call = Call(method, _deadline(context), caller, metadata=metadata, request_id=_request_id(metadata))
        echo = ((REQUEST_ID_KEY, call.request_id),)
        code = grpc.StatusCode.UNKNOWN  # what gRPC makes of an exception that is not ours
        self._arrived += 1
        self._running += 1
        self.sight.began(call)
        try:
            context.set_trailing_metadata(echo)
            if self._refusing:
                raise Closed("the server is stopping; ask another one, or this one once it is back")
            yield call
            code = grpc.StatusCode.OK
        except ExtractorError as error:
            call.error, code = error, status.code_of(error)
            context.set_trailing_metadata((*status.metadata_of(error), *echo))
            await context.abort(code, str(error))
        except asyncio.CancelledError:
            code = _left(call)
            raise
        finally:
            self._running -= 1
            self.sight.ended(call, code)

    @property
    def running(self) -> int:
        """How many calls run."""
        return self._running

    def refuse(self) -> None:
        """Tell every call that comes from now on UNAVAILABLE."""
        self._refusing = True

    async def quiet(self, timeout_s: float) -> None:
        """Wait until no call runs and none has come for a moment, or until the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                arrived = -1
                while self._running or arrived != self._arrived:
                    arrived = self._arrived
                    await asyncio.sleep(MOMENT_S)


def _request_id(metadata: Mapping[str, str | bytes]) -> str:
    sent = metadata.get(REQUEST_ID_KEY)
    return sent if isinstance(sent, str) and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def _left(call: Call) -> grpc.StatusCode:
    """Return why a call was cancelled: its time was over, or its caller left."""
    late = call.deadline is not None and time.monotonic() >= call.deadline
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _deadline(context: Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
