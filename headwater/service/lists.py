"""Tasks, their examples and changes -> the pages and lists that are told of them. For any thread; reads the disk."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from google.protobuf.message import Message

from classifiers.errors import ClassifierError, ExampleNotFound, InvalidLabels, TaskNotFound
from extractor.errors import RequestInvalid, RequestTooLarge
from headwater.service import taught
from headwater.service.served import shown
from headwater.service.tasks import Tasks
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.tasks import Support, Task

PAGE, MAX_PAGE = 100, 1024
CHANGES, MAX_CHANGES = 100, 10_000
EXAMPLE_BYTES = 6000  # at most, of an example's id, label and note
ROOM_BYTES = 1 << 16  # for what else is in an answer

M = TypeVar("M", bound=Message)


def tasks(tasks: Tasks, max_bytes: int) -> pb.ListTasksResponse:
    """Return all tasks, without reading them into memory; one that cannot be read says why."""
    response = pb.ListTasksResponse(tasks=_each(tasks))
    return bounded(response, max_bytes, "ask for one by its name, and delete those that are not needed")


def _each(tasks: Tasks) -> Iterator[pb.Task]:
    store = tasks.store
    for name in store.names():
        try:
            message = taught.from_glance(store.glance(name), store.limits.max_examples)
            message.settings.ClearField("texts")
            yield message
        except TaskNotFound:  # it was deleted in this moment
            continue
        except ClassifierError as error:
            yield taught.from_error(name, tasks.told(error))


def changes(task: "Task", n: int, max_bytes: int) -> pb.ListChangesResponse:
    """Return the last n changes."""
    if n > MAX_CHANGES:
        raise RequestInvalid(f"n is {n:,}, the limit is {MAX_CHANGES:,}; ask for fewer changes")
    response = pb.ListChangesResponse(changes=map(taught.from_change, task.history(n or CHANGES)))
    return bounded(response, max_bytes, "ask for fewer changes")


def examples(task: "Task", request: pb.ListExamplesRequest, max_bytes: int) -> pb.ListExamplesResponse:
    """Return a page of examples: those after the one that the token names, whatever has come or gone since.

    A page ends early where more would not fit into a message.

    Raises
    ------
    RequestInvalid, InvalidLabels, RequestTooLarge, TaskInvalid
    """
    if request.page_size > MAX_PAGE:
        raise RequestInvalid(f"page_size is {request.page_size:,}, the limit is {MAX_PAGE:,}; ask for several pages")
    support = task.support
    numbers, ids = _after(support, _number(request.page_token), request.label)
    response, rows, n_bytes = pb.ListExamplesResponse(version=support.version), [], ROOM_BYTES
    for i in range(min(request.page_size or PAGE, len(numbers))):
        try:
            [one] = task.examples([ids[i]], with_items=request.with_items)
        except ExampleNotFound:  # it was removed in this moment
            continue
        n_bytes += EXAMPLE_BYTES + len(one.item or b"") + request.with_embeddings * 4 * support.dim
        if n_bytes > max_bytes:
            if not response.examples:
                raise RequestTooLarge(
                    f"example {one.id!r} does not fit into a message of {max_bytes:,} bytes; ask without items"
                )
            response.next_page_token = str(numbers[i] - 1)
            break
        response.examples.append(taught.from_example(one, with_item=request.with_items))
        rows.append(one.embedding)
    else:
        if len(numbers) > (request.page_size or PAGE):
            response.next_page_token = str(numbers[(request.page_size or PAGE) - 1])
    if request.with_embeddings:
        response.embeddings = b"".join(row.astype("<f4").tobytes() for row in rows)
    return response


def _after(support: "Support", number: int, label: str) -> tuple[list[int], list[str]]:
    """Return numbers and ids of the examples after a number, of a class where one is named, for one page and one."""
    first = int(np.searchsorted(support.numbers, number, "right"))
    where = np.arange(first, len(support))
    if label:
        wanted = [one for one, name in support.labels.items() if name == label]
        if not wanted:
            raise InvalidLabels(f"the task has no class {shown(label)}; ask for the task to see which it has")
        where = where[support.classes[first:] == wanted[0]]
    where = where[: MAX_PAGE + 1]
    return support.numbers[where].tolist(), support.ids[where].tolist()


def _number(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) < 19):
        raise RequestInvalid(f"page_token is {shown(token)}, which no page has; take the one of the page before")
    return int(token)


def bounded(message: M, max_bytes: int, way_on: str) -> M:
    """Return a message that may be sent; raises RequestTooLarge."""
    n_bytes = message.ByteSize()
    if n_bytes > max_bytes:
        raise RequestTooLarge(f"the answer has {n_bytes:,} bytes, the limit of a message is {max_bytes:,}; {way_on}")
    return message
