"""When to try again: the failure of a call, or of one item in an answer -> a pause, or None to give up. Does no I/O."""

import random
from dataclasses import dataclass

import grpc

from extractor.errors import ExtractorError
from headwater import status
from headwater.errors import HeadwaterError, ServiceError
from headwater.status import CallError

# Codes under which the same request may succeed later; ABORTED and others tell the caller to think first.
RETRYABLE = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})

BACKOFF_S = 0.1  # at most, before the second try; twice that before the third, and so on
MAX_BACKOFF_S = 5.0
MAX_DOUBLINGS = 6  # beyond them the bound is MAX_BACKOFF_S; a power of a count that grows for hours would overflow
JITTER = 0.5  # of a pushback: callers that were refused together come back spread out, and never early


@dataclass(frozen=True)
class Failure:
    """Why something was not done.

    Parameters
    ----------
    error : CallError or HeadwaterError
        What a caller is told in the end.
    code : grpc.StatusCode
    pushback_ms : int, optional
        When to try again, as the server says; negative: never.
    """

    error: CallError | HeadwaterError
    code: grpc.StatusCode
    pushback_ms: int | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in RETRYABLE and (self.pushback_ms is None or self.pushback_ms >= 0)


def of_call(error: grpc.RpcError) -> Failure:
    """Return the failure of a whole call."""
    return Failure(status.call_error(error), error.code(), status.pushback_ms_of(error))


def of_item(error: ExtractorError) -> Failure:
    """Return the failure of one item in an answer."""
    return Failure(error, status.code_of(error), status.pushback_ms(error))


class Tries:
    """The tries of one request.

    Parameters
    ----------
    deadline : float
        When the last try has to have begun; any clock.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.lost_an_answer = False  # the server may have done what a try asked for, and could not say so
        self._n = 0
        self._refusal: Failure | None = None

    def pause_s(self, failure: Failure, now: float) -> float | None:
        """Return the seconds to wait before the next try; None when there is none.

        The pause is what the server's pushback says and up to half of it more, or, without one, anything below a bound
        that doubles with each try (exponential backoff with full jitter).
        """
        self.lost_an_answer |= isinstance(failure.error, ServiceError)
        if not failure.retryable:
            return None
        self._refusal = failure
        bound = min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(self._n, MAX_DOUBLINGS))
        self._n += 1
        share = random.random()  # noqa: S311  # spreads load, guards nothing
        pause = share * bound if failure.pushback_ms is None else failure.pushback_ms / 1000 * (1 + JITTER * share)
        return pause if now + pause < self.deadline else None

    def cause(self, failure: Failure) -> Failure:
        """Return why the tries are over: what refused a try says more than that the deadline cut the next."""
        was_cut = failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
        return self._refusal if was_cut and self._refusal is not None else failure
