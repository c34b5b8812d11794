"""What a task has taught, and embeddings -> the classifications of an answer, with their evidence. For any thread."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import EmbeddingMismatch, ExampleNotFound, InvalidOption
from extractor.errors import InferenceFailed, RequestInvalid, RequestTooLarge, UndecodableItem
from extractor.outcome import Outcome
from extractor.stages import StageTimes
from headwater.heads import item_status
from headwater.prediction import MAX_SHOWN
from headwater.service.names import Names
from headwater.service.served import shown
from headwater.service.tasks import Tasks
from headwater.service.upload import matrix
from headwater.v1 import classifier_pb2, extractor_pb2
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.learner import Learner, Taught
    from classifiers.tasks import Example, Support, Task

NEIGHBOURS = 3  # that are shown unless one says otherwise
MAX_CELLS = 1 << 22  # probabilities in memory at once
ENTRY_BYTES = 1300  # at most, of a label or an example's id and label in an answer
ROOM_BYTES = 1 << 16  # for what else is in it

_UNDECODABLE = Outcome(error=UndecodableItem("the embedding holds NaN or infinity; extract its item again"))
_FAILED = InferenceFailed("the classifier gave no number for this item; the server's log says more")


@dataclass(frozen=True)
class Options:
    """What a caller wants of each classification."""

    top: int
    neighbours: int
    with_items: bool
    false_alarm_rate: float | None


def to_options(message: pb.ClassifyOptions) -> Options:
    """Return checked options; raises RequestInvalid, InvalidOption."""
    n = message.neighbours if message.HasField("neighbours") else NEIGHBOURS
    for what, value in (("top", message.top), ("neighbours", n)):
        if value > MAX_SHOWN:
            raise RequestInvalid(f"{what} is {value}, the limit is {MAX_SHOWN}; ask for fewer")
    rate = message.false_alarm_rate if message.HasField("false_alarm_rate") else None
    if rate is not None and not 0 <= rate < 1:
        raise InvalidOption(f"false_alarm_rate is {rate!r}; take a share below 1, or 0: nothing is unknown")
    return Options(message.top or 1, n, message.with_items, rate)


def given(data: bytes, fingerprint: str, wanted: str, dim: int, title: str) -> NDArray[np.float32]:
    """Return embeddings (n, dim) that were sent; raises RequestInvalid, EmbeddingMismatch."""
    if not fingerprint:
        raise RequestInvalid("the request has embeddings and does not say of what; give their fingerprint")
    if fingerprint != wanted:
        raise EmbeddingMismatch(
            f"{title} holds embeddings of {wanted}, and those sent are of {shown(fingerprint)}; extract the items with "
            "its backbone"
        )
    return matrix(data, dim)


def as_outcomes(X: NDArray[np.float32]) -> list[Outcome]:
    """Return embeddings as outcomes; one that is not finite is an error of its own."""
    finite = np.asarray(np.isfinite(X).all(axis=1)).tolist()
    return [Outcome(row) if good else _UNDECODABLE for row, good in zip(X, finite, strict=True)]


def rows_of(outcomes: Sequence[Outcome], dim: int) -> NDArray[np.float32]:
    """Return the embeddings (n, dim) that are among outcomes."""
    rows = [one.embedding for one in outcomes if one.embedding is not None]
    return np.array(rows, np.float32).reshape(len(rows), dim)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The nearest examples of each query.

    Parameters
    ----------
    ids, labels : sequence of str
        Of all examples.
    positions : ndarray of shape (n, k), int64
        Of the nearest, among these.
    similarities : ndarray of shape (n, k), float64
    kept : mapping of str to Example
        What is kept of those that are shown, by id, where it was asked for.
    """

    ids: Any
    labels: Any
    positions: NDArray[np.int64]
    similarities: NDArray[np.float64]
    kept: "Mapping[str, Example]"

    def of(self, row: int) -> Iterator[pb.Neighbour]:
        """Yield the neighbours of one query."""
        for position, similarity in zip(self.positions[row].tolist(), self.similarities[row].tolist(), strict=True):
            name = self.ids[position]
            message = pb.Neighbour(id=name, label=self.labels(position), similarity=similarity)
            if (kept := self.kept.get(name)) is not None:
                message.note, message.item = kept.note or "", kept.item or b""
            yield message


@dataclass(frozen=True, eq=False)
class Asking:
    """What is asked of a task in one request; may be asked again where names have to be extracted first.

    Parameters
    ----------
    tasks : Tasks
    names : Names
    options : Options
    max_bytes : int
        Of an answer.
    """

    tasks: Tasks
    names: Names
    options: Options
    max_bytes: int

    def of(self, task: "Task", outcomes: Sequence[Outcome], times: StageTimes) -> pb.ClassifyResponse | None:
        """Return the answer, all of it of one version; None, where names must be extracted first.

        Raises
        ------
        TaskEmpty, RequestTooLarge
        """
        X = rows_of(outcomes, task.facts.dim)
        k = self.options.neighbours
        nearest = task.nearest(X, k) if k and len(X) else None
        support = nearest.support if nearest is not None else task.support
        taught = taught_by(self.tasks.learner, self.names, task, support)
        if taught is None:
            return None
        if nearest is None:
            evidence = None
        else:
            kept = self._kept(task, support, nearest.positions) if self.options.with_items else {}
            evidence = Evidence(support.ids, _labels(support), nearest.positions, nearest.similarities, kept)
        response = respond(taught, X, outcomes, evidence, self.options, times, task.facts.fingerprint)
        response.answer.version = support.version
        return bounded(response, self.options, self.max_bytes)

    def _kept(self, task: "Task", support: "Support", positions: NDArray[np.int64]) -> "dict[str, Example]":
        """Read what is kept of examples; one that was removed meanwhile has nothing to show."""
        kept, n_bytes = {}, ROOM_BYTES
        for position, times in zip(*np.unique(positions, return_counts=True), strict=True):
            name = support.ids[position]
            with suppress(ExampleNotFound):  # one by one: they may be large, be shown often, and be more than fit
                [kept[name]] = task.examples([name])
                n_bytes += int(times) * len(kept[name].item or b"")
                _check_bytes(n_bytes, self.max_bytes)
        return kept


def taught_by(learner: "Learner", names: Names, task: "Task", support: "Support") -> "Taught | None":
    """Return what a support has taught; None, where names of its classes must be extracted first."""
    settings = task.settings
    if not settings.zero_shot:
        return learner.taught(task.facts.name, support, settings)
    found = names.of(task.facts.name, task.facts.fingerprint, support.labels, settings)
    return None if found is None else learner.taught(task.facts.name, support, settings, found)


def respond(
    taught: "Taught",
    X: NDArray[np.float32],
    outcomes: Sequence[Outcome],
    evidence: Evidence | None,
    options: Options,
    times: StageTimes,
    fingerprint: str,
) -> pb.ClassifyResponse:
    """Return the answer for outcomes, of which X (n, dim) are the embeddings."""
    rate = options.false_alarm_rate
    threshold = taught.threshold if rate is None else taught.threshold_at(rate)
    answer = pb.TaskAnswer(
        version=taught.version,
        method=taught.method,
        reason=taught.reason,
        learnt_from=taught.learnt_from,
        refining=taught.refining,
        uncalibrated=not taught.calibrated,
        threshold=threshold,
        fingerprint=fingerprint,
    )
    told = _classifications(taught, X, evidence, options.top, -math.inf if threshold is None else threshold)
    return pb.ClassifyResponse(
        answer=answer,
        classifications=[_of_outcome(one, told) for one in outcomes],
        times=extractor_pb2.StageTimes(**vars(times)),
    )


def bounded(response: pb.ClassifyResponse, options: Options, max_bytes: int) -> pb.ClassifyResponse:
    """Return an answer that may be sent; to weigh it is to write it, so only what may be too large is weighed."""
    most = len(response.classifications) * (options.top + options.neighbours) * ENTRY_BYTES
    if options.with_items or most + ROOM_BYTES > max_bytes:
        _check_bytes(response.ByteSize(), max_bytes)
    return response


def _check_bytes(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise RequestTooLarge(
            f"the answer has more than {max_bytes:,} bytes, the limit of a message; send fewer items, ask for fewer "
            "neighbours or a smaller top, or leave with_items out"
        )


def kind_of(classification: pb.Classification) -> str:
    """Return what is counted of a classification: known, unknown or error."""
    if classification.HasField("error"):
        return "error"
    return "unknown" if classification.unknown else "known"


def _of_outcome(outcome: Outcome, told: Iterator[pb.Classification]) -> pb.Classification:
    if outcome.error is not None:
        return pb.Classification(error=item_status(outcome.error))
    message = next(told)
    if outcome.cached:
        message.cached = True
    if outcome.truncated:
        message.truncated = True
    return message


def _classifications(
    taught: "Taught", X: NDArray[np.float32], evidence: Evidence | None, top: int, threshold: float
) -> Iterator[pb.Classification]:
    labels = taught.labels
    step = max(1, MAX_CELLS // max(1, len(labels)))
    for start in range(0, len(X), step):
        classified = taught.classify(X[start : start + step])
        best = _best(classified.probabilities, top)
        chances = np.take_along_axis(classified.probabilities, best, 1).tolist()
        rows = zip(labels[best].tolist(), chances, classified.scores.tolist(), strict=True)
        for row, (names, chance, score) in enumerate(rows, start):
            if not math.isfinite(score):
                yield pb.Classification(error=item_status(_FAILED))
                continue
            yield pb.Classification(
                ranking=[classifier_pb2.Ranked(label=one, probability=p) for one, p in zip(names, chance, strict=True)],
                unknown=score < threshold,
                score=score,
                neighbours=evidence.of(row) if evidence is not None else (),
            )


def _best(probabilities: NDArray[np.float64], top: int) -> NDArray[np.int64]:
    """Return the columns of the `top` largest of each row, the largest first."""
    if top == 1:
        return np.asarray(probabilities.argmax(axis=1)[:, None], np.int64)
    return np.asarray(np.argsort(-probabilities, axis=1, kind="stable")[:, :top], np.int64)


def _labels(support: "Support") -> Any:
    """Return what gives the label of an example by its position."""
    labels, classes = support.labels, support.classes
    return lambda position: labels[int(classes[position])]


def nearest(
    X: NDArray[np.float32], X_known: NDArray[np.float32], ids: Sequence[str], labels: Sequence[str], k: int
) -> Evidence | None:
    """Return the k nearest of few examples, by brute force, of each row of X."""
    from classifiers.embeddings import unit_length

    k = min(k, len(X_known))
    if not k or not len(X):
        return None
    similarities = unit_length(X.astype(np.float64)) @ unit_length(X_known.astype(np.float64)).T
    best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return Evidence(ids, labels.__getitem__, best, np.take_along_axis(similarities, best, 1).clip(-1, 1), {})
