"""Errors <-> statuses: the one table that says which gRPC code an error travels under, and what it becomes again.

Beside its code an error travels with its class's name (`reason`), so that a client raises what the server raised.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import grpc

from classifiers.errors import (
    ClassifierError,
    EmbeddingMismatch,
    ExampleConflict,
    ExampleNotFound,
    HeadInvalid,
    LimitExceeded,
    StoreInUse,
    TaskEmpty,
    TaskExists,
    TaskInvalid,
    TaskNotFound,
    TaskUnwritable,
    VersionConflict,
)
from extractor import errors
from extractor.errors import ExtractorError, RequestTooLarge
from headwater.errors import (
    CallRefused,
    DumpInvalid,
    HeadError,
    HeadInUse,
    HeadNotFound,
    HeadsNotWritable,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobsFull,
    PermissionDenied,
    RateExceeded,
    ServiceError,
    TooManyCalls,
    Unauthenticated,
)

# The trees whose errors travel: what the work raises, and what the door does.
CallError: TypeAlias = ExtractorError | ClassifierError | HeadError | CallRefused
ROOTS: tuple[type[CallError], ...] = (ExtractorError, ClassifierError, HeadError, CallRefused)

# Trailing metadata of a call that failed.
REASON_KEY = "headwater-reason"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

# gRPC sends messages percent-encoded, up to three bytes for one, and drops a status whose metadata exceed 8 KiB.
MAX_MESSAGE_BYTES = 2000


def _leaves(root: type[CallError]) -> Iterator[type[CallError]]:
    """Yield the errors below one, whatever a library's tree grows to."""
    for kind in root.__subclasses__():
        yield kind
        yield from _leaves(kind)


_CODES: dict[type[CallError], grpc.StatusCode] = {
    errors.EmptyItem: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnreadableItem: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ItemTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UndecodableItem: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ItemError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BackboneNotFound: grpc.StatusCode.NOT_FOUND,
    errors.BackboneNotNamed: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BackboneServed: grpc.StatusCode.ALREADY_EXISTS,
    errors.BackboneBusy: grpc.StatusCode.ABORTED,
    errors.BackboneChanged: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BackboneInvalid: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProviderUnavailable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RuntimeMissing: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BackboneError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CacheInvalid: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ExportError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TuneError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PlanNotStored: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SourceInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DumpRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DumpNotWritten: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DumpSpoilt: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EngineFailed: grpc.StatusCode.UNAVAILABLE,
    errors.DumpError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InferenceFailed: grpc.StatusCode.INTERNAL,
    errors.RequestInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineTooShort: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.NotServing: grpc.StatusCode.UNAVAILABLE,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Closed: grpc.StatusCode.UNAVAILABLE,
    errors.ExtractorError: grpc.StatusCode.INTERNAL,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    TooManyCalls: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RateExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CallRefused: grpc.StatusCode.PERMISSION_DENIED,
    HeadNotFound: grpc.StatusCode.NOT_FOUND,
    HeadInUse: grpc.StatusCode.FAILED_PRECONDITION,
    HeadsNotWritable: grpc.StatusCode.FAILED_PRECONDITION,
    DumpInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    JobNotFound: grpc.StatusCode.NOT_FOUND,
    JobCancelled: grpc.StatusCode.CANCELLED,
    JobFailed: grpc.StatusCode.INTERNAL,
    JobsFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HeadError: grpc.StatusCode.FAILED_PRECONDITION,
    ClassifierError: grpc.StatusCode.INVALID_ARGUMENT,  # and so for all that examples and options may lack
    **dict.fromkeys(_leaves(ClassifierError), grpc.StatusCode.INVALID_ARGUMENT),
    HeadInvalid: grpc.StatusCode.FAILED_PRECONDITION,
    EmbeddingMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    ExampleConflict: grpc.StatusCode.ALREADY_EXISTS,
    ExampleNotFound: grpc.StatusCode.NOT_FOUND,
    LimitExceeded: grpc.StatusCode.FAILED_PRECONDITION,
    StoreInUse: grpc.StatusCode.FAILED_PRECONDITION,
    TaskEmpty: grpc.StatusCode.FAILED_PRECONDITION,
    TaskExists: grpc.StatusCode.ALREADY_EXISTS,
    TaskInvalid: grpc.StatusCode.FAILED_PRECONDITION,
    TaskNotFound: grpc.StatusCode.NOT_FOUND,
    TaskUnwritable: grpc.StatusCode.FAILED_PRECONDITION,
    VersionConflict: grpc.StatusCode.ABORTED,
}

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def code_of(error: CallError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return _CODES[type(error)]


def code_number(error: CallError) -> int:
    """Return the number of an error's status code, as google.rpc.Code has it."""
    number: int = code_of(error).value[0]
    return number


def message_of(error: CallError) -> str:
    """Return what is told of an error: its message, cut where a caller's own words made it too long to travel."""
    whole = str(error).encode(errors="replace")
    told = whole[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    return told if len(whole) <= MAX_MESSAGE_BYTES else f"{told}…"


def metadata_of(error: CallError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of a call that an error ends: its reason, and when to try again.

    gRPC clients that retry honour the pushback: a number of milliseconds, or -1 for never (gRFC A6).
    """
    pushback = pushback_ms(error)
    return ((REASON_KEY, reason_of(error)), *(() if pushback is None else ((PUSHBACK_KEY, str(pushback)),)))


def pushback_ms(error: CallError) -> int | None:
    """Return when to try again after an error, in milliseconds; -1: never; None: nobody knows."""
    return -1 if isinstance(error, RequestTooLarge) else getattr(error, "retry_after_ms", None)


def reason_of(error: CallError) -> str:
    """Return the name under which an error's class travels."""
    return type(error).__name__


def error_from(number: int, reason: str, message: str) -> ExtractorError:
    """Return the error of one item that a server reported; of a reason not known here, an ItemError."""
    kind = _BY_REASON.get(reason)
    if kind is not None and issubclass(kind, ExtractorError):
        return kind(message)
    return errors.ItemError(f"{_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN).name}: {message}")


def told(number: int, reason: str, message: str) -> CallError | ServiceError:
    """Return the error of which a server tells in an answer, say why a job failed; see `call_error`."""
    kind = _BY_REASON.get(reason)
    return kind(message) if kind is not None else ServiceError(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), message)


def call_error(call: grpc.RpcError) -> CallError | ServiceError:
    """Return what a failed call raises: the server's own error, or a ServiceError with code and message."""
    code, message = call.code(), call.details() or ""
    kind = _BY_REASON.get(_trailing(call).get(REASON_KEY, ""))
    return kind(message) if kind is not None else ServiceError(code, message)


def pushback_ms_of(call: grpc.RpcError) -> int | None:
    """Return when to try a failed call again, in milliseconds; negative: never; None: it does not say."""
    with suppress(KeyError, ValueError):
        return int(_trailing(call)[PUSHBACK_KEY])
    return None


def _trailing(call: grpc.RpcError) -> dict[str, str]:
    pairs: Iterable[Any] = call.trailing_metadata() or ()
    return {str(key): str(value) for key, value in pairs}


def all_errors(roots: Iterable[type[CallError]] = ROOTS) -> Iterator[type[CallError]]:
    """Walk the trees of the errors that travel."""
    for root in roots:
        yield root
        yield from all_errors(root.__subclasses__())


_BY_REASON = {kind.__name__: kind for kind in _CODES}
