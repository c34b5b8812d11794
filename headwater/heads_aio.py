"""What `AsyncClient` can ask about heads: predict, train, watch, list, activate, delete."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Unpack

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from extractor.errors import BackboneChanged
from extractor.items import Item, check_several
from headwater.content import content_of
from headwater.convert import BackboneInfo
from headwater.core import ClientCore
from headwater.exchange import A, Progress, Question
from headwater.head_calls import Batch, Patience, Predicting, Target, Training, embedding_messages, embedding_requests
from headwater.head_calls import order as order_of
from headwater.heads import EMBEDDING, HeadInfo, JobInfo, VersionInfo, to_head, to_job, to_predictions, to_version
from headwater.prediction import Prediction
from headwater.v1 import classifier_pb2 as pb

Items = Iterable[Item] | AsyncIterable[Item]
Messages = AsyncIterator[pb.TrainHeadRequest]


class AsyncHeadCalls(ClientCore):
    """The methods of `AsyncClient` that are about heads; parameters and errors are those of `Client`'s."""

    if TYPE_CHECKING:  # what `AsyncClient` has

        @property
        def _stub(self) -> Any: ...
        async def describe(self, backbone: str = "") -> BackboneInfo:  # noqa: D102
            ...
        async def _ask(self, method: str, request: Any, *, patient: bool = False) -> Any: ...
        def _answers(
            self, question: Question[A], items: Items, progress: Progress | None
        ) -> AsyncGenerator[A, None]: ...

    async def predict(
        self, head: str, items: Items, *, top: int = 1, backbone: str = "", progress: Progress | None = None
    ) -> list[Prediction]:
        """Tell the labels of items; each gets a prediction or its own error. See `Client.predict`."""
        found = self.iter_predictions(head, items, top=top, backbone=backbone, progress=progress)
        return [prediction async for prediction in found]

    async def iter_predictions(
        self, head: str, items: Items, *, top: int = 1, backbone: str = "", progress: Progress | None = None
    ) -> AsyncGenerator[Prediction, None]:
        """Tell the labels of items of any number, and yield the predictions in order."""
        read_by = await self.describe(backbone or await self._backbone_of(head))
        try:
            async with aclosing(self._answers(Predicting(read_by, head, backbone, top), items, progress)) as found:
                async for prediction in found:
                    yield prediction
        except BackboneChanged:
            self._forget()
            raise

    async def predict_embeddings(self, head: str, X: ArrayLike, *, fingerprint: str, top: int = 1) -> list[Prediction]:
        """Tell the labels of embeddings X (n, dim), float32, of the backbone with a fingerprint."""
        found: list[Prediction] = []
        for request in embedding_requests(head, X, fingerprint, top):
            found.extend(to_predictions(await self._ask("Predict", request, patient=True)))
        return found

    async def train_head(
        self,
        name: str,
        items: Items,
        labels: Iterable[Target],
        *,
        backbone: str = "",
        progress: Progress | None = None,
        **choices: Unpack[Training],
    ) -> "AsyncTrainingJob":
        """Send labelled items, and return the job once they have all come. See `Client.train_head`."""
        info = await self.describe(backbone)
        batch = Batch(info)
        first = order_of(name, choices, backbone=info.name)
        job = await self._send_examples(first, _item_messages(batch, items, labels), progress)
        job.unsent = batch.failures
        return job

    async def train_head_on_embeddings(
        self,
        name: str,
        X: ArrayLike,
        labels: Iterable[Target],
        *,
        fingerprint: str,
        backbone: str = "",
        **choices: Unpack[Training],
    ) -> "AsyncTrainingJob":
        """Send embeddings X (n, dim), float32, with their labels, and return the job."""
        first = order_of(name, choices, backbone=backbone or self.backbone, fingerprint=fingerprint)
        return await self._send_examples(first, _each(embedding_messages(X, labels)), None)

    async def train_head_on_dump(
        self, name: str, dump: str, *, backbone: str = "", **choices: Unpack[Training]
    ) -> "AsyncTrainingJob":
        """Train on a dump, by its path below the folder that the server's operator allows."""
        first = order_of(name, choices, backbone=backbone or self.backbone, dump=dump)
        return await self._send_examples(first, _each(()), None)

    async def job(self, identity: str) -> JobInfo:
        """Return how a job is now; raises JobNotFound."""
        return to_job(await self._ask("GetJob", pb.GetJobRequest(id=identity)))

    async def jobs(self) -> list[JobInfo]:
        """Return the jobs of this key, the newest first."""
        return [to_job(message) for message in (await self._ask("ListJobs", pb.ListJobsRequest())).jobs]

    async def watch_job(self, identity: str) -> AsyncGenerator[JobInfo, None]:
        """Yield how a job is, now and whenever that changes, until it has ended. See `Client.watch_job`."""
        last, tries = None, None
        while last is None or not last.has_ended:
            request = pb.WatchJobRequest(id=identity)
            call = self._stub.WatchJob(request, timeout=self.timeout_s, metadata=self._metadata)
            try:
                while (now := await self._next_of(call)) is not None:
                    if now != last:
                        yield now
                    last, tries = now, None
            except grpc.RpcError as error:
                failure = self._failure(error)
                if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and last is not None:
                    continue  # nothing changed for long; ask whether the server is still there
                tries = tries or self._tries(patient=True)
                pause = tries.pause_s(failure, time.monotonic())
                if pause is None:
                    raise failure.error from None
                await asyncio.sleep(pause)
            finally:
                call.cancel()

    async def cancel_job(self, identity: str) -> JobInfo:
        """Cancel a job, and return how it ended; raises JobNotFound."""
        return to_job(await self._ask("CancelJob", pb.CancelJobRequest(id=identity)))

    async def heads(self) -> list[HeadInfo]:
        """Return the heads with their versions, without labels."""
        return [to_head(message) for message in (await self._ask("ListHeads", pb.ListHeadsRequest())).heads]

    async def head(self, head: str) -> VersionInfo:
        """Return the facts of one version; raises HeadNotFound, HeadInvalid."""
        return to_version(await self._ask("GetHead", pb.GetHeadRequest(head=head)))

    async def activate_head(self, head: str, alias: str = "production") -> str:
        """Let an alias stand for a version from now on, and return what it stood for: `NAME@2`, or "" for nothing."""
        done = await self._ask("ActivateHead", pb.ActivateHeadRequest(head=head, alias=alias))
        previous: str = done.previous
        return previous

    async def delete_head(self, head: str) -> None:
        """Delete a version, `NAME@3`, or a head with all its versions, `NAME`; raises HeadNotFound, HeadInUse."""
        await self._ask("DeleteHead", pb.DeleteHeadRequest(head=head))

    async def _next_of(self, call: Any) -> JobInfo | None:
        with self._told_of_close():
            event = await call.read()
        return None if event is grpc.aio.EOF else to_job(event.job)

    @contextmanager
    def _told_of_close(self) -> Iterator[None]:
        """Raise ClientClosed where `close` cancelled a call, as grpc.aio does, and nobody this task."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            raise self._failure(None).error from None

    async def _backbone_of(self, head: str) -> str:
        if head not in self._trained_on:
            self._trained_on[head] = (await self.head(head)).backbone
        return self._trained_on[head]

    async def _send_examples(
        self, first: pb.TrainHeadRequest, messages: Messages, progress: Progress | None
    ) -> "AsyncTrainingJob":
        """Send an order until it is taken, then the examples once."""
        tries = self._tries(patient=True)
        while True:
            sending = _Sending(self._stub.TrainHead(metadata=self._metadata), Patience(self.timeout_s))
            try:
                with self._told_of_close():
                    return AsyncTrainingJob(self, await sending.run(first, messages, progress))
            except grpc.RpcError as error:
                failure = self._failure(error)
            pause = None if sending.is_taken else tries.pause_s(failure, time.monotonic())
            if pause is None:
                raise failure.error
            await asyncio.sleep(pause)


class AsyncTrainingJob:
    """A training job on a server; iterate over it to see how far it is, or wait for its `result`.

    See `headwater.heads_client.TrainingJob`.
    """

    def __init__(self, client: AsyncHeadCalls, info: JobInfo) -> None:
        self._client = client
        self.info = info
        self.unsent: dict[int, Any] = {}

    @property
    def id(self) -> str:
        """By which it is watched from elsewhere."""
        return self.info.id

    async def __aiter__(self) -> AsyncGenerator[JobInfo, None]:
        if self.info.has_ended:
            yield self.info
            return
        async with aclosing(self._client.watch_job(self.id)) as states:
            async for info in states:
                self.info = info
                yield info

    async def result(self) -> JobInfo:
        """Wait until it has ended, and return how, with its `version` and `metrics`; raises why there is no head."""
        async for _ in self:
            pass
        if self.info.error is not None:
            raise self.info.error
        return self.info

    async def cancel(self) -> JobInfo:
        """Cancel it, and return how it ended."""
        self.info = await self._client.cancel_job(self.id)
        return self.info


class _Sending:
    """One call of TrainHead: a task sends what comes after the order, and the caller's receives."""

    def __init__(self, call: Any, patience: Patience) -> None:
        self._call = call
        self._patience = patience
        self.is_taken = False

    async def run(self, first: pb.TrainHeadRequest, messages: Messages, progress: Progress | None) -> JobInfo:
        """Send and receive until everything has come; raises grpc.RpcError."""
        sending: asyncio.Task[None] | None = None
        info: JobInfo | None = None
        try:
            await self._call.write(first)
            while (info := await self._next(sending)) is not None:
                last, self.is_taken = info, True
                sending = sending or asyncio.create_task(self._send(messages))
                if progress is not None and info.state == EMBEDDING:
                    progress(info.done, None)
            if sending is not None:
                await sending
            return last
        finally:
            self._call.cancel()
            if sending is not None:
                sending.cancel()

    async def _next(self, sending: "asyncio.Task[None] | None") -> JobInfo | None:
        """Return what the server tells next; raises what went wrong on either side."""
        reading = asyncio.ensure_future(self._call.read())
        try:
            while not reading.done():
                if self._patience.left_s <= 0:
                    raise self._patience.over()
                both = {reading, sending} if sending is not None and not sending.done() else {reading}
                await asyncio.wait(both, timeout=self._patience.left_s, return_when=asyncio.FIRST_COMPLETED)
                if sending is not None and sending.done():
                    sending.result()
        finally:
            reading.cancel()
        self._patience.renew()
        event = reading.result()
        return None if event is grpc.aio.EOF else to_job(event.job)

    async def _send(self, messages: Messages) -> None:
        self._patience.ours(True)
        async for message in messages:
            self._patience.ours(False)
            try:
                await self._call.write(message)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # the call is over, and says why to the one who reads
            self._patience.ours(True)
        self._patience.ours(False)
        await self._call.done_writing()


async def _each(messages: Iterable[pb.TrainHeadRequest]) -> Messages:
    for message in messages:
        yield message


async def _item_messages(batch: Batch, items: Items, labels: Iterable[Target]) -> Messages:
    given = iter(labels)
    async for item in _items(items):
        label = next(given, None)
        if label is None:
            raise ValueError("there are more items than labels; give one for each")
        content = await asyncio.to_thread(content_of, item, batch.info)
        if (message := batch.take(content, label)) is not None:
            yield message
    if next(given, None) is not None:
        raise ValueError("there are more labels than items; give one for each")
    if (message := batch.rest()) is not None:
        yield message


async def _items(items: Items) -> AsyncIterator[Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in check_several(items):
            yield item
