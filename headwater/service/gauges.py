"""What is so at the moment of a scrape: queues, sessions, running calls and the cache, read from the server itself."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from extractor.cache import facts_of
from extractor.pipeline import Extractor

REASON_LENGTH = 200  # of what a library says; it is a label
Family = GaugeMetricFamily | CounterMetricFamily

# Fields of CacheFacts that are numbers.
_CACHE: dict[str, tuple[type[Family], str, str]] = {
    "n_entries": (GaugeMetricFamily, "headwater_cache_entries", "Embeddings that are kept."),
    "n_bytes": (GaugeMetricFamily, "headwater_cache_bytes", "Bytes that they take."),
    "max_bytes": (GaugeMetricFamily, "headwater_cache_max_bytes", "Bound on these bytes."),
    "hits": (CounterMetricFamily, "headwater_cache_hits", "Look-ups that found an embedding."),
    "misses": (CounterMetricFamily, "headwater_cache_misses", "Look-ups that found none."),
    "stored": (CounterMetricFamily, "headwater_cache_stored", "Embeddings that were stored."),
    "spoilt": (CounterMetricFamily, "headwater_cache_spoilt", "Embeddings whose checksum failed; each was a miss."),
    "evicted": (CounterMetricFamily, "headwater_cache_evicted", "Embeddings that made room for others."),
}


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

    def collect(self) -> Iterator[Family]:
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


def _cache(served: Mapping[str, Extractor]) -> Iterator[Family]:
    """Tell how the tiers are; those of one kind, where backbones have caches of their own, together."""
    tiers = facts_of(one.cache for one in served.values())
    for field, (kind, name, what) in _CACHE.items():
        values = [((one.tier,), getattr(one, field)) for one in tiers]
        yield _summed(kind(name, what, labels=["tier"]), [one for one in values if one[1] is not None])
    yield _summed(
        CounterMetricFamily(
            "headwater_cache_dropped", "Embeddings that were not stored, by reason.", labels=["tier", "reason"]
        ),
        [((one.tier, reason), number) for one in tiers for reason, number in one.dropped.items()],
    )
    degraded = {one.tier: False for one in tiers} | {one.tier: True for one in tiers if one.degraded}
    yield _summed(
        GaugeMetricFamily("headwater_cache_degraded", "1: the tier does not work as it should.", labels=["tier"]),
        [((tier,), float(is_so)) for tier, is_so in degraded.items()],
    )
    yield _summed(
        GaugeMetricFamily("headwater_cache_degraded_info", "1 for each reason.", labels=["tier", "reason"]),
        [((one.tier, one.degraded[:REASON_LENGTH]), 1.0) for one in tiers if one.degraded],
    )


def _summed(family: Family, values: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for labels, value in values:
        sums[labels] += value
    for labels, value in sums.items():
        family.add_metric(labels, value)
    return family


def _info(served: Mapping[str, Extractor]) -> GaugeMetricFamily:
    labels = ["backbone", "fingerprint", "precision", "provider"]
    info = GaugeMetricFamily("headwater_backbone_info", "1 for each backbone that is served.", labels=labels)
    for name, extractor in served.items():
        info.add_metric([name, extractor.fingerprint, extractor.spec.precision, extractor.backbone.provider], 1.0)
    return info
