"""A server in a thread of the test's process, so that a test can make its session sleep, fail or hang."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from extractor import Extractor
from headwater.server import ServerSettings, serve
from headwater.service.sight import Sight

WAIT_S = 30


@dataclass(frozen=True)
class InProcess:
    """A server in a thread: where it listens, how it is told to stop, and how one waits until it has."""

    address: str
    stop: Callable[[], object]
    thread: threading.Thread

    def join(self) -> None:
        """Wait until it has stopped."""
        self.thread.join(WAIT_S)


@contextmanager
def in_this_process(
    extractors: Mapping[str, Extractor],
    settings: ServerSettings | None = None,
    *,
    load: Callable[[str], Extractor] = Extractor.load,
    sight: Sight | None = None,
) -> Iterator[InProcess]:
    """Serve extractors on a free port and yield it; the server has stopped when the block ends."""
    addresses: list[str] = []
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    listening = threading.Event()

    def ready(address: str) -> None:
        addresses.append(address)
        listening.set()

    async def main() -> None:
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        settings_or_free = settings or ServerSettings(port=0)
        await serve(extractors, settings_or_free, ready=ready, stop=stop, load=load, sight=sight)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert listening.wait(WAIT_S)
    loop, stop = stops[0]

    def tell() -> None:
        with suppress(RuntimeError):  # its loop has ended
            loop.call_soon_threadsafe(stop.set)

    try:
        yield InProcess(addresses[0], tell, thread)
    finally:
        tell()
        thread.join(WAIT_S)
        assert not thread.is_alive()
