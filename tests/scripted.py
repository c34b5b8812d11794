"""A real gRPC server whose answers a test writes down: what our server does only when it is in trouble."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from extractor.errors import ExtractorError
from extractor.limits import Limits
from extractor.outcome import Outcome
from extractor.stages import StageTimes
from headwater import convert
from headwater.convert import RequestLimits
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc

NAME = "scripted"
Step = Callable[[list[bytes], grpc.ServicerContext], list[Outcome]]


def embedded(items: list[bytes], context: Any = None) -> list[Outcome]:
    """Answer all: the embedding of b"7" is [7]."""
    return [Outcome(np.array([float(item)], np.float32)) for item in items]


def refused(code: grpc.StatusCode, pushback_ms: int | None = None) -> Step:
    """Refuse the whole call."""

    def step(items: list[bytes], context: grpc.ServicerContext) -> list[Outcome]:
        if pushback_ms is not None:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", str(pushback_ms)),))
        context.abort(code, "as it is written")

    return step


def except_for(error: ExtractorError, *values: int) -> Step:
    """Answer all but some, which get an error."""

    def step(items: list[bytes], context: grpc.ServicerContext) -> list[Outcome]:
        pairs = zip(items, embedded(items), strict=True)
        return [Outcome(error=error) if int(item) in values else outcome for item, outcome in pairs]

    return step


class Enough(Exception):
    """Ends a stream well, where a step raises it."""


def enough(items: list[bytes], context: grpc.ServicerContext) -> list[Outcome]:
    raise Enough


class Scripted(extractor_pb2_grpc.ExtractorServiceServicer):
    """Answers the calls in turn as the steps say, and all others well; `asked` and `times` tell of each."""

    def __init__(self, *steps: Step) -> None:
        self.target = ""
        self.fingerprint = "a" * 32
        self.asked: list[list[int]] = []
        self.times: list[float] = []
        self.answered: list[int] = []
        self._steps = list(steps)
        self._lock = threading.Lock()

    def GetBackbone(self, request: pb.GetBackboneRequest, context: grpc.ServicerContext) -> pb.Backbone:
        limits, most = Limits(), RequestLimits(max_items=4)
        return pb.Backbone(
            name=NAME,
            fingerprint=self.fingerprint,
            dim=1,
            limits=pb.Limits(
                max_item_bytes=limits.max_item_bytes,
                max_items=most.max_items,
                max_message_bytes=most.max_message_bytes,
            ),
        )

    def Extract(self, request: pb.ExtractRequest, context: grpc.ServicerContext) -> pb.ExtractResponse:
        outcomes = self._answers([item.data for item in request.items], context)
        response = pb.ExtractResponse(backbone=NAME, fingerprint=self.fingerprint, dim=1)
        convert._pack(response, outcomes)
        return response

    def ExtractStream(
        self, requests: Iterator[pb.ExtractStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ExtractStreamResponse]:
        """A step for each message."""
        for request in requests:
            try:
                outcomes = self._answers([item.data for item in request.items], context)
            except Enough:
                return
            response = convert.from_finished(dict(zip(request.ids, outcomes, strict=False)), StageTimes(), None)
            response.fingerprint = self.fingerprint
            yield response

    def _answers(self, items: list[bytes], context: grpc.ServicerContext) -> list[Outcome]:
        with self._lock:
            self.asked.append([int(item) for item in items])
            self.times.append(time.monotonic())
            step = self._steps.pop(0) if self._steps else embedded
        outcomes = step(items, context)
        self.answered += [int(one.embedding[0]) for one in outcomes if one.embedding is not None]
        return outcomes


@contextmanager
def scripted(*steps: Step) -> Iterator[Scripted]:
    """Run a server that does as the steps say; requests hold four items at most."""
    server = grpc.server(ThreadPoolExecutor(8))
    servicer = Scripted(*steps)
    extractor_pb2_grpc.add_ExtractorServiceServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield servicer
    finally:
        server.stop(0).wait()
