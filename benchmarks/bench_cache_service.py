"""What the disk cache costs callers when nothing hits, and what an answer from it costs the server when all does.

All-miss: 64 callers ask for texts that nobody has asked for, of a session that sleeps 2 ms an item and costs no
processor time, with the disk cache and without, in turns. All-hit: 8 callers ask for 32 JPEGs a request
(EfficientNet-Lite0), all of them stored on disk or in memory, beside a server that computes them. The profile tells
where a hit's processor time goes. Run: python benchmarks/bench_cache_service.py [--quick]
"""

import argparse
import asyncio
import cProfile
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import grpc.aio
import load
import numpy as np
import processes
import wires
from backbone import ensure
from load import Endpoint, Job, Load
from photos import photos
from record import markdown, write_result

from extractor import Extractor
from extractor.cache import item_key
from extractor.stages import StageTimes
from headwater import convert
from headwater.process import serving
from headwater.v1 import extractor_pb2 as pb

CANNED = Path(__file__).parent / "canned_server.py"
SLEEPING = Path(__file__).parent / "sleeping_server.py"
PATH = "/headwater.v1.ExtractorService/Extract"
DELAY_MS = 2.0
TEXTS, IMAGES = "minilm-l6", "efficientnet-lite0"
MISS_CALLERS, HIT_CALLERS, HIT_ITEMS = 64, 8, 32
WARM_UP_S = 1.0
REPLY_BYTES = 4 * 1280 * HIT_ITEMS  # of embeddings
N_PROFILED = 5  # times through all requests


@contextmanager
def sleeping(cache: str) -> Iterator[str]:
    """Run the sleeping server with a cache and yield its `host:port`."""
    command = [sys.executable, SLEEPING, str(DELAY_MS), "serve", ensure(TEXTS), "--workers", "2", "--port", "0"]
    process = subprocess.Popen([*command, "--cache", cache], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]  # "headwater serves … at host:port"
    finally:
        processes.end(process)


@contextmanager
def canned() -> Iterator[tuple[int, str]]:
    """Run a server that answers with as many zeros; yield its number and its `host:port`."""
    command = [sys.executable, CANNED, PATH, str(REPLY_BYTES)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
    finally:
        processes.end(process)


async def all_miss(target: str, numbers: Iterator[int], seconds: float) -> list[float]:
    """Let 64 callers ask for new texts, and return their latencies in seconds."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        call: Any = channel.unary_unary(PATH)
        begun = time.perf_counter()

        async def caller() -> None:
            while (asked := time.perf_counter()) < begun + WARM_UP_S + seconds:
                item = pb.Item(data=f"item {next(numbers)}".encode())
                await call(pb.ExtractRequest(items=[item]).SerializeToString(), timeout=60)
                if asked > begun + WARM_UP_S:
                    latencies.append(time.perf_counter() - asked)

        await asyncio.gather(*(caller() for _ in range(MISS_CALLERS)))
    return latencies


def misses(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row with the cache on and one with it off."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    numbers = count()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        targets = {name: stack.enter_context(sleeping(name if name == "off" else folder)) for name in ("off", "disk")}
        for turn in range(rounds):
            for name in sorted(targets, reverse=bool(turn % 2)):
                latencies = asyncio.run(all_miss(targets[name], numbers, seconds))
                p50, p99 = (1000 * np.percentile(latencies, (50, 99))).tolist()
                found.setdefault(name, []).append((len(latencies) / seconds, p50, p99))
    medians = {
        name: [statistics.median(column) for column in zip(*turns, strict=True)] for name, turns in found.items()
    }
    ratio = statistics.median(on[2] / off[2] for on, off in zip(found["disk"], found["off"], strict=True))
    return [
        _row(
            f"all-miss, {MISS_CALLERS} × 1",
            f"cache {name}",
            items_per_s,
            p50,
            p99,
            "",
            ratio if name == "disk" else 1.0,
        )
        for name, (items_per_s, p50, p99) in medians.items()
    ]


def hits(items: list[bytes], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row for a server that computes, and for each that has everything."""
    wire = wires.headwater(IMAGES)
    requests = [wire.pack(items[i : i + HIT_ITEMS]) for i in range(0, len(items), HIT_ITEMS)]
    found: dict[str, list[Load]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = load.write_requests(Path(folder) / "requests", requests)
        servers = {"gRPC alone": stack.enter_context(canned())}
        for name, where in (("computed", "off"), ("disk", f"{folder}/cache"), ("memory", "memory")):
            server = stack.enter_context(serving(ensure(IMAGES), "--cache", where))
            servers[name] = server.process.pid, server.target
        for name in ("disk", "memory"):
            _warm(servers[name][1], requests)
        for _ in range(rounds):
            for name, (pid, target) in servers.items():
                job = Job(
                    endpoint=Endpoint(protocol="grpc", target=target, path=PATH),
                    requests=str(path),
                    items=HIT_ITEMS,
                    callers=HIT_CALLERS,
                    min_bytes=REPLY_BYTES,
                    seconds=seconds,
                    pid=pid,
                )
                measured = load.run(job)
                assert not measured.errors, measured.errors
                found.setdefault(name, []).append(measured)
    computed = statistics.median(one.server_cpu_ms for one in found["computed"])
    return [_hit_row(name, turns, computed) for name, turns in found.items()]


def _warm(target: str, requests: list[bytes]) -> None:
    """Ask for everything twice: the second time all is cached."""
    endpoint = Endpoint(protocol="grpc", target=target, path=PATH)
    for request in requests:
        load.ask(endpoint, request)
    for request in requests:
        outcomes = pb.ExtractResponse.FromString(load.ask(endpoint, request)).outcomes
        assert all(outcome.cached for outcome in outcomes)


def _hit_row(name: str, turns: list[Load], computed: float) -> dict[str, Any]:
    rate, p50, p99, cpu = (
        statistics.median(getattr(one, what) for one in turns)
        for what in ("items_per_s", "p50_ms", "p99_ms", "server_cpu_ms")
    )
    what = f"all-hit, {name}" if name in ("disk", "memory") else name
    return _row(f"JPEGs, {HIT_CALLERS} × {HIT_ITEMS}", what, rate, p50, p99, round(cpu, 3), cpu / computed)


def _row(shape: str, what: str, rate: float, p50: float, p99: float, cpu: Any, ratio: float) -> dict[str, Any]:
    return {
        "callers × items": shape,
        "what": what,
        "items/s": round(rate),
        "p50 ms": round(p50, 1),
        "p99 ms": round(p99, 1),
        "server CPU ms an item": cpu,
        "ratio": round(ratio, 3),  # of p99 to that with the cache off; of CPU to that of computing
    }


def profile(items: list[bytes]) -> list[dict[str, Any]]:
    """Return what each stage of an all-hit request of 32 JPEGs costs by itself, in µs of processor time an item.

    The stages go through all requests in turn: more bytes than the processor's own caches hold.
    """
    asked = [items[i : i + HIT_ITEMS] for i in range(0, len(items), HIT_ITEMS)]
    requests = [wires.headwater(IMAGES).pack(some) for some in asked]
    with tempfile.TemporaryDirectory() as folder, Extractor.load(ensure(IMAGES), cache=folder) as extractor:
        cache, spec = extractor.cache, extractor.spec
        assert cache is not None
        extractor.extract(items)
        outcomes = [extractor.extract_each(some) for some in asked]
        assert all(outcome.cached for some in outcomes for outcome in some)
        keys = [[item_key(extractor.fingerprint, item) for item in some] for some in asked]
        stages: dict[str, Callable[[int], object]] = {
            "parse the request": lambda i: [item.data for item in pb.ExtractRequest.FromString(requests[i]).items],
            "hash": lambda i: [item_key(extractor.fingerprint, item) for item in asked[i]],
            "look up": lambda i: cache.get_many(keys[i]),
            "submit (hash, look up, settle)": lambda i: extractor.submit(asked[i]).future.result(),
            "pack the reply": lambda i: convert.from_outcomes(spec, outcomes[i], StageTimes()).SerializeToString(),
        }
        rows = [{"stage": name, "µs an item": round(_cost(stage, len(asked)), 2)} for name, stage in stages.items()]
        profiler = cProfile.Profile()
        profiler.runcall(lambda: [extractor.submit(some).future.result() for some in asked])
    pstats.Stats(profiler).sort_stats("tottime").print_stats(8)
    return rows


def _cost(stage: Callable[[int], object], n_requests: int) -> float:
    begun = time.process_time()
    for _ in range(N_PROFILED):
        for i in range(n_requests):
            stage(i)
    return 1e6 * (time.process_time() - begun) / N_PROFILED / n_requests / HIT_ITEMS


def main() -> None:
    """Measure misses, hits and stages, and write medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a turn")
    parser.add_argument("--quick", action="store_true", help="three rounds of 3 s")
    given = parser.parse_args()
    rounds, seconds = (3, 3.0) if given.quick else (given.rounds, given.seconds)
    items = photos()
    stages = profile(items)
    print(markdown(stages))
    rows = misses(rounds, seconds) + hits(items, rounds, seconds)
    by_stage = ", ".join(f"{row['stage']} {row['µs an item']}" for row in stages)
    note = f"medians of {rounds} rounds of {seconds:g} s in turns; ratio: all-miss p99 to cache off, CPU to computed"
    write_result(Path(__file__), rows, note=f"{note}; µs a hit item: {by_stage}")
    print(markdown(rows))


if __name__ == "__main__":
    main()
