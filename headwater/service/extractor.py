"""`ExtractorService`: requests over gRPC -> calls of `Extractor`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from extractor.errors import RequestInvalid, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.request import Request
from extractor.stages import StageTimes
from headwater import convert
from headwater.convert import RequestLimits
from headwater.service.calls import Call, Calls, Context
from headwater.service.served import Served
from headwater.service.sight import Sight
from headwater.service.stream import Stream
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc

AT_ONCE_BYTES = 256 << 10  # 80 µs of hashing; a thread costs as much

T = TypeVar("T")


class ExtractorService(extractor_pb2_grpc.ExtractorServiceServicer):
    """Serves several extractors, by the names of their backbones.

    Parameters
    ----------
    served : Served
    calls : Calls
    limits : RequestLimits
    """

    def __init__(self, served: Served, calls: Calls, limits: RequestLimits) -> None:
        self._served = served
        self._calls = calls
        self._limits = limits

    async def Extract(self, request: pb.ExtractRequest, context: Context) -> pb.ExtractResponse:
        """Embed the items of one request."""
        async with self._calls.accept(context, "Extract") as call:
            with self._served.using(request.backbone) as extractor:
                items = convert.to_items(request)
                self._check_items(len(items))
                call.charge(len(items))
                outcomes, times = await extract(extractor, items, call)
                self._calls.sight.extracted(call, extractor.spec.name, outcomes, times)
                return convert.from_outcomes(extractor.spec, outcomes, times)

    async def ExtractStream(self, requests: AsyncIterator[pb.ExtractStreamRequest], context: Context) -> None:
        """Embed a stream of items, each answered as it is done."""
        async with self._calls.accept(context, "ExtractStream") as call:
            answers = Embeddings(call, self._calls.sight)
            await Stream(requests, context, call, self._served, self._limits, self._calls, answers).run()

    async def ListBackbones(self, request: pb.ListBackbonesRequest, context: Context) -> pb.ListBackbonesResponse:
        """List what is served."""
        async with self._calls.accept(context, "ListBackbones") as call:
            described = [self._described(extractor, call) for _, extractor in sorted(self._served.extractors().items())]
            return pb.ListBackbonesResponse(backbones=described)

    async def GetBackbone(self, request: pb.GetBackboneRequest, context: Context) -> pb.Backbone:
        """Describe one backbone."""
        async with self._calls.accept(context, "GetBackbone") as call:
            return self._described(self._served.named(request.name).extractor, call)

    def _check_items(self, n_items: int) -> None:
        if n_items > self._limits.max_items:
            raise RequestTooLarge(
                f"request has {n_items:,} items, the limit is {self._limits.max_items:,}; send them in several"
            )

    def _described(self, extractor: Extractor, call: Call) -> pb.Backbone:
        limits = call.limits(self._limits)
        return convert.from_backbone(extractor.spec, extractor.backbone.provider, extractor.limits, limits)


class Embeddings:
    """Answers a stream's items with their embeddings; its first answer says of which backbone they are.

    Parameters
    ----------
    call : Call
    sight : Sight
    """

    def __init__(self, call: Call, sight: Sight) -> None:
        self._call = call
        self._sight = sight
        self._has_answered = False

    async def backbone_of(self, message: pb.ExtractStreamRequest) -> str:
        """Return the backbone that a message names."""
        return message.backbone

    def check(self, message: pb.ExtractStreamRequest, extractor: Extractor) -> None:
        """Raise RequestInvalid where a message names another backbone."""
        name = extractor.spec.name
        if message.backbone not in ("", name):
            raise RequestInvalid(
                f"message names backbone {message.backbone!r}, the stream's first one {name!r}; open another stream"
            )

    async def answer(
        self, some: Mapping[int, Outcome], times: StageTimes, extractor: Extractor
    ) -> pb.ExtractStreamResponse:
        """Return the message that carries outcomes."""
        self._sight.extracted(self._call, extractor.spec.name, list(some.values()), times)
        first, self._has_answered = not self._has_answered, True
        return convert.from_finished(some, times, extractor.spec if first else None)


async def extract(extractor: Extractor, items: list[bytes], call: Call) -> tuple[list[Outcome], StageTimes]:
    """Await the outcomes; a caller that leaves takes what only it waited for out of the queue."""
    submit = _submit(extractor, items, call)
    # Few bytes at once, many in a thread; hashing them, or a disk, would hold up the event loop.
    if not extractor.submit_waits and sum(map(len, items)) <= AT_ONCE_BYTES:
        request = submit()
    else:
        request, _ = await _begun(extractor, asyncio.to_thread(lambda: (submit(), None)))
    return await _landed(extractor, request), request.times


async def extract_and(
    extractor: Extractor,
    items: list[bytes],
    call: Call,
    run: Callable[[Callable[[], tuple[Request, T | None]]], Coroutine[Any, Any, tuple[Request, T | None]]],
    use: Callable[[list[Outcome], StageTimes], T],
) -> tuple[list[Outcome], StageTimes, T | None]:
    """Await the outcomes, and, where the cache has them all, what is made of them in the same turn of a thread.

    Parameters
    ----------
    run : callable
        A function -> what awaits it, in a thread.
    use : callable
        Outcomes and times -> what is made of them; otherwise that is None.
    """
    submit = _submit(extractor, items, call)

    def begin() -> tuple[Request, T | None]:
        request = submit()
        return request, use(request.future.result(), request.times) if request.future.done() else None

    request, made = await _begun(extractor, run(begin))
    return await _landed(extractor, request), request.times, made


def _submit(extractor: Extractor, items: list[bytes], call: Call) -> Callable[[], Request]:
    return partial(extractor.submit, items, caller=call.caller, deadline=call.deadline, control=call.cache_control)


async def _begun(
    extractor: Extractor, running: Coroutine[Any, Any, tuple[Request, T | None]]
) -> tuple[Request, T | None]:
    """Await a request that is submitted in a thread; a caller that leaves before that leaves nothing to compute."""
    submitting = asyncio.create_task(running)
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(lambda done: _leave(extractor, done))
        raise


def _leave(extractor: Extractor, submitting: "asyncio.Task[tuple[Request, T | None]]") -> None:
    """Cancel a request whose caller left before it was submitted."""
    if submitting.exception() is None:
        extractor.cancel(submitting.result()[0])


async def _landed(extractor: Extractor, request: Request) -> list[Outcome]:
    if request.future.done():
        return request.future.result()
    try:
        return await asyncio.wrap_future(request.future)
    except asyncio.CancelledError:
        extractor.cancel(request)
        raise
