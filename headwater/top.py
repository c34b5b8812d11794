"""Two scrapes of a server's metrics -> what it did between them: rates, shares and quantiles, a row a backbone."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """What a server told at one moment.

    Parameters
    ----------
    at_s : float
        On any clock that only goes forward.
    samples : mapping of str to mapping of frozenset to float
        Values by the name of the metric and its labels.
    """

    at_s: float
    samples: Mapping[str, Mapping[Labels, float]]


@dataclass(frozen=True)
class MethodRow:
    """One method between two scrapes; times in seconds, None where no call ended."""

    method: str
    calls_per_s: float
    failed_per_s: float
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True)
class BackboneRow:
    """One backbone between two scrapes; shares are 0 to 1, None where there is nothing to share."""

    backbone: str
    serving: bool
    items_per_s: float
    cached_share: float | None
    errors_per_s: float
    queue_items: int
    queue_oldest_s: float
    batch_mean: float | None
    padding_share: float | None


@dataclass(frozen=True)
class CacheRow:
    """One tier of the cache between two scrapes; None where it does not tell, or where there is nothing to share."""

    tier: str
    degraded: str  # why; "" where it works
    entries: int | None
    n_bytes: float | None
    max_bytes: float | None
    look_ups_per_s: float
    hit_share: float | None
    dropped_per_s: float


@dataclass(frozen=True)
class ServerFacts:
    """The whole server at the later scrape."""

    running_calls: int
    memory_bytes: float


def parse(text: str, at_s: float) -> Scrape:
    """Return the samples of Prometheus' text format; raises ValueError for anything else."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, dict[Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name][frozenset(sample.labels.items())] = sample.value
    return Scrape(at_s, samples)


def server_facts(now: Scrape) -> ServerFacts:
    """Return the facts of the whole server."""
    return ServerFacts(
        running_calls=int(_now(now, "headwater_running_calls")),
        memory_bytes=_now(now, "process_resident_memory_bytes"),
    )


def method_rows(before: Scrape, after: Scrape) -> list[MethodRow]:
    """Return a row for each method that was ever called, by name."""
    return [
        _method_row(before, after, method) for method in sorted(_values(after, "headwater_requests_total", "method"))
    ]


def backbone_rows(before: Scrape, after: Scrape) -> list[BackboneRow]:
    """Return a row for each backbone that is served, by name."""
    names = sorted(_values(after, "headwater_backbone_serving", "backbone"))
    return [_backbone_row(before, after, name) for name in names]


def cache_rows(before: Scrape, after: Scrape) -> list[CacheRow]:
    """Return a row for each tier of the cache, by name."""
    tiers = sorted(_values(after, "headwater_cache_degraded", "tier"))
    return [_cache_row(before, after, tier) for tier in tiers]


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return the value below which a share of what a histogram counted lies, linear within its bucket.

    Parameters
    ----------
    share : float
        0.99 for the 99th percentile.
    buckets : mapping of float to float
        How many were counted at or below each bound, `inf` among the bounds.

    Returns
    -------
    float or None
        None where nothing was counted; the last finite bound where it lies beyond.
    """
    bounds = [(0.0, 0.0), *sorted(buckets.items())]
    rank = share * bounds[-1][1]
    if rank <= 0:
        return None
    for (low, below), (high, upto) in pairwise(bounds):
        if upto >= rank:
            return low if high == float("inf") else low + (high - low) * (rank - below) / (upto - below)
    return None


def _method_row(before: Scrape, after: Scrape, method: str) -> MethodRow:
    seconds = _seconds(before, after)
    ended = _growth(before, after, "headwater_requests_total", method=method)
    well = _growth(before, after, "headwater_requests_total", method=method, code="OK")
    buckets = _buckets(before, after, "headwater_request_seconds", method=method)
    p50_s, p99_s = quantile(0.5, buckets), quantile(0.99, buckets)
    return MethodRow(method, ended / seconds, (ended - well) / seconds, p50_s, p99_s)


def _backbone_row(before: Scrape, after: Scrape, name: str) -> BackboneRow:
    def grown(metric: str, **labels: str) -> float:
        return _growth(before, after, metric, backbone=name, **labels)

    seconds = _seconds(before, after)
    items, cost, padding = (
        grown("headwater_items_total"),
        grown("headwater_batch_cost_sum"),
        grown("headwater_batch_padding_total"),
    )
    return BackboneRow(
        backbone=name,
        serving=_now(after, "headwater_backbone_serving", backbone=name) == 1,
        items_per_s=items / seconds,
        cached_share=_share(grown("headwater_items_total", outcome="cached"), items),
        errors_per_s=grown("headwater_items_total", outcome="error") / seconds,
        queue_items=int(_now(after, "headwater_queue_items", backbone=name)),
        queue_oldest_s=_now(after, "headwater_queue_oldest_seconds", backbone=name),
        batch_mean=_share(grown("headwater_batch_size_sum"), grown("headwater_batch_size_count")),
        padding_share=_share(padding, cost + padding),
    )


def _cache_row(before: Scrape, after: Scrape, tier: str) -> CacheRow:
    def grown(metric: str) -> float:
        return _growth(before, after, metric, tier=tier)

    def told(metric: str) -> float | None:
        return after.samples.get(metric, {}).get(frozenset({("tier", tier)}))

    seconds = _seconds(before, after)
    hits, misses = grown("headwater_cache_hits_total"), grown("headwater_cache_misses_total")
    entries = told("headwater_cache_entries")
    reasons = (dict(labels) for labels in after.samples.get("headwater_cache_degraded_info", {}))
    degraded = "; ".join(labels["reason"] for labels in reasons if labels["tier"] == tier)
    return CacheRow(
        tier=tier,
        degraded=degraded,
        entries=None if entries is None else int(entries),
        n_bytes=told("headwater_cache_bytes"),
        max_bytes=told("headwater_cache_max_bytes"),
        look_ups_per_s=(hits + misses) / seconds,
        hit_share=_share(hits, hits + misses),
        dropped_per_s=grown("headwater_cache_dropped_total") / seconds,
    )


def _seconds(before: Scrape, after: Scrape) -> float:
    return max(after.at_s - before.at_s, 1e-9)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _values(scrape: Scrape, metric: str, label: str) -> set[str]:
    return {dict(labels)[label] for labels in scrape.samples.get(metric, {})}


def _now(scrape: Scrape, metric: str, **labels: str) -> float:
    return scrape.samples.get(metric, {}).get(frozenset(labels.items()), 0.0)


def _growth(before: Scrape, after: Scrape, metric: str, **labels: str) -> float:
    """Return by how much the samples that have these labels grew, summed."""
    return sum(grown for _, grown in _grown(before, after, metric, **labels))


def _buckets(before: Scrape, after: Scrape, metric: str, **labels: str) -> dict[float, float]:
    buckets: dict[float, float] = defaultdict(float)
    for having, grown in _grown(before, after, f"{metric}_bucket", **labels):
        buckets[float(having["le"])] += grown
    return buckets


def _grown(before: Scrape, after: Scrape, metric: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
    earlier = before.samples.get(metric, {})
    for having, value in after.samples.get(metric, {}).items():
        if frozenset(labels.items()) <= having:
            since = earlier.get(having, 0.0)
            yield dict(having), value - since if value >= since else value  # less: the server began anew
