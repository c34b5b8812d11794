"""Health that is true: after an error of a session, a real forward decides whether its backbone still serves.

`grpc.health.v1` answers under "" (all backbones serve), under `headwater.v1.ExtractorService` (the same), and under the
name of each backbone.
"""

import asyncio
import logging
from collections.abc import Mapping

from grpc_health.v1 import health, health_pb2

from extractor.pipeline import Extractor
from headwater.v1 import extractor_pb2

log = logging.getLogger(__name__)

RECHECK_S = 1.0  # between two forwards while a backbone does not serve
EXTRACTOR_SERVICE: str = extractor_pb2.DESCRIPTOR.services_by_name["ExtractorService"].full_name


class Health:
    """Keeps a health service true to a server's backbones.

    Parameters
    ----------
    servicer : grpc_health.v1.health.aio.HealthServicer
    extractors : mapping of str to Extractor
    """

    def __init__(self, servicer: health.aio.HealthServicer, extractors: Mapping[str, Extractor]) -> None:
        self._servicer = servicer
        self._extractors = extractors
        self._serves = dict.fromkeys(extractors, True)
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Say that all serve, for each has just proved itself, and begin to watch for errors."""
        for name in self._extractors:
            await self._tell(name)
        self._watchers = [asyncio.create_task(self._watch(*one)) for one in self._extractors.items()]

    async def stop(self) -> None:
        """Watch no more, and say that nothing serves."""
        for extractor in self._extractors.values():
            extractor.on_failure(None)
        for watcher in self._watchers:
            watcher.cancel()
        await self._servicer.enter_graceful_shutdown()

    def serves(self, name: str) -> bool:
        """Tell whether the last forward of a backbone was right."""
        return self._serves.get(name, False)

    async def _watch(self, name: str, extractor: Extractor) -> None:
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()
        extractor.on_failure(lambda: loop.call_soon_threadsafe(failed.set))
        while True:
            await failed.wait()
            failed.clear()
            while not await self._check(name, extractor):
                await asyncio.sleep(RECHECK_S)

    async def _check(self, name: str, extractor: Extractor) -> bool:
        try:
            await asyncio.to_thread(extractor.check)
        except Exception:  # whatever a session raises, it does not serve
            log.exception("backbone %r does not serve", name)
            self._serves[name] = False
        else:
            self._serves[name] = True
        await self._tell(name)
        return self._serves[name]

    async def _tell(self, name: str) -> None:
        await self._servicer.set(name, _status(self._serves[name]))
        for service in ("", EXTRACTOR_SERVICE):
            await self._servicer.set(service, _status(all(self._serves.values())))


def _status(serves: bool) -> "health_pb2.HealthCheckResponse.ServingStatus":
    return health_pb2.HealthCheckResponse.SERVING if serves else health_pb2.HealthCheckResponse.NOT_SERVING
