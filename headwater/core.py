"""What both clients are: whom they ask, what they know of it, and what a failure means to them. Does no I/O."""

import time
from collections.abc import Sized
from typing import Any

import grpc

from classifiers.errors import ClassifierError
from headwater import convert, retry
from headwater.channel import Access
from headwater.convert import BackboneInfo
from headwater.errors import ClientClosed
from headwater.exchange import A, Exchange, Progress, Question, StreamQuestion
from headwater.flow import Flow
from headwater.retry import Failure, Tries
from headwater.v1 import extractor_pb2 as pb

FIRST_ANSWER_S = 5.0  # for a server to come up that has not said anything yet; a mistyped address is told soon

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # `retry` does, and knows which items are answered
    ("grpc.min_reconnect_backoff_ms", round(1000 * FIRST_ANSWER_S)),  # how long one attempt to connect may take
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class ClientCore:
    """What `Client` and `AsyncClient` share; see there."""

    def __init__(self, target: str, access: Access, *, backbone: str, timeout_s: float, cache_control: str) -> None:
        self.target = target
        self.backbone = backbone
        self.timeout_s = timeout_s
        self._access = access
        self._metadata = access.metadata() + ((("cache-control", cache_control),) if cache_control else ())
        self._known: dict[str, BackboneInfo] = {}
        self._trained_on: dict[str, str] = {}  # references of heads -> names of backbones
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed(f"the client of {self.target} is closed; make another one")

    def _failure(self, error: grpc.RpcError | None) -> Failure:
        """Return what a call's end means; None: it was cancelled, as grpc.aio does with all calls when it closes."""
        if self._closed or error is None:
            told = ClientClosed(f"the client of {self.target} was closed while it waited for an answer")
            return Failure(told, grpc.StatusCode.CANCELLED)
        return retry.of_call(error)

    def _learn(self, name: str, message: pb.Backbone) -> BackboneInfo:
        return self._known.setdefault(name, convert.to_backbone(message))

    def _forget(self) -> None:
        """Ask anew what is served: a caller has been told that a backbone changed, and its next call may go on."""
        self._known.clear()
        self._trained_on.clear()

    def _tries(self, *, patient: bool = False) -> Tries:
        """Return the tries of a call; a server that may never have answered is given up sooner."""
        return Tries(time.monotonic() + (self.timeout_s if patient else min(self.timeout_s, FIRST_ANSWER_S)))

    def _given_up(self, failure: Failure, tries: Tries) -> Exception:
        """Return what is raised when there is no further try."""
        if tries.lost_an_answer and isinstance(failure.error, ClassifierError):
            failure.error.add_note("the answer to an earlier try was lost: that one may have done what is refused now")
        return tries.cause(failure).error

    def _exchange(self, question: Question[A], items: object, progress: Progress | None) -> Exchange[A]:
        return Exchange(question, timeout_s=self.timeout_s, progress=progress, total=_total(items))

    def _flow(self, question: StreamQuestion[A], items: object, progress: Progress | None) -> Flow[A]:
        return Flow(question, timeout_s=self.timeout_s, progress=progress, total=_total(items))


def _total(items: object) -> int | None:
    return len(items) if isinstance(items, Sized) else None
