"""What is so at the moment of a scrape: queues, sessions, running calls and the cache, read from the server itself."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from extractor.cache.memory import MemoryCache
from extractor.pipeline import Extractor


class Gauges(Collector):
    """Reads the gauges of one server, in the thread of whoever scrapes.

    Parameters
    ----------
    served : callable
        What is served now: a mapping of str to Extractor that nobody changes any more.
    serves : callable
        Whether the backbone of a name passed its last forward.
    running : callable
        How many calls run.
    """

    def __init__(
        self, served: Callable[[], Mapping[str, Extractor]], serves: Callable[[str], bool], running: Callable[[], int]
    ) -> None:
        self._served = served
        self._serves = serves
        self._running = running

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read them all."""
        served = self._served()
        yield GaugeMetricFamily("headwater_running_calls", "Calls that run.", self._running())
        yield from _queues(served)
        yield from _cache(served)
        serving = GaugeMetricFamily("headwater_backbone_serving", "1: its last forward was right.", labels=["backbone"])
        for name in served:
            serving.add_metric([name], float(self._serves(name)))
        yield serving
        yield _info(served)


def _queues(served: Mapping[str, Extractor]) -> Iterator[GaugeMetricFamily]:
    items = GaugeMetricFamily("headwater_queue_items", "Items that wait.", labels=["backbone"])
    n_bytes = GaugeMetricFamily("headwater_queue_bytes", "Bytes of the items that wait.", labels=["backbone"])
    oldest = GaugeMetricFamily("headwater_queue_oldest_seconds", "How long the oldest waits.", labels=["backbone"])
    for name, extractor in served.items():
        queue = extractor.queue()
        items.add_metric([name], queue.n_items)
        n_bytes.add_metric([name], queue.n_bytes)
        oldest.add_metric([name], queue.oldest_s)
    yield from (items, n_bytes, oldest)


def _cache(served: Mapping[str, Extractor]) -> Iterator[GaugeMetricFamily]:
    caches = {id(one.cache): one.cache for one in served.values() if isinstance(one.cache, MemoryCache)}
    if caches:  # several backbones share one
        n_entries, n_bytes = (sum(map(size, caches.values())) for size in (len, lambda cache: cache.n_bytes))
        yield GaugeMetricFamily("headwater_cache_entries", "Embeddings in memory.", n_entries)
        yield GaugeMetricFamily("headwater_cache_bytes", "Bytes of the embeddings in memory.", n_bytes)


def _info(served: Mapping[str, Extractor]) -> GaugeMetricFamily:
    labels = ["backbone", "fingerprint", "precision", "provider"]
    info = GaugeMetricFamily("headwater_backbone_info", "1 for each backbone that is served.", labels=labels)
    for name, extractor in served.items():
        info.add_metric([name, extractor.fingerprint, extractor.spec.precision, extractor.backbone.provider], 1.0)
    return info
