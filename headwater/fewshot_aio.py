"""What `AsyncClient` can ask about few-shot tasks; see `headwater.fewshot_client`."""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import grpc
from numpy.typing import ArrayLike

from extractor.items import Item
from headwater import fewshot_calls as calls
from headwater.adding import Adding, Tag, check_lengths, check_no_more, next_tag, rows_to_add, tags_of
from headwater.content import Content, contents_of
from headwater.convert import BackboneInfo, RequestLimits
from headwater.core import ClientCore
from headwater.exchange import A, Progress, Question, StreamQuestion
from headwater.fewshot import (
    Addition,
    AuditReport,
    ChangeInfo,
    Classification,
    ExampleInfo,
    Suggestions,
    TaskInfo,
    to_task,
)
from headwater.fewshot_calls import Asked, Choices, Classifying, Pause, Shown, Steps, T
from headwater.fewshot_files import parts_of, written
from headwater.head_calls import Patience
from headwater.pool import Pool, pool_of_embeddings
from headwater.v1 import fewshot_pb2 as pb

Items = Iterable[Item] | AsyncIterable[Item]


class AsyncTaskCalls(ClientCore):
    """The methods of `AsyncClient` that are about few-shot tasks; parameters and errors are those of `Client`'s."""

    if TYPE_CHECKING:  # what `AsyncClient` has

        @property
        def _stub(self) -> Any: ...
        async def describe(self, backbone: str = "") -> BackboneInfo:  # noqa: D102
            ...
        async def _ask(self, method: str, request: Any, *, patient: bool = False) -> Any: ...
        def _answers(
            self, question: Question[A], items: Items, progress: Progress | None
        ) -> AsyncGenerator[A, None]: ...
        def _streamed(
            self, question: StreamQuestion[A], items: Items, progress: Progress | None
        ) -> AsyncGenerator[tuple[int, A], None]: ...
        def _told_of_close(self) -> AbstractContextManager[None]: ...

    async def create_task(
        self,
        name: str,
        *,
        labels: Iterable[str] = (),
        backbone: str = "",
        fingerprint: str = "",
        keep_items: bool = False,
        **choices: Unpack[Choices],
    ) -> "AsyncFewShotTask":
        """Make a few-shot task. See `Client.create_task`."""
        steps = calls.create(name, labels, backbone or self.backbone, fingerprint, keep_items, choices)
        return AsyncFewShotTask(self, await self._run(steps))

    async def task(self, name: str) -> "AsyncFewShotTask":
        """Return a task, to be taught and asked; raises TaskNotFound, TaskInvalid."""
        return AsyncFewShotTask(self, await self._run(calls.info(name)))

    async def tasks(self) -> list[TaskInfo]:
        """Return the facts of all tasks, by name, without their classes; those that cannot be read say why."""
        return await self._run(calls.tasks())

    async def delete_task(self, name: str, *, if_version: int | None = None) -> None:
        """Delete a task and all that it holds, for good; raises TaskNotFound, VersionConflict."""
        await self._run(calls.delete(name, if_version))

    async def import_task(self, path: str | Path, *, name: str = "") -> "AsyncFewShotTask":
        """Make a task of a file that `export` has written. See `Client.import_task`."""

        def messages() -> AsyncGenerator[Any, None]:
            return _in_threads(calls.import_messages(name, parts_of(Path(path))))

        return AsyncFewShotTask(self, to_task(await self._upload("ImportTask", messages, True)))

    async def classify_with_examples(
        self,
        examples: Items,
        labels: Iterable[str],
        items: Items,
        *,
        backbone: str = "",
        **asked: Unpack[Asked],
    ) -> list[Classification]:
        """Tell the labels of items by examples that come in the same call. See `Client.classify_with_examples`."""
        info = await self.describe(backbone)
        known = [one async for one in contents_of(examples, info)]
        asked_about = [one async for one in contents_of(items, info)]
        return await self._run(calls.with_examples(known, labels, asked_about, info.name, asked))

    async def classify_with_example_embeddings(
        self, examples: ArrayLike, labels: Iterable[str], X: ArrayLike, *, fingerprint: str, **asked: Unpack[Asked]
    ) -> list[Classification]:
        """Tell the labels of embeddings X (n, dim), float32, by others (n_examples, dim) of the same fingerprint."""
        return await self._run(calls.with_example_embeddings(examples, labels, X, fingerprint, asked))

    async def _run(self, steps: Steps[T], *, patient: bool = False) -> T:
        """Do the steps of a call."""
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                answer = await self._ask(step.method, step.request, patient=patient)

    async def _upload(self, method: str, messages: Callable[[], AsyncGenerator[Any, None]], can_repeat: bool) -> Any:
        """Send messages, and return the answer; all of them again, where that can be and may help."""
        tries = self._tries(patient=True)
        while True:
            several = messages()
            call = getattr(self._stub, method)(metadata=self._metadata)
            try:
                async with aclosing(several):
                    with self._told_of_close():
                        return await self._sent(call, several)
            except grpc.RpcError as error:
                failure = self._failure(error)
            finally:
                call.cancel()
            pause = tries.pause_s(failure, time.monotonic()) if can_repeat else None
            if pause is None:
                raise self._given_up(failure, tries)
            await asyncio.sleep(pause)

    async def _sent(self, call: Any, messages: AsyncIterator[Any]) -> Any:
        async for message in messages:
            try:
                async with asyncio.timeout(self.timeout_s):
                    await call.write(message)
            except TimeoutError:
                raise Patience(self.timeout_s).over() from None
            except (grpc.RpcError, asyncio.InvalidStateError):
                break  # the call is over, and says why
        else:
            await call.done_writing()
        try:
            async with asyncio.timeout(self.timeout_s):
                return await call
        except TimeoutError:
            raise Patience(self.timeout_s).over() from None

    async def _download(self, method: str, request: Any) -> AsyncGenerator[Any, None]:
        """Yield the messages of an answer."""
        call = getattr(self._stub, method)(request, metadata=self._metadata)
        try:
            while True:
                try:
                    with self._told_of_close():
                        async with asyncio.timeout(self.timeout_s):
                            message = await call.read()
                except TimeoutError:
                    raise Patience(self.timeout_s).over() from None
                if message is grpc.aio.EOF:
                    return
                yield message
        finally:
            call.cancel()


class AsyncFewShotTask:
    """A few-shot task on a server; `AsyncClient.task` and `AsyncClient.create_task` give it.

    Its methods, their parameters and errors are those of `headwater.fewshot_client.FewShotTask`; items may be an
    asynchronous iterable too.
    """

    def __init__(self, client: AsyncTaskCalls, info: TaskInfo) -> None:
        self._client = client
        self.name = info.name
        self.backbone = info.backbone
        self.fingerprint = info.fingerprint

    def __repr__(self) -> str:
        return f"AsyncFewShotTask({self.name!r}, backbone={self.backbone!r})"

    async def info(self) -> TaskInfo:
        """Return its facts now: version, classes, settings."""
        return await self._run(calls.info(self.name))

    async def update(self, *, if_version: int | None = None, **choices: Unpack[Choices]) -> TaskInfo:
        """Change how it classifies."""
        return await self._run(calls.update(self.name, choices, if_version))

    async def add(
        self,
        items: Items,
        labels: Iterable[str],
        *,
        ids: Iterable[str] | None = None,
        notes: Iterable[str] | None = None,
        if_version: int | None = None,
        progress: Progress | None = None,
    ) -> Addition:
        """Teach examples; on disk when this returns, and used by the next `classify`."""
        check_lengths(items=items, labels=labels, ids=ids, notes=notes)
        info = await self._client.describe(self.backbone)
        adding = Adding(self.name, info.request_limits, self._client.timeout_s, if_version)
        return await self._add(adding, contents_of(items, info), tags_of(labels, ids, notes), progress)

    async def add_embeddings(
        self,
        X: ArrayLike,
        labels: Iterable[str],
        *,
        fingerprint: str,
        ids: Iterable[str] | None = None,
        notes: Iterable[str] | None = None,
        if_version: int | None = None,
    ) -> Addition:
        """Teach embeddings X (n, dim), float32, finite, of the backbone with a fingerprint."""
        check_lengths(embeddings=X, labels=labels, ids=ids, notes=notes)
        adding = Adding(self.name, RequestLimits(), self._client.timeout_s, if_version, fingerprint)
        rows = _each(rows_to_add(X, fingerprint))
        return await self._add(adding, rows, tags_of(labels, ids, notes), None)

    async def remove(self, ids: Iterable[str], *, if_version: int | None = None) -> int:
        """Remove examples, all or none, and return the version; raises ExampleNotFound."""
        return await self._run(calls.remove(self.name, ids, if_version))

    async def relabel(self, labels: Mapping[str, str], *, if_version: int | None = None) -> int:
        """Give examples other labels, by their ids, all or none, and return the version; raises ExampleNotFound."""
        return await self._run(calls.relabel(self.name, labels, if_version))

    async def rename_class(self, label: str, to: str, *, if_version: int | None = None) -> int:
        """Give a class a label that no other has, and return the version; raises InvalidLabels."""
        return await self._run(calls.rename_class(self.name, label, to, if_version))

    async def merge_classes(self, labels: Iterable[str], into: str, *, if_version: int | None = None) -> int:
        """Put the examples of classes into another one, remove the classes, and return the version."""
        return await self._run(calls.merge_classes(self.name, labels, into, if_version))

    async def remove_class(self, label: str, *, if_version: int | None = None) -> int:
        """Remove a class and its examples, and return the version; raises InvalidLabels."""
        return await self._run(calls.remove_class(self.name, label, if_version))

    async def undo(self, n: int = 1, *, if_version: int | None = None) -> int:
        """Take back the last changes that are not taken back yet, and return the version."""
        return await self._run(calls.undo(self.name, n, if_version))

    async def changes(self, n: int = 100) -> list[ChangeInfo]:
        """Return the last changes, the newest first."""
        return await self._run(calls.changes(self.name, n))

    async def examples(
        self, *, label: str = "", with_items: bool = False, with_embeddings: bool = False
    ) -> AsyncGenerator[ExampleInfo, None]:
        """Yield the examples, of one class perhaps, in the order in which they came; a page at a time is asked for."""
        token, more = "", True
        while more:
            some, token = await self._run(
                calls.page(self.name, label, token, with_items=with_items, with_embeddings=with_embeddings)
            )
            for one in some:
                yield one
            more = bool(token)

    async def classify(
        self, items: Items, *, progress: Progress | None = None, **shown: Unpack[Shown]
    ) -> list[Classification]:
        """Tell the labels of items, by all that was taught before this was called."""
        return [one async for one in self.iter_classifications(items, progress=progress, **shown)]

    async def iter_classifications(
        self, items: Items, *, progress: Progress | None = None, **shown: Unpack[Shown]
    ) -> AsyncGenerator[Classification, None]:
        """Tell the labels of items of any number, a few requests at a time, and yield them in order."""
        async with aclosing(self._client._answers(await self._question(shown), items, progress)) as found:
            async for one in found:
                yield one

    async def iter_unordered(
        self, items: Items, *, progress: Progress | None = None, **shown: Unpack[Shown]
    ) -> AsyncGenerator[tuple[int, Classification], None]:
        """Tell the labels of a stream of items of any length, and yield positions and answers as they come."""
        async with aclosing(self._client._streamed(await self._question(shown), items, progress)) as found:
            async for one in found:
                yield one

    async def classify_embeddings(
        self, X: ArrayLike, *, fingerprint: str, **shown: Unpack[Shown]
    ) -> list[Classification]:
        """Tell the labels of embeddings X (n, dim), float32, of the backbone with a fingerprint."""
        return await self._run(calls.classify_embeddings(self.name, X, fingerprint, shown))

    async def suggest(self, items: Items, n: int = 10) -> Suggestions:
        """Tell which items of a pool to label next: those that are uncertain and unlike each other."""
        info = await self._client.describe(self.backbone)
        pools: list[Pool] = []

        async def messages() -> AsyncGenerator[pb.SuggestRequest, None]:
            pools.append(Pool(self.name, n, info))
            async for one in contents_of(items, info):
                if (message := pools[-1].take(one)) is not None:
                    yield message
            yield pools[-1].rest()

        response = await self._client._upload("Suggest", messages, isinstance(items, Collection))
        return pools[-1].told(response)

    async def suggest_embeddings(self, X: ArrayLike, n: int = 10, *, fingerprint: str) -> Suggestions:
        """Tell which embeddings of a pool X (n_pool, dim), float32, finite, to label next."""
        pools: list[Pool] = []

        def messages() -> AsyncGenerator[pb.SuggestRequest, None]:
            pool, parts = pool_of_embeddings(self.name, X, fingerprint, n)
            pools.append(pool)
            return _each(parts)

        response = await self._client._upload("Suggest", messages, True)
        return pools[-1].told(response)

    async def audit(self, n: int = 100) -> AuditReport:
        """Tell what deserves a look, at most n of each kind, and how often the task is right, by leave-one-out."""
        return await self._run(calls.audit(self.name, n))

    async def export(self, path: str | Path) -> None:
        """Write it as one file, examples, items and history; there is no half file. Raises OSError."""
        tries = self._client._tries(patient=True)
        with written(Path(path)) as file:
            while True:
                try:
                    file.seek(0)
                    file.truncate()
                    parts = self._client._download("ExportTask", pb.ExportTaskRequest(task=self.name))
                    async with aclosing(parts):
                        async for part in parts:
                            await asyncio.to_thread(file.write, part.data)
                    return
                except grpc.RpcError as error:
                    failure = self._client._failure(error)
                pause = tries.pause_s(failure, time.monotonic())
                if pause is None:
                    raise failure.error
                await asyncio.sleep(pause)

    async def delete(self, *, if_version: int | None = None) -> None:
        """Delete it and all that it holds, for good."""
        await self._client.delete_task(self.name, if_version=if_version)

    async def _question(self, shown: Shown) -> Classifying:
        return Classifying(await self._client.describe(self.backbone), self.name, calls.options(shown))

    async def _run(self, steps: Steps[T]) -> T:
        return await self._client._run(steps, patient=True)

    async def _add(
        self, adding: Adding, contents: AsyncIterator[Content], tags: Iterator[Tag], progress: Progress | None
    ) -> Addition:
        n = 0
        async for one in contents:
            if adding.is_full(one):
                await self._run(adding.send())
                if progress is not None:
                    progress(n, None)
            adding.take(one, next_tag(tags, n))
            n += 1
        check_no_more(tags, n)
        added = await self._run(adding.result())
        if progress is not None:
            progress(n, None)
        return added


async def _each(several: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for one in several:
        yield one


async def _in_threads(messages: Iterator[Any]) -> AsyncGenerator[Any, None]:
    """Yield messages whose making reads a file."""
    while (message := await asyncio.to_thread(next, messages, None)) is not None:
        yield message
