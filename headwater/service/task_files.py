"""Few-shot tasks <-> files that travel in parts: staged in the folder of tasks, where a killed server's are swept."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import grpc.aio

from classifiers.errors import ClassifierError, EmbeddingMismatch, LimitExceeded, TaskUnwritable
from extractor.errors import RequestInvalid
from headwater.service.calls import Context
from headwater.service.served import Served, shown
from headwater.service.tasks import Tasks
from headwater.service.upload import GRACE_S, next_message
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.tasks import Task, TaskFacts

PART_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30


async def send(tasks: Tasks, task: "Task", context: Context) -> None:
    """Write a task's file to a call, a part at a time; raises TaskUnwritable."""
    file = await tasks.apart(_exported, tasks, task)
    try:
        while data := await tasks.on_disk(file.read, PART_BYTES):
            try:
                await context.write(pb.FilePart(data=data))
            except grpc.aio.InternalError:  # the receiver is gone, and gRPC is about to cancel this call
                raise asyncio.CancelledError from None
    finally:
        file.close()


async def receive(tasks: Tasks, requests: AsyncIterator[pb.ImportTaskRequest], served: Served) -> "Task":
    """Make a task of a file that comes in parts; half a file leaves nothing.

    Raises
    ------
    RequestInvalid, LimitExceeded, InvalidOption, TaskExists, TaskInvalid, EmbeddingMismatch, TaskUnwritable
    """
    first = await next_message(requests)
    if first is None or first.WhichOneof("part") != "order":
        raise RequestInvalid("the first message must hold the order; send that, and then the parts of the file")
    name = first.order.name or None
    with await tasks.on_disk(_begun, tasks, name) as file:
        n_bytes = 0
        while (message := await next_message(requests)) is not None:
            if message.WhichOneof("part") != "data":
                raise RequestInvalid("after the order only parts of the file may come; send those")
            n_bytes += len(message.data)
            if n_bytes > MAX_FILE_BYTES:
                raise LimitExceeded(
                    f"the file has more than {MAX_FILE_BYTES:,} bytes, the limit; export fewer examples, or no items"
                )
            await tasks.on_disk(_write, file, message.data)
        await asyncio.sleep(GRACE_S)
        return await tasks.apart(_made, tasks, file, name, served)


def _exported(tasks: Tasks, task: "Task") -> IO[bytes]:
    """Return a task's file, open; it has no name any more, so that nothing is left of it."""
    staged = tasks.store.folder / f".new-{secrets.token_hex(8)}"
    try:
        task.export(staged)
        return staged.open("rb")
    finally:
        staged.unlink(missing_ok=True)


def _begun(tasks: Tasks, name: str | None) -> IO[bytes]:
    """Return a file without a name, to put one together in; finds out at once what would be found at the end."""
    if name is not None:
        tasks.store.check_new(name)
    try:
        return TemporaryFile(dir=tasks.store.folder)
    except OSError as error:
        raise _not_kept(error) from None


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise _not_kept(error) from None


def _not_kept(error: OSError) -> TaskUnwritable:
    return TaskUnwritable(f"the file could not be kept ({error.strerror}); make room on the server, and repeat")


def _made(tasks: Tasks, file: IO[bytes], name: str | None, served: Served) -> "Task":
    """Make the task; where its backbone is served, it must make such embeddings."""
    path = f"/dev/fd/{file.fileno()}"
    try:
        file.flush()
        file.seek(0)
        return tasks.store.import_file(path, name=name, accept=partial(_check_embeddings, served))
    except OSError as error:
        raise _not_kept(error) from None
    except ClassifierError as error:
        raise type(error)(str(error).replace(path, "the file")) from None


def _check_embeddings(served: Served, facts: "TaskFacts") -> None:
    extractor = served.extractors().get(facts.backbone)
    if extractor is not None and (extractor.fingerprint, extractor.dim) != (facts.fingerprint, facts.dim):
        raise EmbeddingMismatch(
            f"the file holds embeddings of {shown(facts.backbone)} {facts.fingerprint} ({facts.dim}-d), and that "
            f"backbone is {extractor.fingerprint} ({extractor.dim}-d) here; serve the one that the task was made with, "
            "or add its items to a new task"
        )
