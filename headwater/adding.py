"""Examples and what is known of them -> requests that add them to a few-shot task, and what became of each."""

import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

from numpy.typing import ArrayLike

from classifiers.errors import InvalidLabels, InvalidOption
from extractor.outcome import Outcome
from headwater import content, retry
from headwater.content import Content
from headwater.convert import RequestLimits
from headwater.fewshot import AddedExample, Addition, to_added
from headwater.fewshot_calls import Ask, Pause, Steps, checked, is_text, items_of, matrix, needed
from headwater.head_calls import MAX_ROWS
from headwater.retry import Tries
from headwater.v1 import fewshot_pb2 as pb

MAX_ADD_BYTES = 32 << 20  # of the examples in one request, which is one change and is undone as one


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

    def take(self, one: Content, tag: Tag) -> None:
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
            new.items.extend(items_of(one.data for one in waiting))
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


def tags_of(labels: Iterable[str], ids: Iterable[str] | None, notes: Iterable[str] | None) -> Iterator[Tag]:
    """Yield what is known of each example."""
    for i, (label, *others) in enumerate(zip(labels, *(one for one in (ids, notes) if one is not None), strict=True)):
        identity = others[0] if ids is not None else None
        note = (others[-1] or "") if notes is not None else ""
        if identity == "":
            raise InvalidOption(f"the id of example {i} is empty; leave ids away, or give each one")
        for what, text in (("id", identity or ""), ("note", note)):
            if not isinstance(text, str) or not is_text(text):
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
    needed(fingerprint)
    return (row.tobytes() for row in matrix(X))
