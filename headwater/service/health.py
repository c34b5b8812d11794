"""Health that is true: after an error of a session, or a long silence, a real forward decides whether it still serves.

`grpc.health.v1` answers under "" (all backbones serve), under `headwater.v1.ExtractorService` (the same), and under the
name of each backbone; a name that was unloaded is SERVICE_UNKNOWN, and a server without a backbone does not serve.

Under `cache` it tells whether every tier of the cache works as it should: where one is degraded, items are computed
anew, and all else goes on. It is SERVICE_UNKNOWN where there is no cache, and a backbone of that name goes first.
"""

import asyncio
import logging
from contextlib import suppress
from typing import TypeAlias

from grpc_health.v1 import health, health_pb2

from extractor.cache import Cache, CacheFacts, facts_of
from extractor.pipeline import Extractor
from headwater.service.aside import aside
from headwater.service.door import Context
from headwater.service.served import Served
from headwater.v1 import classifier_pb2, extractor_pb2, fewshot_pb2

log = logging.getLogger(__name__)

ServingStatus: TypeAlias = "health_pb2.HealthCheckResponse.ServingStatus"

RECHECK_S = 1.0  # between two forwards while a backbone does not serve
LOOKS = 8  # at how long a forward runs, within the time that one may take
CACHE_CHECK_S = 1.0  # between two looks at the cache: they cost microseconds
CACHE_SERVICE = "cache"
SERVING: ServingStatus = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: ServingStatus = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN: ServingStatus = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
EXTRACTOR_SERVICE: str = extractor_pb2.DESCRIPTOR.services_by_name["ExtractorService"].full_name
CLASSIFIER_SERVICE: str = classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"].full_name
FEW_SHOT_SERVICE: str = fewshot_pb2.DESCRIPTOR.services_by_name["FewShotService"].full_name


class Servicer(health.aio.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """gRPC's own, but for its watchers, who share a lock there.

    One that leaves takes the others' news with it, and one that does not read holds up whoever has news to tell.
    """

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Write the status of a service, and each that it has later."""
        last = None
        while True:
            news = self._news  # before the look, so that what comes after it wakes
            status = self._server_status.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
            await news.wait()

    async def _set(self, service: str, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        self._server_status[service] = status
        self._news.set()
        self._news = asyncio.Event()


class Health:
    """Keeps a health service true to a server's backbones.

    Parameters
    ----------
    servicer : grpc_health.v1.health.aio.HealthServicer
    served : Served
    check_timeout_s : float
        A session that does not answer its golden items within this time does not serve; they are put to it after an
        error, and when a forward has run for half as long, so that one which hangs is told of in that time.
    """

    def __init__(self, servicer: health.aio.HealthServicer, served: Served, *, check_timeout_s: float) -> None:
        self._servicer = servicer
        self._served = served
        self._check_timeout_s = check_timeout_s
        self._serves: dict[str, bool] = {}
        self._gone: set[str] = set()
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._cache_watcher: asyncio.Task[None] | None = None
        self._cache_status: ServingStatus = UNKNOWN
        self._telling = asyncio.Lock()
        self._stopped = False

    async def start(self) -> None:
        """Say that all serve, for each has just proved itself, and begin to watch for errors."""
        for name in self._served.names:
            self._follow(name)
        self._cache_status = SERVING if any(one is not None for one in self._caches()) else UNKNOWN
        await self._tell()
        self._cache_watcher = asyncio.create_task(self._watch_cache())

    async def follow(self, name: str) -> None:
        """Watch what is served under a name from now on, be it new, another, or nothing."""
        if not self._stopped:
            self._follow(name)
            await self._tell()

    async def stop(self) -> None:
        """Watch no more, and say that nothing serves."""
        self._stopped = True
        for watcher in self._watchers.values():
            watcher.cancel()
        if self._cache_watcher is not None:
            self._cache_watcher.cancel()
        async with self._telling:
            await self._servicer.enter_graceful_shutdown()

    def serves(self, name: str) -> bool:
        """Tell what is said of a backbone."""
        return not self._stopped and self._serves.get(name, False)

    def _follow(self, name: str) -> None:
        if name in self._watchers:
            self._watchers.pop(name).cancel()
        if name in self._served.names:
            self._serves[name] = True  # it has just proved itself
            self._gone.discard(name)
            self._watchers[name] = asyncio.create_task(self._watch(name, self._served.named(name).extractor))
        else:
            self._serves.pop(name, None)
            self._gone.add(name)

    async def _watch(self, name: str, extractor: Extractor) -> None:
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()
        extractor.on_failure(lambda: loop.call_soon_threadsafe(failed.set))
        try:
            while True:
                patience_s = await self._suspicion(extractor, failed)
                failed.clear()
                while not await self._check(name, extractor, patience_s):
                    await asyncio.sleep(RECHECK_S)
                    patience_s = self._check_timeout_s
        finally:
            extractor.on_failure(_nothing)  # not None: a worker may just have seen that there is someone to tell

    async def _suspicion(self, extractor: Extractor, failed: asyncio.Event) -> float:
        """Wait for an error, or for a forward so long that the session may hang, which raises nothing.

        Returns the seconds that the session then has to answer.
        """
        while not failed.is_set():
            if extractor.longest_forward_s() > self._check_timeout_s / 2:
                return self._check_timeout_s / 2
            with suppress(TimeoutError):
                await asyncio.wait_for(failed.wait(), self._check_timeout_s / LOOKS)
        return self._check_timeout_s

    async def _check(self, name: str, extractor: Extractor, patience_s: float) -> bool:
        """Let a real forward decide; one that hangs is waited for, so that never two of them run."""
        check = aside(extractor.check)
        try:
            await asyncio.wait({check}, timeout=patience_s)
            if not check.done():
                log.error("backbone %r does not serve: no answer within %g s", name, patience_s)
                await self._say(name, False)
            await check
        except Exception:  # whatever a session raises, it does not serve
            log.exception("backbone %r does not serve", name)
            await self._say(name, False)
        else:
            await self._say(name, True)
        finally:
            check.cancel()
        return self._serves[name]

    async def _say(self, name: str, serves: bool) -> None:
        if self._serves[name] != serves:
            log.warning("backbone %r %s", name, "serves again" if serves else "is NOT_SERVING")
        self._serves[name] = serves
        await self._tell()

    async def _watch_cache(self) -> None:
        while True:
            await self._look_at_cache()
            await asyncio.sleep(CACHE_CHECK_S)

    async def _look_at_cache(self) -> None:
        """Ask the tiers how they are; one that hangs is waited for, so that never two threads ask."""
        look = aside(facts_of, self._caches())
        await asyncio.wait({look}, timeout=self._check_timeout_s)
        if not look.done():
            await self._say_of_cache([CacheFacts("cache", degraded=f"no answer within {self._check_timeout_s:g} s")])
        await self._say_of_cache(await look)

    async def _say_of_cache(self, tiers: list[CacheFacts]) -> None:
        trouble = "; ".join(f"{one.tier}: {one.degraded}" for one in tiers if one.degraded)
        if bool(trouble) != (self._cache_status == NOT_SERVING):
            log.warning("the cache %s", f"is degraded: {trouble}" if trouble else "works again")
        old, self._cache_status = self._cache_status, _status(not trouble) if tiers else UNKNOWN
        if self._cache_status != old:
            await self._tell()

    def _caches(self) -> list[Cache | None]:
        return [one.cache for one in self._served.extractors().values()]

    async def _tell(self) -> None:
        """Bring the health service up to date; one at a time, so that the last word is the newest."""
        async with self._telling:
            await self._servicer.set(CACHE_SERVICE, self._cache_status)
            for name, serves in list(self._serves.items()):
                await self._servicer.set(name, _status(serves))
            for name in list(self._gone):
                await self._servicer.set(name, UNKNOWN)
            for service in ("", EXTRACTOR_SERVICE, CLASSIFIER_SERVICE, FEW_SHOT_SERVICE):
                await self._servicer.set(service, _status(bool(self._serves) and all(self._serves.values())))


def _nothing() -> None:
    """Nobody watches any more."""


def _status(serves: bool) -> ServingStatus:
    return SERVING if serves else NOT_SERVING
