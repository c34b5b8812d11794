"""What both clients ask about heads: items and choices -> requests, and how far an upload is. Does no I/O."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

import grpc
import numpy as np
from numpy.typing import ArrayLike

from extractor.errors import ExtractorError
from extractor.outcome import Outcome
from headwater import content
from headwater.content import Content
from headwater.convert import BackboneInfo
from headwater.errors import ServiceError
from headwater.exchange import MAX_ITEMS
from headwater.heads import from_targets, to_predictions
from headwater.prediction import Prediction
from headwater.v1 import classifier_pb2 as pb
from headwater.v1 import extractor_pb2

MAX_ROWS_BYTES = 4 << 20  # of embeddings in one message
MAX_ROWS = 1024  # of embeddings in one request
FILLING_S = 10.0  # that items wait for others to fill their message; a server waits a minute for one

Target = str | list[str] | float | list[float]
OPTIONS = ("head", "class_weight", "reject", "reject_rate", "seed", "calibration", "out_of_scope")


class Training(TypedDict, total=False):
    """How a head is trained; what is left out is as the server has it.

    Parameters
    ----------
    kind : str
        `single` (by default), `multi` or `regression`: labels are then a str each, a list of str, or numbers.
    head : str
        `auto`, or the name of an estimator.
    class_weight : str
        `balanced`.
    reject : str
        How the threshold of *unknown* is chosen: `auto`, `quantile`, `energy`, `validation` or `none`.
    reject_rate : float
        The share of known items that may fall below it.
    seed : int
        The same number gives the same head.
    calibration : str
        How scores become probabilities: `auto`, `temperature`, `sigmoid` or `none`.
    out_of_scope : str
        The label of examples that belong to no class: they are not learnt, but tell when to say *unknown*.
    activate : bool
        Let the name alone mean the new version; by default so.
    """

    kind: str
    head: str
    class_weight: str
    reject: str
    reject_rate: float
    seed: int
    calibration: str
    out_of_scope: str
    activate: bool


@dataclass(frozen=True)
class Predicting:
    """Asks for predictions of a head; see `headwater.exchange.Question`."""

    info: BackboneInfo
    head: str
    backbone: str
    top: int
    method: str = "Predict"

    def request(self, items: Iterable[bytes]) -> pb.PredictRequest:
        """Return the request about items."""
        return pb.PredictRequest(
            head=self.head,
            backbone=self.backbone,
            top=self.top,
            items=[extractor_pb2.Item(data=item) for item in items],
        )

    def answers(self, response: pb.PredictResponse) -> Iterator[Prediction]:
        """Return the predictions of a response."""
        return to_predictions(response)

    def failed(self, error: ExtractorError) -> Prediction:
        """Return the prediction of an item that cannot be sent."""
        return Prediction(error=error)


def order(name: str, choices: Training, **facts: Any) -> pb.TrainHeadRequest:
    """Return the message that begins a training."""
    options = {name: value for name, value in choices.items() if name in OPTIONS}
    message = pb.TrainingOrder(name=name, options=pb.TrainingOptions(**options), detach=True, **facts)  # type: ignore[arg-type]
    message.kind = choices.get("kind", "")
    if "activate" in choices:
        message.activate = choices["activate"]
    return pb.TrainHeadRequest(order=message)


def embedding_requests(head: str, X: ArrayLike, fingerprint: str, top: int) -> Iterator[pb.PredictRequest]:
    """Yield the requests about embeddings (n, dim)."""
    for rows in _slices(X):
        yield pb.PredictRequest(head=head, embeddings=rows.tobytes(), fingerprint=fingerprint, top=top)


def embedding_messages(X: ArrayLike, targets: Iterable[Target]) -> Iterator[pb.TrainHeadRequest]:
    """Yield the messages that carry embeddings (n, dim) with their targets."""
    given = iter(from_targets(targets))
    for rows in _slices(X):
        some = [target for _, target in zip(range(len(rows)), given, strict=False)]
        yield pb.TrainHeadRequest(examples=pb.Examples(embeddings=rows.tobytes(), targets=some))
    if (extra := next(given, None)) is not None:
        raise ValueError(f"there are more labels than the {len(np.asarray(X))} embeddings; {extra} is of none")


def _slices(X: ArrayLike) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    matrix = np.ascontiguousarray(X, "<f4")
    if matrix.ndim != 2:
        raise ValueError(f"embeddings are (n, dim), not {matrix.shape}")
    size = max(1, min(MAX_ROWS, MAX_ROWS_BYTES // max(4, 4 * matrix.shape[1])))
    for start in range(0, len(matrix), size):
        yield matrix[start : start + size]


@dataclass(eq=False)
class Batch:
    """Items with their targets on their way into messages; what cannot be sent is left out and noted.

    A message goes when it is full, or when its first item has waited for FILLING_S.

    Parameters
    ----------
    info : BackboneInfo
    failures : dict of int to ExtractorError
        Items that were not sent, by their positions.
    """

    info: BackboneInfo
    failures: dict[int, ExtractorError] = field(default_factory=dict)
    _items: list[bytes] = field(default_factory=list)
    _targets: list[pb.Target] = field(default_factory=list)
    _n_bytes: int = 0
    _n_taken: int = 0
    _begun_s: float = 0.0

    def take(self, one: Content, target: Target) -> pb.TrainHeadRequest | None:
        """Take one more item; return the message of those before it, where that is full."""
        position, self._n_taken = self._n_taken, self._n_taken + 1
        if isinstance(one, Outcome):
            if one.error is not None:
                self.failures[position] = one.error
            return None
        max_items = min(MAX_ITEMS, self.info.request_limits.max_items)
        is_full = len(self._items) == max_items or self._n_bytes + len(one) > content.max_bytes(self.info)
        is_late = time.monotonic() > self._begun_s + FILLING_S
        message = self.rest() if is_full or is_late else None
        if not self._items:
            self._begun_s = time.monotonic()
        self._items.append(one)
        self._targets.extend(from_targets([target]))
        self._n_bytes += len(one)
        return message

    def rest(self) -> pb.TrainHeadRequest | None:
        """Return the message of the items that are in no other, if there are any."""
        if not self._items:
            return None
        items = [extractor_pb2.Item(data=item) for item in self._items]
        message = pb.TrainHeadRequest(examples=pb.Examples(items=items, targets=self._targets))
        self._items, self._targets, self._n_bytes = [], [], 0
        return message


class Patience:
    """Tells when a server has answered nothing for too long, while we did not keep it waiting either."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._at = time.monotonic()
        self._ours = False

    def renew(self) -> None:
        """Something was sent, or answered."""
        self._at = time.monotonic()

    def ours(self, ours: bool) -> None:
        """Say whether it is the caller's own items that are waited for; the server's time begins anew."""
        self._ours = ours
        self.renew()

    @property
    def left_s(self) -> float:
        """Seconds until it is over."""
        return self._timeout_s if self._ours else self._at + self._timeout_s - time.monotonic()

    def over(self) -> ServiceError:
        """Return what a caller is told then."""
        return ServiceError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"the server has answered nothing for {self._timeout_s:g} s; look at it"
        )
