"""The server: extractors -> a gRPC port, with health and reflection beside them, until it is told to stop.

It stops in this order: health says so and new calls are told UNAVAILABLE; calls that run may finish within `drain_s`,
training jobs are cancelled;
what still waits is told UNAVAILABLE; sessions are closed, and then the port. All of it takes at most `drain_s` and a
few times LAST_WORD_S, also where a session hangs.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from extractor.pipeline import Extractor
from headwater import shelf
from headwater.convert import RequestLimits
from headwater.errors import ServerNotStarted
from headwater.exposure import check_exposure, is_loopback
from headwater.keyring import KeyRing
from headwater.keys import Role
from headwater.service.admin import ADMIN_SERVICE, AdminService
from headwater.service.calls import Calls
from headwater.service.classifier import ClassifierService
from headwater.service.door import EVERY_ROLE, Door
from headwater.service.extractor import ExtractorService
from headwater.service.fewshot import FewShotService
from headwater.service.gate import Gate
from headwater.service.heads import Heads
from headwater.service.health import CLASSIFIER_SERVICE, EXTRACTOR_SERVICE, FEW_SHOT_SERVICE, Health, Servicer
from headwater.service.jobs import Jobs
from headwater.service.lenient import Registry
from headwater.service.served import Served
from headwater.service.sight import Sight
from headwater.service.tasks import Tasks
from headwater.tls import TlsFiles, server_credentials
from headwater.v1 import admin_pb2_grpc, classifier_pb2_grpc, extractor_pb2_grpc, fewshot_pb2_grpc

log = logging.getLogger(__name__)

ADMIN_CALLS = 16  # at once, beside the others: a server that is full of work can still be administered
SPARE_CALLS = 1024  # for health, reflection and calls that are being refused; gRPC itself refuses what is beyond
SUBMITTING = 64  # requests that look into the cache at once, whatever the cores: a far one is mostly waited for
LAST_WORD_S = 5.0  # for the calls that are told UNAVAILABLE to say so
KEEPALIVE_MS = 60_000  # a caller whose machine is gone without a word is found out, and its streams are left
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"  # the same messages as v1alpha under another name


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server listens.

    Parameters
    ----------
    host : str
        Address to listen on; one that others reach needs keys or client certificates, or `open_to_all`.
    port : int
        0 takes a free one.
    drain_s : float
        Seconds that running calls have to finish once the server is told to stop.
    max_concurrent_calls : int
        More calls at once are refused with RESOURCE_EXHAUSTED.
    check_timeout_s : float
        A session that does not answer its golden items within this time is said not to serve.
    limits : RequestLimits
    keys : Path, optional
        File of the keys that callers must show.
    tls : TlsFiles, optional
    open_to_all : bool
        Serve whoever reaches an address that others reach, without keys.
    dumps : Path, optional
        Folder of the dumps that heads may be trained on.
    training_jobs : int
        Heads that are trained at once, each in a process of low priority.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    drain_s: float = 10.0
    max_concurrent_calls: int = 1024
    check_timeout_s: float = 10.0
    limits: RequestLimits = field(default_factory=RequestLimits)
    keys: Path | None = None
    tls: TlsFiles | None = None
    open_to_all: bool = False
    dumps: Path | None = None
    training_jobs: int = 1


def check(settings: ServerSettings) -> str:
    """Make sure that settings can be served, before the backbones are loaded.

    Returns
    -------
    str
        What the operator should know of who may use the server, "" for nothing.

    Raises
    ------
    ServerNotStarted
        Others would reach a server that asks for nothing, or the certificates cannot be used.
    KeyFileInvalid
    """
    _ring(settings)
    if settings.tls is not None:
        server_credentials(settings.tls)
    return check_exposure(
        settings.host,
        keys=settings.keys is not None,
        tls=settings.tls is not None,
        client_certificates=settings.tls is not None and settings.tls.client_ca is not None,
        open_to_all=settings.open_to_all,
    )


async def serve(
    extractors: Mapping[str, Extractor],
    settings: ServerSettings,
    *,
    ready: Callable[[str], None],
    stop: asyncio.Event,
    load: Callable[[str], Extractor] = Extractor.load,
    sight: Sight | None = None,
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
    load : callable
        The name of an installed backbone -> its extractor, as the others were loaded; for the admin's calls.
    sight : Sight, optional
        What is to show of it; its owner closes it.

    Raises
    ------
    ServerNotStarted
        The address cannot be bound, or `check` finds fault.
    KeyFileInvalid
    """
    served, heads, tasks = Served(extractors), Heads(), Tasks()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(SUBMITTING, "submit"))
    try:
        check(settings)
        ring = _ring(settings)
        calls = Calls(_door(settings, ring, settings.max_concurrent_calls), sight)
        server = _server(settings, _gates(settings, ring, calls))
        servicer = Servicer()
        admin_calls = Calls(_door(settings, ring, ADMIN_CALLS), sight)  # answered while the others drain
        health_of_backbones = Health(servicer, served, check_timeout_s=settings.check_timeout_s)
        calls.sight.watch_server(served.extractors, health_of_backbones.serves, lambda: calls.running)
        load = partial(_watched, load, calls.sight)
        admin = AdminService(
            served, health_of_backbones, admin_calls, work=calls, load=load, stop=stop, drain_s=settings.drain_s
        )
        jobs = Jobs(calls.sight, at_once=settings.training_jobs)
        closing = asyncio.create_task(jobs.close_at(calls.refusing))
        classify = ClassifierService(
            served, calls, settings.limits, heads=heads, jobs=jobs, dumps_folder=settings.dumps
        )
        few_shot = FewShotService(served, calls, settings.limits, tasks=tasks)
        _register(server, servicer, ExtractorService(served, calls, settings.limits), classify, few_shot, admin)
        await asyncio.to_thread(shelf.sweep)
        await health_of_backbones.start()
        address = _bind(server, settings)
        await server.start()
        ready(address)
        await stop.wait()
        log.info("stopping: up to %g s for running calls", settings.drain_s)
        await health_of_backbones.stop()
        calls.refuse()
        await asyncio.wait((closing,), timeout=settings.drain_s + LAST_WORD_S)  # a disk may hang, too
        await calls.quiet(settings.drain_s)
        await asyncio.to_thread(served.close, LAST_WORD_S)
        await calls.quiet(LAST_WORD_S)
        await server.stop(LAST_WORD_S)
    finally:
        heads.close()
        await asyncio.to_thread(tasks.close)
        await asyncio.to_thread(served.close, LAST_WORD_S)


def run(
    extractors: Mapping[str, Extractor],
    settings: ServerSettings,
    *,
    ready: Callable[[str], None],
    load: Callable[[str], Extractor] = Extractor.load,
    sight: Sight | None = None,
) -> None:
    """Serve extractors until SIGTERM or SIGINT; raises ServerNotStarted when the address cannot be bound."""

    async def until_signalled() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(extractors, settings, ready=ready, stop=stop, load=load, sight=sight)

    asyncio.run(until_signalled())


def _ring(settings: ServerSettings) -> KeyRing | None:
    if settings.keys is None:
        return None
    ring = KeyRing(settings.keys)
    ring.load()
    return ring


def _door(settings: ServerSettings, ring: KeyRing | None, max_calls: int) -> Door:
    open_roles = EVERY_ROLE if is_loopback(settings.host) else EVERY_ROLE - {Role.ADMIN}
    return Door(
        ring,
        max_calls=max_calls,
        open_roles=open_roles,
        certificates=_asks_for_certificates(settings),
    )


def _gates(settings: ServerSettings, ring: KeyRing | None, calls: Calls) -> list[Gate]:
    return [] if ring is None or _asks_for_certificates(settings) else [Gate(ring, calls)]


def _asks_for_certificates(settings: ServerSettings) -> bool:
    return settings.tls is not None and settings.tls.client_ca is not None


def _watched(load: Callable[[str], Extractor], sight: Sight, name: str) -> Extractor:
    extractor = load(name)
    sight.watch(extractor.spec.name, extractor)
    return extractor


def _server(settings: ServerSettings, gates: list[Gate]) -> grpc.aio.Server:
    return grpc.aio.server(
        interceptors=gates,
        maximum_concurrent_rpcs=settings.max_concurrent_calls + SPARE_CALLS,
        options=[
            ("grpc.max_receive_message_length", settings.limits.max_message_bytes),
            ("grpc.max_send_message_length", settings.limits.max_message_bytes),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not half of the calls
        ],
    )


def _register(
    server: grpc.aio.Server,
    servicer: health.aio.HealthServicer,
    extract: ExtractorService,
    heads: ClassifierService,
    few_shot: FewShotService,
    admin: AdminService,
) -> None:
    registry = Registry(server)
    extractor_pb2_grpc.add_ExtractorServiceServicer_to_server(extract, registry)
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(heads, registry)
    fewshot_pb2_grpc.add_FewShotServiceServicer_to_server(few_shot, registry)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, registry)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, registry)
    names = [
        EXTRACTOR_SERVICE,
        CLASSIFIER_SERVICE,
        FEW_SHOT_SERVICE,
        ADMIN_SERVICE,
        health.SERVICE_NAME,
        reflection.SERVICE_NAME,
        _REFLECTION_V1,
    ]
    registry.add_generic_rpc_handlers(tuple(_reflection(name, names) for name in names[-2:]))


def _reflection(service: str, names: list[str]) -> grpc.GenericRpcHandler:
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host and "[" not in settings.host else settings.host
    try:
        port = _open(server, f"{host}:{settings.port}", settings.tls)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ServerNotStarted(
            f"cannot listen on {settings.host}:{settings.port}: the port is taken or the host is not this machine's; "
            "choose another with --port (0 takes a free one)"
        )
    return f"{host}:{port}"


def _open(server: grpc.aio.Server, address: str, tls: TlsFiles | None) -> int:
    return (
        server.add_insecure_port(address) if tls is None else server.add_secure_port(address, server_credentials(tls))
    )
