"""How much of what the processor can do reaches a caller? JPEG photos -> EfficientNet-Lite0, interleaved in one run.

The limit is decode + session in this process, one thread a core, no queue, no server. Beside it the in-process
`Extractor`, the service with its cache off at several items a request, and the service answering from its cache.
Run: python benchmarks/bench_server.py [--rounds 3]
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from backbone import ensure
from PIL import Image
from record import write_result
from sklearn.datasets import load_sample_images

from extractor import Extractor
from extractor.backbone import Backbone
from extractor.prepare import load_prepare
from extractor.shelf import find_backbone
from extractor.spec import read_spec
from headwater import Client
from headwater.process import ServerProcess, serving

BACKBONE = "efficientnet-lite0"
N_PHOTOS = 512
CALLERS = 32
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Measure = Callable[[list[bytes]], float]  # photos -> CPU seconds of the side that computes


def photos() -> list[bytes]:
    """Return different JPEGs of 500 × 375 pixels, cut from scikit-learn's two photographs."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    made = []
    for i in range(N_PHOTOS):
        source = sources[i % 2]
        left, top = rng.integers(0, source.width - 400), rng.integers(0, source.height - 300)
        buffer = io.BytesIO()
        source.crop((left, top, left + 400, top + 300)).resize((500, 375)).save(buffer, "JPEG", quality=88)
        made.append(buffer.getvalue())
    return made


def limit(cores: int) -> Measure:
    """Decode and infer in a thread a core, each photo by itself, with nothing between."""
    folder = find_backbone(BACKBONE)
    spec = read_spec(folder)
    prepare, backbone = load_prepare(spec, folder), Backbone.load(folder, spec)

    def measure(items: list[bytes]) -> float:
        begun = time.process_time()
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(lambda item: backbone.forward([prepare(item).array]), items))
        return time.process_time() - begun

    return measure


def in_process(extractor: Extractor) -> Measure:
    """`Extractor.extract` in this process."""

    def measure(items: list[bytes]) -> float:
        begun = time.process_time()
        extractor.extract(items)
        return time.process_time() - begun

    return measure


def service(server: ServerProcess, items_per_request: int) -> Measure:
    """Several callers at once, each sending one request after the other; CPU seconds are the server's."""

    def measure(items: list[bytes]) -> float:
        requests = [items[i : i + items_per_request] for i in range(0, len(items), items_per_request)]
        begun = cpu_seconds(server.process.pid)
        with Client(server.target) as client, ThreadPoolExecutor(min(CALLERS, len(requests))) as pool:
            list(pool.map(client.extract, requests))
        return cpu_seconds(server.process.pid) - begun

    return measure


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def contenders(cores: int) -> Iterator[dict[str, Measure]]:
    """Open everything that is compared."""
    with (
        Extractor.load(BACKBONE, workers=cores) as extractor,
        serving(BACKBONE, "--cache-mib", "0") as uncached,
        serving(BACKBONE) as cached,
    ):
        yield {
            "limit: decode + session": limit(cores),
            "in process": in_process(extractor),
            "service, 1 photo a request": service(uncached, 1),
            "service, 32 photos a request": service(uncached, 32),
            "service, 32 a request, from the cache": service(cached, 32),
        }


def main() -> None:
    """Measure in rounds, every contender once a round, and write medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ensure(BACKBONE)
    items, cores = photos(), os.cpu_count() or 1
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    with contenders(cores) as measures:
        for measure in measures.values():
            measure(items)  # warm up, and fill the cache of the one that has one
        for _ in range(rounds):
            for name, measure in measures.items():
                begun = time.perf_counter()
                cpu.setdefault(name, []).append(measure(items))
                seconds.setdefault(name, []).append(time.perf_counter() - begun)
    top = statistics.median(seconds["limit: decode + session"])
    rows = [
        {
            "what": name,
            "items_per_s": round(len(items) / statistics.median(seconds[name]), 1),
            "share_of_limit": round(top / statistics.median(seconds[name]), 3),
            "cpu_ms_per_item": round(1000 * statistics.median(cpu[name]) / len(items), 3),
        }
        for name in measures
    ]
    write_result(
        Path(__file__), rows, note=f"{len(items)} JPEGs of 500x375, {CALLERS} callers, {rounds} rounds, medians"
    )


if __name__ == "__main__":
    main()
