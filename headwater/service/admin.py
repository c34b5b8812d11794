"""`AdminService`: what is served is changed while the server runs, and no request is dropped."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from extractor.cache import CacheFacts, facts_of
from extractor.errors import (
    BackboneBusy,
    BackboneChanged,
    BackboneInvalid,
    BackboneServed,
    ExtractorError,
    RequestInvalid,
)
from extractor.pipeline import Extractor
from headwater import __version__, logs
from headwater.service.aside import aside
from headwater.service.calls import Calls, Context
from headwater.service.health import Health
from headwater.service.served import LAST_BATCH_S, Served, shown
from headwater.v1 import admin_pb2 as pb
from headwater.v1 import admin_pb2_grpc

log = logging.getLogger(__name__)

T = TypeVar("T")

ADMIN_SERVICE: str = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
LEVELS = ("debug", "info", "warning", "error")
MAX_NAME_BYTES = 200  # file systems take 255
MAX_DRAIN_S = 86_400.0


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """Loads, unloads and replaces backbones, drains, sets log levels.

    Parameters
    ----------
    served : Served
    health : Health
    calls : Calls
        Of this service.
    work : Calls
        Of the services that are drained.
    load : callable
        The name of an installed backbone -> its extractor, proved.
    stop : asyncio.Event
        Ends the server.
    drain_s : float
        Seconds that running calls have where a request to drain does not say.
    """

    def __init__(
        self,
        served: Served,
        health: Health,
        calls: Calls,
        *,
        work: Calls,
        load: Callable[[str], Extractor],
        stop: asyncio.Event,
        drain_s: float,
    ) -> None:
        self._served = served
        self._health = health
        self._calls = calls
        self._work = work
        self._load = load
        self._stop = stop
        self._drain_s = drain_s
        self._changing: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def LoadBackbone(self, request: pb.LoadBackboneRequest, context: Context) -> pb.LoadBackboneResponse:
        """Serve one more installed backbone."""
        async with self._calls.accept(context, "LoadBackbone"):
            _check_name(request.name)
            await self._see_through(self._add(request.name))
            return pb.LoadBackboneResponse(backbone=self._status(request.name))

    async def UnloadBackbone(self, request: pb.UnloadBackboneRequest, context: Context) -> pb.UnloadBackboneResponse:
        """Serve a backbone no longer; its running requests are finished."""
        async with self._calls.accept(context, "UnloadBackbone"):
            _check_name(request.name)
            users = await self._see_through(self._remove(request.name))
            return pb.UnloadBackboneResponse(users=users)

    async def ReplaceBackbone(self, request: pb.ReplaceBackboneRequest, context: Context) -> pb.ReplaceBackboneResponse:
        """Load a served backbone anew from its folder, and swap."""
        async with self._calls.accept(context, "ReplaceBackbone"):
            _check_name(request.name)
            if request.expected_fingerprint and request.allow_new_fingerprint:
                raise RequestInvalid(
                    f"the request expects the fingerprint {shown(request.expected_fingerprint)} and allows any; "
                    "leave out one of the two"
                )
            old = await self._see_through(self._replace(request))
            return pb.ReplaceBackboneResponse(backbone=self._status(request.name), old_fingerprint=old)

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        """Take no more work, and answer once that which runs has ended."""
        async with self._calls.accept(context, "Drain"):
            timeout_s = request.timeout_s if request.HasField("timeout_s") else self._drain_s
            if not 0 <= timeout_s <= MAX_DRAIN_S:
                raise RequestInvalid(f"timeout_s is {timeout_s:g}; take 0 to {MAX_DRAIN_S:,.0f} s")
            quiet = await self._see_through(self._drain(timeout_s, stop=request.stop))
            return pb.DrainResponse(quiet=quiet, running_calls=self._work.running)

    async def SetLogLevel(self, request: pb.SetLogLevelRequest, context: Context) -> pb.SetLogLevelResponse:
        """Set the level of a logger until the server ends."""
        async with self._calls.accept(context, "SetLogLevel"):
            logger = _logger(request.logger)
            if request.level.lower() not in LEVELS:
                raise RequestInvalid(f"there is no log level {shown(request.level)}; there are: {', '.join(LEVELS)}")
            old = logging.getLevelName((logger if request.logger else log).getEffectiveLevel()).lower()
            log.info("log level of %s: %s -> %s", request.logger or "all", old, request.level.lower())
            if request.logger:
                logger.setLevel(request.level.upper())
            else:
                logs.set_level(logs.Level(request.level.lower()))
            return pb.SetLogLevelResponse(old_level=old)

    async def GetServerStatus(self, request: pb.GetServerStatusRequest, context: Context) -> pb.GetServerStatusResponse:
        """Say how the server and each backbone are."""
        async with self._calls.accept(context, "GetServerStatus"):
            tiers = await aside(facts_of, [one.cache for one in self._served.extractors().values()])
            return pb.GetServerStatusResponse(
                version=__version__,
                draining=self._work.refusing.is_set(),
                running_calls=self._work.running,
                backbones=[self._status(name) for name in self._served.names],
                changing=sorted(self._changing),
                leaving=self._served.n_leaving,
                cache_tiers=map(_tier, tiers),
            )

    async def _add(self, name: str) -> None:
        with self._change(name):
            if name in self._served.names:
                raise BackboneServed(f"backbone {name!r} is served; to load it anew: headwater admin replace {name}")
            extractor = await self._loaded(name)
            self._served.add(name, extractor)
            log.info("loaded backbone %r, fingerprint %s", name, extractor.fingerprint)
            await self._health.follow(name)

    async def _remove(self, name: str) -> int:
        with self._change(name):
            users = len(self._served.named(name).users)
            self._served.remove(name)
            log.info("unloaded backbone %r; %d requests still run on it", name, users)
            await self._health.follow(name)
            return users

    async def _replace(self, request: pb.ReplaceBackboneRequest) -> str:
        name = request.name
        with self._change(name):
            old = self._served.named(name).extractor.fingerprint
            extractor = await self._loaded(name)
            expected = request.expected_fingerprint or old
            if extractor.fingerprint != expected and not request.allow_new_fingerprint:
                aside(extractor.close, LAST_BATCH_S)
                raise BackboneChanged(
                    f"backbone {name!r} has the fingerprint {old}, its folder now {extractor.fingerprint}, and "
                    f"{shown(expected)} was expected; nothing is replaced: expect the new one, or allow any "
                    "(--allow-new-fingerprint)"
                )
            self._served.replace(name, extractor)
            log.info("replaced backbone %r, fingerprint %s -> %s", name, old, extractor.fingerprint)
            await self._health.follow(name)
            return old

    async def _drain(self, timeout_s: float, *, stop: bool) -> bool:
        log.info("draining: up to %g s for running calls", timeout_s)
        await self._health.stop()
        self._work.refuse()
        quiet = await self._work.quiet(timeout_s)
        if stop:
            self._stop.set()
        return quiet

    async def _loaded(self, name: str) -> Extractor:
        """Load in a thread; whatever goes wrong is an error that says what."""
        try:
            extractor = await aside(self._load, name)
        except ExtractorError:
            raise
        except Exception:
            log.exception("loading backbone %r failed", name)
            raise BackboneInvalid(
                f"backbone {name!r} cannot be loaded; the server's log says why; export it again"
            ) from None
        if extractor.spec.name != name:
            aside(extractor.close, LAST_BATCH_S)
            raise BackboneInvalid(
                f"the backbone in the folder {name!r} calls itself {shown(extractor.spec.name)}; rename the folder"
            )
        return extractor

    @contextmanager
    def _change(self, name: str) -> Iterator[None]:
        """Change one name at a time."""
        if name in self._changing:
            raise BackboneBusy(
                f"backbone {name!r} is being loaded, unloaded or replaced; wait, and look with: headwater admin status"
            )
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.remove(name)

    async def _see_through(self, change: Coroutine[Any, Any, T]) -> T:
        """Await a change that goes on to its end also where its caller leaves."""
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def _status(self, name: str) -> pb.BackboneStatus:
        one = self._served.named(name)
        queue = one.extractor.queue()
        status = pb.BackboneStatus(
            name=name,
            fingerprint=one.extractor.fingerprint,
            provider=one.extractor.backbone.provider,
            serving=self._health.serves(name),
            users=len(one.users),
            longest_s=one.longest_s,
            queued_items=queue.n_items,
            queued_bytes=queue.n_bytes,
            oldest_s=queue.oldest_s,
        )
        status.loaded_at.FromMilliseconds(round(one.loaded_at * 1000))
        return status


def _tier(facts: CacheFacts) -> pb.CacheTierStatus:
    return pb.CacheTierStatus(
        tier=facts.tier,
        entries=facts.n_entries,
        bytes=facts.n_bytes,
        max_bytes=facts.max_bytes,
        hits=facts.hits,
        misses=facts.misses,
        stored=facts.stored,
        dropped=sum(facts.dropped.values()),
        degraded=facts.degraded,
    )


def _check_name(name: str) -> None:
    """Refuse what is no plain name: nobody reads folders of his choice through a server."""
    n_bytes = len(name.encode())
    if not name:
        raise RequestInvalid("the request names no backbone; name one that is installed on the server")
    if n_bytes > MAX_NAME_BYTES:
        raise RequestInvalid(f"the name {shown(name)} has {n_bytes:,} bytes, the limit is {MAX_NAME_BYTES}")
    if name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise RequestInvalid(
            f"{shown(name)} is no backbone's name; name one that is installed on the server: no path, no URL"
        )


def _logger(name: str) -> logging.Logger:
    known = logging.root.manager.loggerDict
    if name and name not in known:  # a new one would never be forgotten
        roots = sorted({one.partition(".")[0] for one in known})
        raise RequestInvalid(f"there is no logger {shown(name)}; the first parts of names are: {', '.join(roots)}")
    return logging.getLogger(name)
