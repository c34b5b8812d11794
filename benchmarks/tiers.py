"""A folder -> the tiers of the cache, open beside each other: memory, disk, shared where Redis is, and the peer."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from servers import free_port
from sqlite_store import SqliteStore

from extractor.cache.behind import WriteBehind
from extractor.cache.disk import DiskStore
from extractor.cache.memory import MemoryCache

BOUND = 64 << 30  # nothing is evicted
START_S = 10.0
PATIENCE_S = 10.0


@contextmanager
def tiers(folder: Path, only: set[str]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Yield the tiers by name, and why others are absent."""
    found: dict[str, Any] = {}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        if "memory" in only:
            found["memory"] = MemoryCache(max_bytes=BOUND)
        if "disk" in only:
            found["disk"] = WriteBehind(DiskStore.open(folder / "disk", max_bytes=BOUND)).start()
        if "sqlite" in only:
            found["sqlite"] = WriteBehind(SqliteStore(folder / "rows.sqlite")).start()  # type: ignore[arg-type]
        if "shared" in only:
            try:
                found["shared"] = stack.enter_context(_shared())
            except (ImportError, FileNotFoundError) as error:
                absent["shared"] = str(error)
        for tier in found.values():
            stack.callback(tier.close)
        yield found, absent


@contextmanager
def _shared() -> Iterator[WriteBehind]:
    """Run a Redis that keeps everything in memory, and yield the tier on it."""
    from extractor.cache import shared

    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise FileNotFoundError("neither redis-server nor valkey-server is installed")
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_S
        # 64 threads on two cores keep each other waiting for longer than a service's would wait for Redis.
        shared.TIMEOUT_S = shared.BULK_TIMEOUT_S = PATIENCE_S
        store = shared.SharedStore.open(f"redis://127.0.0.1:{port}/0")
        while store.facts().degraded and time.monotonic() < deadline:
            time.sleep(0.1)
        yield WriteBehind(store).start()
    finally:
        process.terminate()
        process.wait()
