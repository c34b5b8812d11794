"""What both clients ask about few-shot tasks: items and choices -> requests, answers -> facts. Does no I/O.

A call is a generator of steps: it yields what to ask, or how long to wait, is sent the answers, and returns what came
of it. So a call of several requests is written once, and each client drives it in its own way.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypedDict, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.errors import InvalidLabels, InvalidOption
from extractor.errors import ExtractorError
from extractor.outcome import Outcome
from headwater import content, retry
from headwater.content import Content
from headwater.convert import BackboneInfo, RequestLimits
from headwater.exchange import MAX_ITEMS
from headwater.fewshot import (
    AddedExample,
    Addition,
    AuditReport,
    ChangeInfo,
    Classification,
    ExampleInfo,
    Suggestion,
    Suggestions,
    TaskInfo,
    to_added,
    to_audit,
    to_change,
    to_classifications,
    to_examples,
    to_suggestions,
    to_task,
)
from headwater.head_calls import MAX_ROWS, MAX_ROWS_BYTES
from headwater.retry import Tries
from headwater.v1 import extractor_pb2
from headwater.v1 import fewshot_pb2 as pb

MAX_ADD_BYTES = 32 << 20  # of the examples in one request, which is one change and is undone as one
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
    _at_least_one("n", n)
    if if_version is None:
        if_version = (yield Ask("GetTask", pb.GetTaskRequest(task=task))).version
    return _version((yield Ask("UndoChanges", pb.UndoChangesRequest(task=task, n=n, if_version=if_version))))


def changes(task: str, n: int) -> Steps[list[ChangeInfo]]:
    """Ask for the last changes, the newest first."""
    _at_least_one("n", n)
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
    _at_least_one("n", n)
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
        return pb.ClassifyRequest(task=self.task, items=_items(items), options=self.options)

    def message(self, numbered: Mapping[int, bytes]) -> pb.ClassifyStreamRequest:
        """Return the message that carries items of a stream, by their ids."""
        return pb.ClassifyStreamRequest(
            task=self.task, options=self.options, ids=numbered.keys(), items=_items(numbered.values())
        )

    def answers(self, response: pb.ClassifyResponse | pb.ClassifyStreamResponse) -> Iterator[Classification]:
        """Return the classifications of a response."""
        return to_classifications(response)

    def failed(self, error: ExtractorError) -> Classification:
        """Return what stands in the place of an item that cannot be sent."""
        return Classification(error=error)


class Tag(NamedTuple):
    """What is known of an example beside itself."""

    label: str
    id: str | None
    note: str


class Example(NamedTuple):
    """One on its way: an item's bytes, or those of an embedding."""

    data: bytes
    label: str
    id: str
    note: str


@dataclass(eq=False)
class Adding:
    """Examples on their way into requests, and what became of them.

    Each goes with an id, ours where the caller has none: a request that is repeated, because its answer was lost, adds
    nothing twice.

    Parameters
    ----------
    task : str
    limits : RequestLimits
    timeout_s : float
        For an item that the server cannot embed just now.
    if_version : int, optional
        What the first request asks for; each other asks for what the one before it has made.
    fingerprint : str
        Of the embeddings; "": these are items.
    """

    task: str
    limits: RequestLimits
    timeout_s: float
    if_version: int | None = None
    fingerprint: str = ""
    _found: list[AddedExample] = field(default_factory=list)
    _waiting: dict[int, Example] = field(default_factory=dict)
    _n_bytes: int = 0
    _version: int = 0
    _n_known: int = 0  # that the task had before
    _has_own_ids: bool = False

    def is_full(self, one: Content) -> bool:
        """Whether those that wait have to be sent before this one is taken."""
        size = len(one) if isinstance(one, bytes) else 0
        most = min(MAX_ADD_BYTES, self.limits.max_message_bytes - content.ENVELOPE_BYTES)
        too_many = len(self._waiting) >= min(MAX_ROWS, self.limits.max_items)
        return bool(self._waiting) and (too_many or self._n_bytes + size > most)

    def take(self, one: Content, tag: "Tag") -> None:
        """Take one more example, or the outcome of an item that cannot be sent."""
        (label,) = checked([tag.label])
        if isinstance(one, Outcome):
            self._found.append(AddedExample(error=one.error))
            return
        self._has_own_ids = tag.id is None
        data = Example(one, label, uuid4().hex if tag.id is None else tag.id, tag.note)
        self._waiting[len(self._found)] = data
        self._found.append(AddedExample())
        # What goes with an item counts too: its label, id and note, and their frames.
        self._n_bytes += len(one) + sum(len(part.encode()) + 8 for part in data[1:])

    def send(self) -> Steps[None]:
        """Send those that wait, until each is on disk or has failed for good."""
        tries = Tries(time.monotonic() + self.timeout_s)
        while self._waiting:
            response = yield Ask("AddExamples", self._request())
            self._version = response.version
            if self.if_version is not None:
                self.if_version = response.version
            pause = self._settle(response, tries)
            if pause is not None:
                yield Pause(pause)
        self._n_bytes = 0

    def result(self) -> Steps[Addition]:
        """Return what became of all."""
        yield from self.send()
        if not self._version:  # nothing was sent
            self._version = (yield Ask("GetTask", pb.GetTaskRequest(task=self.task))).version
        n_there = sum(one.error is None for one in self._found)
        return Addition(self._version, tuple(self._found), n_there - self._n_known)

    def _request(self) -> pb.AddExamplesRequest:
        waiting = list(self._waiting.values())
        new = pb.NewExamples(
            labels=[one.label for one in waiting],
            ids=[one.id for one in waiting],
            notes=[one.note for one in waiting] if any(one.note for one in waiting) else (),
        )
        if self.fingerprint:
            new.embeddings, new.fingerprint = b"".join(one.data for one in waiting), self.fingerprint
        else:
            new.items.extend(_items(one.data for one in waiting))
        return pb.AddExamplesRequest(task=self.task, examples=new, if_version=self.if_version)

    def _settle(self, response: pb.AddExamplesResponse, tries: Tries) -> float | None:
        """Note what became of each; return when to ask again for those that may come out better."""
        told = dict(zip(list(self._waiting), to_added(response), strict=True))
        again = {at: one.error for at, one in told.items() if one.error and retry.of_item(one.error).retryable}
        pauses = [tries.pause_s(retry.of_item(error), time.monotonic()) for error in list(again.values())[:1]]
        pause = pauses[0] if pauses else None
        if not self._has_own_ids:  # those that have were new, if to a try whose answer was lost
            self._n_known += sum(one.error is None for one in told.values()) - response.n_new
        for at, one in told.items():
            if pause is None or at not in again:
                self._found[at] = one
                del self._waiting[at]
        return pause


@dataclass(eq=False)
class Pool:
    """Items to choose from on their way into the messages of `Suggest`.

    Parameters
    ----------
    task : str
    n : int
        How many to suggest.
    info : BackboneInfo, optional
        What reads the items; None for embeddings.
    fingerprint : str
        Of the embeddings.
    """

    task: str
    n: int
    info: BackboneInfo | None = None
    fingerprint: str = ""
    _failures: dict[int, ExtractorError] = field(default_factory=dict)
    _sent: list[int] = field(default_factory=list)  # the places of what the server has
    _items: list[bytes] = field(default_factory=list)
    _n_bytes: int = 0
    _n_taken: int = 0
    _begun: bool = False

    def __post_init__(self) -> None:
        _at_least_one("n", self.n)

    def take(self, one: Content) -> pb.SuggestRequest | None:
        """Take one more item; return the message of those before it, where that is full."""
        position, self._n_taken = self._n_taken, self._n_taken + 1
        if isinstance(one, Outcome):
            if one.error is not None:
                self._failures[position] = one.error
            return None
        message = self.rest() if self._items and self._is_full(len(one)) else None
        self._sent.append(position)
        self._items.append(one)
        self._n_bytes += len(one)
        return message

    def rest(self) -> pb.SuggestRequest:
        """Return the message of the items that are in no other."""
        message = pb.SuggestRequest() if self._begun else pb.SuggestRequest(task=self.task, n=self.n)
        if self.fingerprint:
            message.embeddings, message.fingerprint = b"".join(self._items), self.fingerprint
        else:
            message.items.extend(_items(self._items))
        self._begun, self._items, self._n_bytes = True, [], 0
        return message

    def told(self, response: pb.SuggestResponse) -> Suggestions:
        """Return what a server suggests, by positions among all that were taken."""
        there = to_suggestions(response)
        return Suggestions(
            there.version,
            tuple(Suggestion(self._sent[one.position], one.label, one.uncertainty) for one in there.items),
            there.reason,
            there.n_failed + len(self._failures),
            {**{self._sent[at]: error for at, error in there.failures.items()}, **self._failures},
        )

    def _is_full(self, size: int) -> bool:
        if self.info is None:
            return len(self._items) == MAX_ROWS or self._n_bytes + size > MAX_ROWS_BYTES
        max_items = min(MAX_ITEMS, self.info.request_limits.max_items)
        return len(self._items) == max_items or self._n_bytes + size > content.max_bytes(self.info)


def pool_of_embeddings(task: str, X: ArrayLike, fingerprint: str, n: int) -> tuple[Pool, Iterator[pb.SuggestRequest]]:
    """Return a pool of embeddings (n, dim), and its messages."""
    pool = Pool(task, n, fingerprint=_needed(fingerprint))
    return pool, pool_messages(pool, (row.tobytes() for row in matrix(X)))


def pool_messages(pool: Pool, contents: Iterable[Content]) -> Iterator[pb.SuggestRequest]:
    """Yield the messages that carry items of a pool."""
    for one in contents:
        if (message := pool.take(one)) is not None:
            yield message
    yield pool.rest()


def import_messages(name: str, parts: Iterable[bytes]) -> Iterator[pb.ImportTaskRequest]:
    """Yield the messages that carry a task's file."""
    yield pb.ImportTaskRequest(order=pb.ImportOrder(name=name))
    for part in parts:
        yield pb.ImportTaskRequest(data=part)


def tags(labels: Iterable[str], ids: Iterable[str] | None, notes: Iterable[str] | None) -> Iterator[Tag]:
    """Yield what is known of each example."""
    for i, (label, *others) in enumerate(zip(labels, *(one for one in (ids, notes) if one is not None), strict=True)):
        identity = others[0] if ids is not None else None
        note = (others[-1] or "") if notes is not None else ""
        if identity == "":
            raise InvalidOption(f"the id of example {i} is empty; leave ids away, or give each one")
        for what, text in (("id", identity or ""), ("note", note)):
            if not isinstance(text, str) or not _is_text(text):
                raise InvalidOption(f"the {what} of example {i}, {text!r:.60}, is no text in UTF-8; give a str")
        yield Tag(label, identity, note)


def next_tag(tags: Iterator[Tag], position: int) -> Tag:
    """Return what is known of the example at a position; raises InvalidLabels where there is no label."""
    tag = next(tags, None)
    if tag is None:
        raise InvalidLabels(f"there are {position} labels and more items; give one for each")
    return tag


def check_no_more(tags: Iterator[Tag], n: int) -> None:
    """Raise InvalidLabels where there are more labels than items."""
    if next(tags, None) is not None:
        raise InvalidLabels(f"there are {n} items and more labels; give one for each")


def check_lengths(**given: object) -> None:
    """Raise InvalidLabels where some have other lengths than the rest, as far as that can be told beforehand."""
    lengths = {name: len(one) for name, one in given.items() if isinstance(one, Sized)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise InvalidLabels(f"there are {told}; give one of each for each example")


def rows_to_add(X: ArrayLike, fingerprint: str) -> Iterator[bytes]:
    """Return the bytes of each embedding of X (n, dim)."""
    _needed(fingerprint)
    return (row.tobytes() for row in matrix(X))


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
        if not isinstance(label, str) or not _is_text(label):
            raise InvalidLabels(f"label {label!r:.60} is no text in UTF-8; turn labels into strings")
    return several


def _is_text(label: str) -> bool:
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_many(labels: list[str], n: int) -> list[str]:
    if len(labels) != n:
        raise InvalidLabels(f"there are {len(labels)} labels for {n} examples; give one for each")
    return labels


def _needed(fingerprint: str) -> str:
    if not fingerprint:
        raise InvalidOption("embeddings need the fingerprint of the backbone that made them; give fingerprint=")
    return fingerprint


def _at_least_one(what: str, n: int) -> None:
    if n < 1:
        raise InvalidOption(f"{what} is {n}; take at least 1")


def _items(items: Iterable[bytes]) -> list[extractor_pb2.Item]:
    return [extractor_pb2.Item(data=item) for item in items]


def _version(response: pb.TaskVersion) -> int:
    return response.version
