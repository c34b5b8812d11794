"""Messages <-> what few-shot tasks tell: facts, examples, changes, classifications. Needs no server to be tested.

Loads neither scikit-learn nor FAISS.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from extractor.errors import ExtractorError
from headwater import status
from headwater.errors import HeadwaterError
from headwater.prediction import Ranked
from headwater.status import CallError
from headwater.v1 import extractor_pb2
from headwater.v1 import fewshot_pb2 as pb


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """How a task classifies.

    Parameters
    ----------
    method : str
        `auto`, `class-mean`, `knn`, `cached-keys`, `ridge`, `logistic` or `kernel-logistic`.
    false_alarm_rate : float
        The share of items of the known classes that may be called unknown; 0: nothing is ever unknown.
    zero_shot : bool
        The names of classes are taken as knowledge.
    texts : mapping of str to str
        What stands for a class's name there.
    """

    method: str = "auto"
    false_alarm_rate: float = 0.05
    zero_shot: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A task at one moment.

    Parameters
    ----------
    name : str
    backbone, fingerprint : str
        Of the embeddings that it holds and may be given.
    dim : int
        Their length.
    version : int
        Of its state; the first is 1, and each change makes the next.
    n_examples, n_classes : int
    classes : mapping of str to int
        Labels and their numbers of examples, by label; empty in a list of tasks.
    keep_items : bool
        Items are kept beside their embeddings.
    settings : TaskSettings
    created_at : datetime, optional
    max_examples : int
        What it may hold.
    error : CallError or HeadwaterError, optional
        In a list of tasks: why it cannot be used.
    """

    name: str
    backbone: str = ""
    fingerprint: str = ""
    dim: int = 0
    version: int = 0
    n_examples: int = 0
    n_classes: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    keep_items: bool = False
    settings: TaskSettings = field(default_factory=TaskSettings)
    created_at: datetime | None = None
    max_examples: int = 0
    error: "CallError | HeadwaterError | None" = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class AddedExample:
    """An example that is on disk, or why it is not: then the rest is empty."""

    id: str = ""
    error: ExtractorError | None = None
    cached: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class Addition:
    """What an add has done: the version that has the examples, one entry for each, and how many are new."""

    version: int
    examples: tuple[AddedExample, ...]
    n_new: int

    @property
    def ids(self) -> list[str]:
        """The ids of those that are on disk, in their order."""
        return [one.id for one in self.examples if one.error is None]

    @property
    def failures(self) -> dict[int, ExtractorError]:
        """Why others are not, by their positions."""
        return {i: one.error for i, one in enumerate(self.examples) if one.error is not None}


@dataclass(frozen=True, eq=False, kw_only=True)
class ExampleInfo:
    """One example of a task.

    Parameters
    ----------
    id, label, note : str
    created_at : datetime
    item : bytes
        Empty unless items are kept, and it was asked for.
    embedding : ndarray of shape (dim,), float32, optional
        Where it was asked for.
    """

    id: str
    label: str
    note: str
    created_at: datetime
    item: bytes = b""
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ChangeInfo:
    """One change of a task: its version, what it was and when; whether it can be undone, or by which version it was."""

    version: int
    kind: str
    detail: Mapping[str, Any]
    n_examples: int
    created_at: datetime
    can_be_undone: bool
    undone_by: int | None


@dataclass(frozen=True)
class Neighbour:
    """A near example: its cosine to the item, -1 to 1; note and item where they were asked for and are kept."""

    id: str
    label: str
    similarity: float
    note: str = ""
    item: bytes = b""


@dataclass(frozen=True, kw_only=True)
class TaskAnswer:
    """What answered.

    Parameters
    ----------
    version : int
        Of the task whose examples were taken; 0 where there is no task.
    method, reason : str
        What classified, and why that.
    learnt_from : int
        Version of the task when it was learnt.
    refining : bool
        A better classifier is being learnt in the background: ask again in a moment.
    uncalibrated : bool
        A class has fewer than 3 examples: the threshold is a stated prior, and probabilities are the method's own.
    threshold : float, optional
        What scores below it is unknown; None where nothing is.
    fingerprint : str
    """

    version: int = 0
    method: str = ""
    reason: str = ""
    learnt_from: int = 0
    refining: bool = False
    uncalibrated: bool = False
    threshold: float | None = None
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a task tells of one item; where `error` is set, nothing.

    Parameters
    ----------
    label : str, optional
        The likeliest; None where the item is unknown.
    probability : float
        Of the likeliest label, also where the item is unknown.
    unknown : bool
        The score is below the threshold.
    score : float
        How well the item is known; any scale.
    ranking : tuple of Ranked
        The likeliest labels, as many as were asked for.
    neighbours : tuple of Neighbour
        The nearest examples, the most similar first.
    error : ExtractorError, optional
        Why there is nothing.
    cached, truncated : bool
        The embedding came from the cache; the item's end was left out.
    answer : TaskAnswer
        What answered: version, method, reason, threshold.
    """

    label: str | None = None
    probability: float = 0.0
    unknown: bool = False
    score: float = 0.0
    ranking: tuple[Ranked, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    error: ExtractorError | None = None
    cached: bool = False
    truncated: bool = False
    answer: TaskAnswer = TaskAnswer()


@dataclass(frozen=True)
class Suggestion:
    """An item to label: its position in the pool, what the task says of it now, and how unsure it is, 0 to 1."""

    position: int
    label: str
    uncertainty: float


@dataclass(frozen=True)
class Suggestions:
    """What to label next, in that order, and by what it was chosen; items that failed, by their positions."""

    version: int
    items: tuple[Suggestion, ...]
    reason: str
    n_failed: int
    failures: Mapping[int, ExtractorError]

    @property
    def positions(self) -> list[int]:
        """The positions of the items to label, in the order in which to label them."""
        return [one.position for one in self.items]


@dataclass(frozen=True)
class AuditedAccuracy:
    """How often the other examples name one rightly, with its 95 % interval, and by which method."""

    accuracy: float
    low: float
    high: float
    n_examples: int
    method: str


@dataclass(frozen=True)
class Contradiction:
    """An example that its neighbours would call otherwise, with the probabilities of both labels."""

    id: str
    label: str
    suggested: str
    probability: float
    suggested_probability: float


@dataclass(frozen=True)
class NearDuplicates:
    """Two examples that are almost alike, with their cosine."""

    id: str
    label: str
    other_id: str
    other_label: str
    similarity: float


@dataclass(frozen=True)
class Overlap:
    """Two classes, and the share of their examples that was taken for the other class."""

    label: str
    other_label: str
    confused: float


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What in a task deserves a look; each list has the first of as many as its `n_` says.

    Parameters
    ----------
    version : int
    accuracy : AuditedAccuracy, optional
        By leave-one-out; None where no class has two examples.
    contradictions : tuple of Contradiction
    duplicates : tuple of NearDuplicates
    overlaps : tuple of Overlap
    small_classes : mapping of str to int
        Labels and their numbers of examples, the fewest first.
    n_contradictions, n_duplicates, n_overlaps, n_small_classes : int
    """

    version: int
    accuracy: AuditedAccuracy | None
    contradictions: tuple[Contradiction, ...]
    duplicates: tuple[NearDuplicates, ...]
    overlaps: tuple[Overlap, ...]
    small_classes: Mapping[str, int]
    n_contradictions: int
    n_duplicates: int
    n_overlaps: int
    n_small_classes: int


def to_settings(message: pb.TaskSettings) -> TaskSettings:
    """Return a task's settings; what is left out is as a server has it by default."""
    told = {name: getattr(message, name) for name in ("method", "false_alarm_rate", "zero_shot")}
    given = {name: value for name, value in told.items() if message.HasField(name)}
    return TaskSettings(**given, texts=dict(message.texts))


def to_task(message: pb.Task) -> TaskInfo:
    """Return the facts of a task."""
    return TaskInfo(
        name=message.name,
        backbone=message.backbone,
        fingerprint=message.fingerprint,
        dim=message.dim,
        version=message.version,
        n_examples=message.n_examples,
        n_classes=message.n_classes,
        classes={one.label: one.n_examples for one in message.classes},
        keep_items=message.keep_items,
        settings=to_settings(message.settings),
        created_at=_time(message.created_at) if message.HasField("created_at") else None,
        max_examples=message.max_examples,
        error=_told(message.error) if message.HasField("error") else None,
    )


def to_added(response: pb.AddExamplesResponse) -> Iterator[AddedExample]:
    """Return what became of each example of an add."""
    for message in response.examples:
        if message.HasField("error"):
            yield AddedExample(error=_item_error(message.error))
        else:
            yield AddedExample(id=message.id, cached=message.cached, truncated=message.truncated)


def to_examples(response: pb.ListExamplesResponse) -> Iterator[ExampleInfo]:
    """Return the examples of a page; embeddings are read-only views of its matrix."""
    n = len(response.examples)
    rows: Any = [None] * n
    if response.embeddings:
        rows = np.frombuffer(response.embeddings, "<f4").astype(np.float32, copy=False).reshape(n, -1)
    for message, row in zip(response.examples, rows, strict=True):
        yield ExampleInfo(
            id=message.id,
            label=message.label,
            note=message.note,
            created_at=_time(message.created_at),
            item=message.item,
            embedding=row,
        )


def to_change(message: pb.TaskChange) -> ChangeInfo:
    """Return one change of a task."""
    return ChangeInfo(
        version=message.version,
        kind=message.kind,
        detail=json.loads(message.detail or "{}"),
        n_examples=message.n_examples,
        created_at=_time(message.created_at),
        can_be_undone=message.can_be_undone,
        undone_by=message.undone_by or None,
    )


def to_answer(message: pb.TaskAnswer) -> TaskAnswer:
    """Return what answered."""
    return TaskAnswer(
        version=message.version,
        method=message.method,
        reason=message.reason,
        learnt_from=message.learnt_from,
        refining=message.refining,
        uncalibrated=message.uncalibrated,
        threshold=message.threshold if message.HasField("threshold") else None,
        fingerprint=message.fingerprint,
    )


def to_classifications(response: pb.ClassifyResponse | pb.ClassifyStreamResponse) -> Iterator[Classification]:
    """Return the classifications that a response carries."""
    answer = to_answer(response.answer)
    for message in response.classifications:
        yield _classification(message, answer)


def to_suggestions(response: pb.SuggestResponse) -> Suggestions:
    """Return what a server suggests; positions are among the items that came to it."""
    return Suggestions(
        version=response.version,
        items=tuple(Suggestion(one.position, one.label, one.uncertainty) for one in response.suggestions),
        reason=response.reason,
        n_failed=response.failed_items,
        failures={one.position: _item_error(one.error) for one in response.failures},
    )


def to_audit(response: pb.AuditResponse) -> AuditReport:
    """Return what an audit found."""
    accuracy = response.accuracy
    return AuditReport(
        version=response.version,
        accuracy=(
            AuditedAccuracy(accuracy.accuracy, accuracy.low, accuracy.high, accuracy.n_examples, accuracy.method)
            if response.HasField("accuracy")
            else None
        ),
        contradictions=tuple(
            Contradiction(one.id, one.label, one.suggested, one.probability, one.suggested_probability)
            for one in response.contradictions
        ),
        duplicates=tuple(
            NearDuplicates(one.id, one.label, one.other_id, one.other_label, one.similarity)
            for one in response.duplicates
        ),
        overlaps=tuple(Overlap(one.label, one.other_label, one.confused) for one in response.overlaps),
        small_classes={one.label: one.n_examples for one in response.small_classes},
        n_contradictions=response.n_contradictions,
        n_duplicates=response.n_duplicates,
        n_overlaps=response.n_overlaps,
        n_small_classes=response.n_small_classes,
    )


def _classification(message: pb.Classification, answer: TaskAnswer) -> Classification:
    if message.HasField("error"):
        return Classification(error=_item_error(message.error), answer=answer)
    ranking = tuple(Ranked(one.label, one.probability) for one in message.ranking)
    return Classification(
        label=ranking[0].label if ranking and not message.unknown else None,
        probability=ranking[0].probability if ranking else 0.0,
        unknown=message.unknown,
        score=message.score,
        ranking=ranking,
        neighbours=tuple(
            Neighbour(one.id, one.label, one.similarity, one.note, one.item) for one in message.neighbours
        ),
        cached=message.cached,
        truncated=message.truncated,
        answer=answer,
    )


def _item_error(message: extractor_pb2.ItemStatus) -> ExtractorError:
    return status.error_from(message.code, message.reason, message.message)


def _told(message: extractor_pb2.ItemStatus) -> "CallError | HeadwaterError":
    return status.told(message.code, message.reason, message.message)


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)
