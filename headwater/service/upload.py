"""The stream of a training order: messages of items or embeddings in, examples in the job's folder.

Each message is embedded and written before the next is read, so that no more than one is in memory. Items go through
the served extractor as any caller's do, in small windows: they take turns with everybody's, and never fill the queue.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import NotFinite
from extractor.cache import item_key
from extractor.errors import DeadlinePassed, InferenceFailed, ItemError, RequestInvalid, RequestTooLarge
from extractor.pipeline import Extractor
from headwater import shelf
from headwater.convert import RequestLimits
from headwater.order import MAX_LABEL_LENGTH, SINGLE, ExampleFiles, Order, Target
from headwater.service.calls import Call
from headwater.service.jobs import Job
from headwater.service.sight import Sight
from headwater.service.windows import in_windows
from headwater.v1 import classifier_pb2 as pb

MAX_EXAMPLES = 1_000_000
MAX_EXAMPLE_BYTES = 4 << 30  # of embeddings
MAX_TARGET_BYTES = 1 << 30  # of labels and keys, as they are kept
STALL_S = 60.0  # without a message
# A caller that is gone looks to gRPC's reader like one that has closed its side; the news of it comes a moment later.
GRACE_S = 0.1

Requests = AsyncIterator[pb.TrainHeadRequest]
M = TypeVar("M")


async def next_message(requests: AsyncIterator[M]) -> M | None:
    """Return the next message, or None when the sender has closed its side; raises DeadlinePassed where none comes."""
    try:
        async with asyncio.timeout(STALL_S):
            return await anext(requests, None)
    except TimeoutError:
        raise DeadlinePassed(
            f"no message came for {STALL_S:.0f} s; send what is left, and then close your side"
        ) from None


class Upload:
    """The examples of one job on their way in.

    Parameters
    ----------
    requests : asynchronous iterator of TrainHeadRequest
        Those that follow the order.
    call : Call
    extractor : Extractor
    job : Job
    limits : RequestLimits
    sight : Sight
    """

    def __init__(
        self, requests: Requests, call: Call, extractor: Extractor, job: Job, limits: RequestLimits, sight: Sight
    ) -> None:
        self._requests = requests
        self._call = call
        self._extractor = extractor
        self._job = job
        self._limits = limits
        self._sight = sight
        self._examples = ExampleFiles(job.folder)
        self._n_items = 0
        self._n_target_bytes = 0

    async def run(self) -> None:
        """Take what comes until the sender closes its side.

        Raises
        ------
        CallError
            What ends it early; that of the job where it was cancelled.
        """
        reading, stopped = asyncio.create_task(self._read()), asyncio.create_task(self._job.stopped.wait())
        try:
            await asyncio.wait((reading, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._job.why is not None:
                raise self._job.why
            reading.result()
        finally:
            for task in (reading, stopped):
                task.cancel()
            await asyncio.gather(reading, stopped, return_exceptions=True)

    async def _read(self) -> None:
        while (message := await next_message(self._requests)) is not None:
            await self._take(message)
        await asyncio.sleep(GRACE_S)
        order, info = self._job.order, self._job.info
        if not order.dump and not info.examples:
            raise RequestInvalid(
                f"there is no example to train on, and {info.failed_items} items failed; send items or embeddings"
            )

    async def _take(self, message: pb.TrainHeadRequest) -> None:
        examples = message.examples
        if message.WhichOneof("part") != "examples" or self._job.order.dump:
            raise RequestInvalid("after the order only examples may come, and none where it names a dump; leave it out")
        if examples.items and examples.embeddings:
            raise RequestInvalid("a message has items and embeddings; send them in two")
        if len(examples.items) > self._limits.max_items:
            raise RequestTooLarge(
                f"message has {len(examples.items):,} items, the limit is {self._limits.max_items:,}; send several"
            )
        n_bytes = 4 * self._extractor.dim
        n_examples, n_targets = len(examples.items) or len(examples.embeddings) // n_bytes, len(examples.targets)
        if n_targets != n_examples:
            raise RequestInvalid(f"message has {n_examples:,} examples and {n_targets:,} targets; send one for each")
        check_size(self._job.info.examples + n_examples, n_bytes)
        targets = await asyncio.to_thread(_targets, examples, self._job.order)
        if examples.items:
            await self._embed([item.data for item in examples.items], targets)
        else:
            X = await asyncio.to_thread(_rows, examples.embeddings, self._extractor.dim, self._job.info.examples)
            await self._write(X, targets, [])
            self._job.take(len(X), {})

    async def _embed(self, items: list[bytes], targets: list[Target]) -> None:
        """Embed items and keep what comes of them; those that fail are left out and told."""
        await self._call.pace(len(items))
        outcomes = await in_windows(self._extractor, items, self._call, self._sight)
        found = {i: one.embedding for i, one in enumerate(outcomes) if one.embedding is not None}
        failures = {self._n_items + i: one.error for i, one in enumerate(outcomes) if one.error is not None}
        for error in failures.values():
            if not isinstance(error, ItemError | InferenceFailed):
                raise error  # not the item's fault: the backbone hangs, or is closed
        X = np.array(list(found.values()), np.float32).reshape(len(found), self._extractor.dim)
        keys = await asyncio.to_thread(_keys, self._extractor.fingerprint, [items[i] for i in found])
        await self._write(X, [targets[i] for i in found], keys)
        self._n_items += len(items)
        self._job.take(len(found), failures)

    async def _write(self, X: NDArray[np.float32], targets: Sequence[Target], keys: Sequence[str]) -> None:
        """Write examples in a thread, to the end also where the caller leaves: then the folder is removed."""
        writing: asyncio.Future[int] = asyncio.ensure_future(asyncio.to_thread(self._examples.add, X, targets, keys))
        try:
            self._n_target_bytes += await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait((writing,))
            raise
        except OSError as error:
            raise shelf.not_writable(error) from None
        if self._n_target_bytes > MAX_TARGET_BYTES:
            raise RequestTooLarge(
                f"the labels have {self._n_target_bytes:,} bytes, the limit is {MAX_TARGET_BYTES:,}; send fewer of each"
            )


def matrix(data: bytes, dim: int) -> NDArray[np.float32]:
    """Return packed embeddings as (n, dim); raises RequestInvalid for what are no whole rows."""
    if len(data) % (4 * dim):
        raise RequestInvalid(
            f"the embeddings have {len(data):,} bytes, no multiple of 4 × {dim}; send float32 rows of length {dim}"
        )
    return np.frombuffer(data, "<f4").reshape(-1, dim).astype(np.float32, copy=False)


def check_size(n_examples: int, n_bytes: int) -> None:
    """Raise RequestTooLarge for more examples, of so many bytes each, than a job may have."""
    if n_examples > MAX_EXAMPLES:
        raise RequestTooLarge(f"more than {MAX_EXAMPLES:,} examples; the limit is that; send a sample of them")
    if n_examples * n_bytes > MAX_EXAMPLE_BYTES:
        raise RequestTooLarge(
            f"the embeddings of {n_examples:,} examples have {n_examples * n_bytes:,} bytes, the limit is "
            f"{MAX_EXAMPLE_BYTES:,}; send a sample of them"
        )


def _rows(data: bytes, dim: int, n_before: int) -> NDArray[np.float32]:
    """Return packed embeddings as (n, dim), finite; raises RequestInvalid, NotFinite with positions in the stream."""
    X = matrix(data, dim)
    wrong = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(wrong):
        raise NotFinite.in_rows((wrong + n_before).tolist(), n_before + len(X))
    return X


def _targets(examples: pb.Examples, order: Order) -> list[Target]:
    return [_target(one, order) for one in examples.targets]


def _target(message: pb.Target, order: Order) -> Target:
    """Return a target as the order's kind of head has it; raises RequestInvalid for another."""
    labels, values = list(message.labels), list(message.values)
    if order.kind == "regression":
        if labels or not values or not np.isfinite(values).all():
            raise RequestInvalid("a target of a regression is one finite number or several, and no label; mend it")
        return values
    if values or (order.kind == SINGLE and len(labels) != 1):
        raise RequestInvalid(
            f"a target has {len(labels)} labels and {len(values)} numbers; a {order.kind} head takes "
            f"{'one label' if order.kind == SINGLE else 'labels'} of each example"
        )
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL_LENGTH:
            raise RequestInvalid(f"a label has {len(label)} characters; it may have 1 to {MAX_LABEL_LENGTH}")
    return labels[0] if order.kind == SINGLE else labels


def _keys(fingerprint: str, items: Sequence[bytes]) -> list[str]:
    return [item_key(fingerprint, item).hex() for item in items]
