"""What both clients ask about few-shot tasks: items and choices -> requests, answers -> facts. Does no I/O.

A call is a generator of steps: it yields what to ask, or how long to wait, is sent the answers, and returns what came
of it. So a call of several requests is written once, and each client drives it in its own way.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.errors import InvalidLabels, InvalidOption
from extractor.errors import ExtractorError
from extractor.outcome import Outcome
from headwater.content import Content
from headwater.convert import BackboneInfo
from headwater.fewshot import (
    AuditReport,
    ChangeInfo,
    Classification,
    ExampleInfo,
    TaskInfo,
    to_audit,
    to_change,
    to_classifications,
    to_examples,
    to_task,
)
from headwater.head_calls import MAX_ROWS, MAX_ROWS_BYTES
from headwater.v1 import extractor_pb2
from headwater.v1 import fewshot_pb2 as pb

PAGE_SIZE, PAGE_SIZE_OF_ITEMS = 1024, 100

T = TypeVar("T")


class Ask(NamedTuple):
    """Send this request, and give back the answer."""

    method: str
    request: Any


class Pause(NamedTuple):
    """Wait so many seconds."""

    seconds: float


Steps: TypeAlias = Generator[Ask | Pause, Any, T]


class Choices(TypedDict, total=False):
    """How a task classifies; what is left out is as the server has it, or, in an update, as it was.

    Parameters
    ----------
    method : str
        `auto`, `class-mean`, `knn`, `cached-keys`, `ridge`, `logistic` or `kernel-logistic`.
    false_alarm_rate : float
        The share of items of the known classes that may be called unknown, below 1; 0: nothing is ever unknown.
    zero_shot : bool
        Take the names of classes as knowledge; only where the backbone embeds texts.
    texts : mapping of str to str
        What stands for a class's name there; in an update, an empty one takes the text away.
    """

    method: str
    false_alarm_rate: float
    zero_shot: bool
    texts: Mapping[str, str]


class Shown(TypedDict, total=False):
    """What is told of each item.

    Parameters
    ----------
    top : int
        Labels, the likeliest first: 1 to 100; by default 1.
    neighbours : int
        Nearest examples: 0 to 100; by default 3.
    with_items : bool
        Their notes too, and the items where the task keeps them.
    false_alarm_rate : float
        Instead of the task's.
    """

    top: int
    neighbours: int
    with_items: bool
    false_alarm_rate: float


class Asked(Choices, Shown):
    """Both; `false_alarm_rate` is one of them."""


def settings(choices: Choices | Asked) -> pb.TaskSettings:
    """Return the message of choices."""
    given = {name: choices[name] for name in Choices.__annotations__ if name in choices}  # type: ignore[literal-required]
    return pb.TaskSettings(**given)


def options(shown: Shown | Asked) -> pb.ClassifyOptions:
    """Return the message of what is to be told of each item."""
    given = {name: shown[name] for name in Shown.__annotations__ if name in shown}  # type: ignore[literal-required]
    return pb.ClassifyOptions(**given)


def create(
    name: str, labels: Iterable[str], backbone: str, fingerprint: str, keep_items: bool, choices: Choices
) -> Steps[TaskInfo]:
    """Make a task."""
    request = pb.CreateTaskRequest(
        name=name, backbone=backbone, fingerprint=fingerprint, labels=checked(labels), keep_items=keep_items
    )
    request.settings.CopyFrom(settings(choices))
    return to_task((yield Ask("CreateTask", request)))


def update(task: str, choices: Choices, if_version: int | None) -> Steps[TaskInfo]:
    """Change how a task classifies."""
    request = pb.UpdateTaskRequest(task=task, settings=settings(choices), if_version=if_version)
    return to_task((yield Ask("UpdateTask", request)))


def info(task: str) -> Steps[TaskInfo]:
    """Ask for a task's facts."""
    return to_task((yield Ask("GetTask", pb.GetTaskRequest(task=task))))


def tasks() -> Steps[list[TaskInfo]]:
    """Ask for the tasks."""
    return [to_task(message) for message in (yield Ask("ListTasks", pb.ListTasksRequest())).tasks]


def delete(task: str, if_version: int | None) -> Steps[None]:
    """Delete a task."""
    yield Ask("DeleteTask", pb.DeleteTaskRequest(task=task, if_version=if_version))


def remove(task: str, ids: Iterable[str], if_version: int | None) -> Steps[int]:
    """Remove examples; the new version."""
    return _version((yield Ask("RemoveExamples", pb.RemoveExamplesRequest(task=task, ids=ids, if_version=if_version))))


def relabel(task: str, labels: Mapping[str, str], if_version: int | None) -> Steps[int]:
    """Give examples other labels; the new version."""
    checked(labels.values())
    request = pb.RelabelExamplesRequest(task=task, labels=labels, if_version=if_version)
    return _version((yield Ask("RelabelExamples", request)))


def rename_class(task: str, label: str, to: str, if_version: int | None) -> Steps[int]:
    """Give a class another label; the new version."""
    checked([label, to])
    request = pb.RenameClassRequest(task=task, label=label, to=to, if_version=if_version)
    return _version((yield Ask("RenameClass", request)))


def merge_classes(task: str, labels: Iterable[str], into: str, if_version: int | None) -> Steps[int]:
    """Put classes into another; the new version."""
    request = pb.MergeClassesRequest(task=task, labels=checked(labels), into=into, if_version=if_version)
    return _version((yield Ask("MergeClasses", request)))


def remove_class(task: str, label: str, if_version: int | None) -> Steps[int]:
    """Remove a class with its examples; the new version."""
    request = pb.RemoveClassRequest(task=task, label=label, if_version=if_version)
    return _version((yield Ask("RemoveClass", request)))


def undo(task: str, n: int, if_version: int | None) -> Steps[int]:
    """Take back the last changes; the new version.

    It always says which version it means, so that an undo that is repeated, because its answer was lost, takes back
    nothing more.
    """
    at_least_one("n", n)
    if if_version is None:
        if_version = (yield Ask("GetTask", pb.GetTaskRequest(task=task))).version
    return _version((yield Ask("UndoChanges", pb.UndoChangesRequest(task=task, n=n, if_version=if_version))))


def changes(task: str, n: int) -> Steps[list[ChangeInfo]]:
    """Ask for the last changes, the newest first."""
    at_least_one("n", n)
    response = yield Ask("ListChanges", pb.ListChangesRequest(task=task, n=n))
    return [to_change(message) for message in response.changes]


def page(
    task: str, label: str, token: str, *, with_items: bool, with_embeddings: bool
) -> Steps[tuple[list[ExampleInfo], str]]:
    """Ask for a page of examples; with it comes the token of the next one, "" after the last."""
    request = pb.ListExamplesRequest(
        task=task,
        label=label,
        page_size=PAGE_SIZE_OF_ITEMS if with_items or with_embeddings else PAGE_SIZE,
        page_token=token,
        with_items=with_items,
        with_embeddings=with_embeddings,
    )
    response = yield Ask("ListExamples", request)
    return list(to_examples(response)), response.next_page_token


def classify_embeddings(task: str, X: ArrayLike, fingerprint: str, shown: Shown) -> Steps[list[Classification]]:
    """Classify embeddings (n, dim)."""
    found: list[Classification] = []
    for rows in slices(X):
        request = pb.ClassifyRequest(
            task=task, embeddings=rows.tobytes(), fingerprint=fingerprint, options=options(shown)
        )
        found.extend(to_classifications((yield Ask("Classify", request))))
    return found


def audit(task: str, n: int) -> Steps[AuditReport]:
    """Ask what in a task deserves a look."""
    at_least_one("n", n)
    return to_audit((yield Ask("Audit", pb.AuditRequest(task=task, n=n))))


def with_examples(
    examples: Sequence[Content], labels: Iterable[str], items: Sequence[Content], backbone: str, asked: Asked
) -> Steps[list[Classification]]:
    """Classify items by examples; raises the error of an example that cannot be sent, items keep theirs."""
    request = pb.ClassifyWithExamplesRequest(backbone=backbone, settings=settings(asked), options=options(asked))
    request.examples.labels.extend(_as_many(checked(labels), len(examples)))
    for position, one in enumerate(examples):
        if isinstance(one, Outcome):
            assert one.error is not None  # noqa: S101  # for mypy: it is not sent
            raise type(one.error)(f"example {position}: {one.error}")
        request.examples.items.add(data=one)
    request.items.extend(extractor_pb2.Item(data=one) for one in items if isinstance(one, bytes))
    told = iter(to_classifications((yield Ask("ClassifyWithExamples", request)))) if request.items else iter(())
    return [next(told) if isinstance(one, bytes) else Classification(error=one.error) for one in items]


def with_example_embeddings(
    examples: ArrayLike, labels: Iterable[str], X: ArrayLike, fingerprint: str, asked: Asked
) -> Steps[list[Classification]]:
    """Classify embeddings (n, dim) by others (n_examples, dim)."""
    known = matrix(examples)
    request = pb.ClassifyWithExamplesRequest(
        embeddings=matrix(X).tobytes(), fingerprint=fingerprint, settings=settings(asked), options=options(asked)
    )
    request.examples.labels.extend(_as_many(checked(labels), len(known)))
    request.examples.embeddings, request.examples.fingerprint = known.tobytes(), fingerprint
    return list(to_classifications((yield Ask("ClassifyWithExamples", request))))


@dataclass(frozen=True)
class Classifying:
    """Asks what a task tells of items; see `headwater.exchange.Question` and `StreamQuestion`."""

    info: BackboneInfo
    task: str
    options: pb.ClassifyOptions
    method: str = "Classify"
    stream: str = "ClassifyStream"

    def request(self, items: Iterable[bytes]) -> pb.ClassifyRequest:
        """Return the request about items."""
        return pb.ClassifyRequest(task=self.task, items=items_of(items), options=self.options)

    def message(self, numbered: Mapping[int, bytes]) -> pb.ClassifyStreamRequest:
        """Return the message that carries items of a stream, by their ids."""
        return pb.ClassifyStreamRequest(
            task=self.task, options=self.options, ids=numbered.keys(), items=items_of(numbered.values())
        )

    def answers(self, response: pb.ClassifyResponse | pb.ClassifyStreamResponse) -> Iterator[Classification]:
        """Return the classifications of a response."""
        return to_classifications(response)

    def failed(self, error: ExtractorError) -> Classification:
        """Return what stands in the place of an item that cannot be sent."""
        return Classification(error=error)


def import_messages(name: str, parts: Iterable[bytes]) -> Iterator[pb.ImportTaskRequest]:
    """Yield the messages that carry a task's file."""
    yield pb.ImportTaskRequest(order=pb.ImportOrder(name=name))
    for part in parts:
        yield pb.ImportTaskRequest(data=part)


def matrix(X: ArrayLike) -> NDArray[np.float32]:
    """Return embeddings as they travel: (n, dim), little-endian float32."""
    rows = np.ascontiguousarray(X, "<f4")
    if rows.ndim != 2:
        raise InvalidOption(f"embeddings are (n, dim), not {rows.shape}; give a row for each")
    return rows


def slices(X: ArrayLike) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of X (n, dim) that go into one request."""
    rows = matrix(X)
    size = max(1, min(MAX_ROWS, MAX_ROWS_BYTES // max(4, 4 * rows.shape[1])))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def checked(labels: Iterable[str]) -> list[str]:
    """Return labels; raises InvalidLabels for one that is no text."""
    if isinstance(labels, str):
        raise InvalidLabels(f"labels are several, and {labels[:40]!r} is a str; put it into a list")
    several = list(labels)
    for label in several:
        if not isinstance(label, str) or not is_text(label):
            raise InvalidLabels(f"label {label!r:.60} is no text in UTF-8; turn labels into strings")
    return several


def is_text(label: str) -> bool:
    """Whether it can be said in UTF-8."""
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_many(labels: list[str], n: int) -> list[str]:
    if len(labels) != n:
        raise InvalidLabels(f"there are {len(labels)} labels for {n} examples; give one for each")
    return labels


def needed(fingerprint: str) -> str:
    """Return the fingerprint of embeddings; raises InvalidOption where there is none."""
    if not fingerprint:
        raise InvalidOption("embeddings need the fingerprint of the backbone that made them; give fingerprint=")
    return fingerprint


def at_least_one(what: str, n: int) -> None:
    """Raise InvalidOption for a number that is none."""
    if n < 1:
        raise InvalidOption(f"{what} is {n}; take at least 1")


def items_of(items: Iterable[bytes]) -> list[extractor_pb2.Item]:
    """Return items as they travel."""
    return [extractor_pb2.Item(data=item) for item in items]


def _version(response: pb.TaskVersion) -> int:
    return response.version
