"""Messages <-> what heads tell: predictions, facts of heads and of jobs. Needs no server to be tested.

Loads no scikit-learn.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from extractor.errors import ExtractorError
from headwater import status
from headwater.errors import HeadwaterError
from headwater.prediction import Prediction, Ranked
from headwater.status import CallError
from headwater.v1 import classifier_pb2 as pb
from headwater.v1 import extractor_pb2

EMBEDDING, QUEUED, TRAINING = "embedding", "queued", "training"
RUNNING_STATES = (EMBEDDING, QUEUED, TRAINING)


@dataclass(frozen=True)
class RejectionInfo:
    """When a head says that it does not know: `score` (confidence or energy) below `threshold`, chosen by `rule`."""

    score: str
    threshold: float
    rule: str


@dataclass(frozen=True, kw_only=True)
class VersionInfo:
    """One version of a head, as a server describes it.

    Parameters
    ----------
    name : str
    number : int
    kind : str
        `single`, `multi` or `regression`.
    labels : tuple of str
        Empty in a list of heads.
    n_labels : int
    backbone, fingerprint : str
        What it was trained on.
    dim : int
    created : str
        ISO 8601, UTC.
    metrics : mapping of str to float
    options : mapping of str to str
        Values are JSON.
    n_items : int
    rejection : RejectionInfo, optional
    error : CallError or HeadwaterError, optional
        In a list of heads: why it cannot be used.
    """

    name: str
    number: int
    kind: str = ""
    labels: tuple[str, ...] = ()
    n_labels: int = 0
    backbone: str = ""
    fingerprint: str = ""
    dim: int = 0
    created: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    n_items: int = 0
    rejection: RejectionInfo | None = None
    error: "CallError | HeadwaterError | None" = None

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class HeadInfo:
    """A head, as a server lists it: its name, its versions, the oldest first, and what its aliases stand for."""

    name: str
    versions: tuple[VersionInfo, ...]
    aliases: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """A training job at one moment.

    Parameters
    ----------
    id : str
    head : str
        The name of the head that it makes.
    state : str
        `embedding`, `queued`, `training`, then `done`, `failed` or `cancelled`.
    done, total : int
        How far the state is; a total of 0 is not known.
    step : str
        What is done now.
    examples, failed_items : int
        What it trains on, and items that could not be embedded.
    failures : mapping of int to ExtractorError
        The first of these, by their positions among the items that came to the server.
    backbone, fingerprint : str
    created_at : datetime
    ended_at : datetime, optional
    version : str
        What a job that is done made, `NAME@3`.
    metrics : mapping of str to float
    error : CallError or HeadwaterError, optional
        Why it failed or was cancelled.
    """

    id: str
    head: str
    state: str
    done: int = 0
    total: int = 0
    step: str = ""
    examples: int = 0
    failed_items: int = 0
    failures: Mapping[int, ExtractorError] = field(default_factory=dict, compare=False)
    backbone: str = ""
    fingerprint: str = ""
    created_at: datetime
    ended_at: datetime | None = None
    version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: "CallError | HeadwaterError | None" = field(default=None, compare=False)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in RUNNING_STATES


def item_status(error: CallError) -> extractor_pb2.ItemStatus:
    """Return the message that carries an error inside an answer."""
    return extractor_pb2.ItemStatus(
        code=status.code_number(error), reason=status.reason_of(error), message=status.message_of(error)
    )


def from_targets(targets: Iterable[Any]) -> Iterator[pb.Target]:
    """Yield the message of each target: a label, several labels, a number, or several numbers."""
    for target in targets:
        several = list(target) if isinstance(target, list | tuple) else [target]
        if all(isinstance(one, str) for one in several):
            yield pb.Target(labels=several)
        else:
            yield pb.Target(values=several)


def from_prediction(prediction: Prediction) -> pb.Prediction:
    """Return the message of a prediction."""
    if prediction.error is not None:
        return pb.Prediction(error=item_status(prediction.error))
    return pb.Prediction(
        ranking=[pb.Ranked(label=one.label, probability=one.probability) for one in prediction.ranking],
        unknown=prediction.unknown,
        score=prediction.score,
        values=prediction.values,
        cached=prediction.cached,
        truncated=prediction.truncated,
    )


def to_predictions(response: pb.PredictResponse) -> Iterator[Prediction]:
    """Return the predictions that a response carries."""
    for message in response.predictions:
        if message.HasField("error"):
            told = message.error
            yield Prediction(error=status.error_from(told.code, told.reason, told.message), head=response.head)
            continue
        ranking = tuple(Ranked(one.label, one.probability) for one in message.ranking)
        yield Prediction(
            label=ranking[0].label if ranking and not message.unknown else None,
            probability=ranking[0].probability if ranking else 0.0,
            unknown=message.unknown,
            score=message.score,
            ranking=ranking,
            values=tuple(message.values),
            head=response.head,
            cached=message.cached,
            truncated=message.truncated,
        )


def to_head(message: pb.Head) -> HeadInfo:
    """Return the facts of a head."""
    return HeadInfo(message.name, tuple(map(to_version, message.versions)), dict(message.aliases))


def to_version(message: pb.HeadVersion) -> VersionInfo:
    """Return the facts of one version of a head."""
    rejection = message.rejection
    return VersionInfo(
        name=message.name,
        number=message.number,
        kind=message.kind,
        labels=tuple(message.labels),
        n_labels=message.n_labels,
        backbone=message.backbone,
        fingerprint=message.fingerprint,
        dim=message.dim,
        created=message.created,
        metrics=dict(message.metrics),
        options=dict(message.options),
        n_items=message.n_items,
        rejection=(
            RejectionInfo(rejection.score, rejection.threshold, rejection.rule)
            if message.HasField("rejection")
            else None
        ),
        error=_told(message.error) if message.HasField("error") else None,
    )


def from_job(job: JobInfo) -> pb.Job:
    """Return the message that carries a job."""
    message = pb.Job(
        id=job.id,
        head=job.head,
        state=job.state,
        done=job.done,
        total=job.total,
        step=job.step,
        examples=job.examples,
        failed_items=job.failed_items,
        failures=[pb.FailedItem(position=at, error=item_status(error)) for at, error in job.failures.items()],
        backbone=job.backbone,
        fingerprint=job.fingerprint,
        version=job.version,
        metrics=job.metrics,
        error=item_status(job.error) if isinstance(job.error, status.ROOTS) else None,
    )
    message.created_at.FromDatetime(job.created_at)
    if job.ended_at is not None:
        message.ended_at.FromDatetime(job.ended_at)
    return message


def to_job(message: pb.Job) -> JobInfo:
    """Return a job at the moment of which a message tells."""
    return JobInfo(
        id=message.id,
        head=message.head,
        state=message.state,
        done=message.done,
        total=message.total,
        step=message.step,
        examples=message.examples,
        failed_items=message.failed_items,
        failures={
            one.position: status.error_from(one.error.code, one.error.reason, one.error.message)
            for one in message.failures
        },
        backbone=message.backbone,
        fingerprint=message.fingerprint,
        created_at=message.created_at.ToDatetime(UTC),
        ended_at=message.ended_at.ToDatetime(UTC) if message.HasField("ended_at") else None,
        version=message.version,
        metrics=dict(message.metrics),
        error=_told(message.error) if message.HasField("error") else None,
    )


def _told(message: extractor_pb2.ItemStatus) -> "CallError | HeadwaterError":
    return status.told(message.code, message.reason, message.message)
