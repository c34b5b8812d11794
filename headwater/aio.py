"""`AsyncClient`: what `Client` does, for asyncio. Loads neither onnxruntime nor Pillow nor scikit-learn."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from extractor.errors import BackboneChanged
from extractor.items import Item
from extractor.outcome import Embedding, Outcome, stack
from headwater import convert
from headwater.channel import Access, Stub, open_aio_channel
from headwater.content import Content, contents_of
from headwater.convert import BackboneInfo
from headwater.core import OPTIONS, ClientCore
from headwater.exchange import A, Exchange, Extraction, Progress, Question, Slice, StreamQuestion
from headwater.fewshot_aio import AsyncTaskCalls
from headwater.heads_aio import AsyncHeadCalls
from headwater.tasks import AsyncFlow
from headwater.v1 import extractor_pb2 as pb

Items = Iterable[Item] | AsyncIterable[Item]


class AsyncClient(AsyncHeadCalls, AsyncTaskCalls, ClientCore):
    """Asks a Headwater server for embeddings; use it as an asynchronous context manager, in one event loop.

    Its parameters, methods, errors and repetitions are those of `headwater.Client`; items may be an asynchronous
    iterable too. Files are read, and arrays and images encoded, in threads.

    Examples
    --------
    >>> async with AsyncClient("127.0.0.1:50051", backbone="minilm-l6") as client:  # doctest: +SKIP
    ...     X = await client.extract(["a text", "another"])
    """

    def __init__(
        self,
        target: str,
        *,
        backbone: str = "",
        timeout_s: float = 120.0,
        key: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        cert_key: str | Path | None = None,
        cache_control: str = "",
    ) -> None:
        access = Access(key=key, ca=ca, cert=cert, cert_key=cert_key)
        super().__init__(target, access, backbone=backbone, timeout_s=timeout_s, cache_control=cache_control)
        self._channel: grpc.aio.Channel | None = None  # opened in the event loop that it is used in
        self._opened_stub: Stub | None = None

    async def extract(self, items: Items, *, backbone: str = "", progress: Progress | None = None) -> Embedding:
        """Embed items; the first bad one raises. See `Client.extract`."""
        dim = (await self.describe(backbone)).dim
        found: list[Outcome] = []
        async with aclosing(self.iter_outcomes(items, backbone=backbone, progress=progress)) as outcomes:
            async for outcome in outcomes:
                found.append(outcome)
                if outcome.error is not None:
                    break  # what comes after it is not asked for
        return stack(found, dim)

    async def extract_each(
        self, items: Items, *, backbone: str = "", progress: Progress | None = None
    ) -> list[Outcome]:
        """Embed items; each gets an embedding or its own error, in the order of the items."""
        return [outcome async for outcome in self.iter_outcomes(items, backbone=backbone, progress=progress)]

    async def iter_outcomes(
        self, items: Items, *, backbone: str = "", progress: Progress | None = None
    ) -> AsyncGenerator[Outcome, None]:
        """Embed items of any number, a few requests at a time, and yield the outcomes in order."""
        question = Extraction(await self.describe(backbone))
        async with aclosing(self._answers(question, items, progress)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def iter_unordered(
        self, items: Items, *, backbone: str = "", progress: Progress | None = None
    ) -> AsyncGenerator[tuple[int, Outcome], None]:
        """Embed a stream of items of any length, and yield each one's position and outcome as it finishes.

        See `Client.iter_unordered`; items are read in a task of their own.
        """
        question = Extraction(await self.describe(backbone))
        async with aclosing(self._streamed(question, items, progress)) as outcomes:
            async for found in outcomes:
                yield found

    async def describe(self, backbone: str = "") -> BackboneInfo:
        """Return the facts of a backbone, asked for once; raises BackboneNotFound when the server has none."""
        name = backbone or self.backbone
        if name not in self._known:
            return self._learn(name, await self._ask("GetBackbone", pb.GetBackboneRequest(name=name)))
        return self._known[name]

    async def backbones(self) -> list[BackboneInfo]:
        """Return the facts of every backbone that the server serves."""
        response = await self._ask("ListBackbones", pb.ListBackbonesRequest())
        return [convert.to_backbone(message) for message in response.backbones]

    async def close(self) -> None:
        """Close the connection; calls that run raise ClientClosed."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    @property
    def _stub(self) -> Any:
        self._check_open()
        if self._channel is None:
            self._channel = open_aio_channel(self.target, self._access, OPTIONS)
            self._opened_stub = Stub(self._channel)
        return self._opened_stub

    async def _answers(self, question: Question[A], items: Items, progress: Progress | None) -> AsyncGenerator[A, None]:
        """Ask about items of any number, and yield the answers in order."""
        exchange = self._exchange(question, items, progress)
        source = contents_of(items, exchange.info)
        running: dict[asyncio.Task[Any], Slice[A]] = {}
        try:
            while not exchange.done:
                await _feed(exchange, source)
                for part in exchange.due():
                    running[asyncio.create_task(self._call(question.method, *exchange.request(part)))] = part
                for outcome in exchange.ready():
                    yield outcome
                await self._settle(exchange, running)
        except BackboneChanged:
            self._forget()
            raise
        finally:
            for task in running:
                task.cancel()

    async def _streamed(
        self, question: StreamQuestion[A], items: Items, progress: Progress | None
    ) -> AsyncGenerator[tuple[int, A], None]:
        """Ask about items of any number over one stream, and yield positions and answers as they come."""
        flow = self._flow(question, items, progress)
        driver = AsyncFlow(flow, partial(self._open_stream, question.stream), self._failure)
        try:
            # Closed with this iterator, and not when the collector comes by.
            async with aclosing(driver.outcomes(contents_of(items, flow.info))) as outcomes:
                async for found in outcomes:
                    yield found
        except BackboneChanged:
            self._forget()
            raise

    async def _ask(self, method: str, request: Any, *, patient: bool = False) -> Any:
        tries = self._tries(patient=patient)
        while True:
            try:
                return await self._call(method, request, self.timeout_s)
            except grpc.RpcError as error:
                failure = self._failure(error)
            pause = tries.pause_s(failure, time.monotonic())
            if pause is None:
                raise self._given_up(failure, tries)
            await asyncio.sleep(pause)

    async def _call(self, method: str, request: Any, timeout_s: float) -> Any:
        with self._told_of_close():
            return await getattr(self._stub, method)(request, timeout=timeout_s, metadata=self._metadata)

    async def _settle(self, exchange: Exchange[A], running: "dict[asyncio.Task[Any], Slice[A]]") -> None:
        """Wait for an answer, or until something is due, whatever comes first."""
        wait_s = exchange.wait_s()
        if not running:
            await asyncio.sleep(wait_s or 0.0)
            return
        finished, _ = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            part = running.pop(task)
            try:
                exchange.answer(part, task.result())
            except grpc.RpcError as error:
                exchange.refuse(part, self._failure(error))

    def _open_stream(self, method: str, messages: AsyncIterator[Any]) -> Any:
        return getattr(self._stub, method)(messages, metadata=self._metadata)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _feed(exchange: Exchange[Any], source: AsyncIterator[Content]) -> None:
    while exchange.wants_items:
        try:
            exchange.take(await anext(source))
        except StopAsyncIteration:
            exchange.end()
