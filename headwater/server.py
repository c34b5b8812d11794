"""The server: extractors -> a gRPC port, with health and reflection beside them, until it is told to stop.

It stops in this order: health says so and new calls are told UNAVAILABLE; calls that run may finish within `drain_s`;
what still waits is told UNAVAILABLE; sessions are closed, and then the port. All of it takes at most `drain_s` and a
few times LAST_WORD_S, also where a session hangs.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from extractor.pipeline import Extractor
from headwater.convert import RequestLimits
from headwater.errors import ServerNotStarted
from headwater.service.calls import Calls
from headwater.service.extractor import ExtractorService
from headwater.service.health import EXTRACTOR_SERVICE, Health
from headwater.v1 import extractor_pb2_grpc

log = logging.getLogger(__name__)

LAST_WORD_S = 5.0  # for the calls that are told UNAVAILABLE to say so
KEEPALIVE_MS = 60_000  # a caller whose machine is gone without a word is found out, and its streams are left
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"  # the same messages as v1alpha under another name


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server listens.

    Parameters
    ----------
    host : str
        Address to listen on; there are neither keys nor TLS yet, so by default this machine only.
    port : int
        0 takes a free one.
    drain_s : float
        Seconds that running calls have to finish once the server is told to stop.
    max_concurrent_calls : int
        More calls at once are refused with RESOURCE_EXHAUSTED.
    limits : RequestLimits
    """

    host: str = "127.0.0.1"
    port: int = 50051
    drain_s: float = 10.0
    max_concurrent_calls: int = 1024
    limits: RequestLimits = field(default_factory=RequestLimits)


async def serve(
    extractors: Mapping[str, Extractor], settings: ServerSettings, *, ready: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve extractors until `stop` is set, then drain and close them.

    Parameters
    ----------
    extractors : mapping of str to Extractor
        By the names of their backbones; they are closed at the end.
    settings : ServerSettings
    ready : callable
        Called with `host:port` once calls are answered.
    stop : asyncio.Event

    Raises
    ------
    ServerNotStarted
        The address cannot be bound.
    """
    try:
        server = _server(settings)
        servicer = health.aio.HealthServicer()
        calls, health_of_backbones = Calls(), Health(servicer, extractors)
        _register(server, servicer, ExtractorService(extractors, calls, settings.limits))
        await health_of_backbones.start()
        address = _bind(server, settings)
        await server.start()
        ready(address)
        await stop.wait()
        log.info("stopping: up to %g s for running calls", settings.drain_s)
        await health_of_backbones.stop()
        calls.refuse()
        await calls.quiet(settings.drain_s)
        await asyncio.to_thread(_close, extractors)
        await calls.quiet(LAST_WORD_S)
        await server.stop(LAST_WORD_S)
    finally:
        await asyncio.to_thread(_close, extractors)


def run(extractors: Mapping[str, Extractor], settings: ServerSettings, *, ready: Callable[[str], None]) -> None:
    """Serve extractors until SIGTERM or SIGINT; raises ServerNotStarted when the address cannot be bound."""

    async def until_signalled() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(extractors, settings, ready=ready, stop=stop)

    asyncio.run(until_signalled())


def _server(settings: ServerSettings) -> grpc.aio.Server:
    return grpc.aio.server(
        maximum_concurrent_rpcs=settings.max_concurrent_calls,
        options=[
            ("grpc.max_receive_message_length", settings.limits.max_message_bytes),
            ("grpc.max_send_message_length", settings.limits.max_message_bytes),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not half of the calls
        ],
    )


def _register(server: grpc.aio.Server, servicer: health.aio.HealthServicer, extract: ExtractorService) -> None:
    extractor_pb2_grpc.add_ExtractorServiceServicer_to_server(extract, server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [EXTRACTOR_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME, _REFLECTION_V1]
    reflection.enable_server_reflection(names, server)
    server.add_generic_rpc_handlers((_reflection_v1(names),))


def _reflection_v1(names: list[str]) -> grpc.GenericRpcHandler:
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": handler})


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host and "[" not in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError:
        port = 0
    if port == 0:
        raise ServerNotStarted(
            f"cannot listen on {settings.host}:{settings.port}: the port is taken or the host is not this machine's; "
            "choose another with --port (0 takes a free one)"
        )
    return f"{host}:{port}"


def _close(extractors: Mapping[str, Extractor]) -> None:
    for extractor in extractors.values():
        extractor.close(LAST_WORD_S)
