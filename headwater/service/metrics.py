"""What a server counts: calls, items and batches -> Prometheus metrics in a registry of its own.

Labels are bounded: methods, codes, reasons and stages come from fixed tables, and a backbone is one that is served,
never a name that a caller sent.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector

from extractor.errors import (
    Cancelled,
    Closed,
    DeadlinePassed,
    ExtractorError,
    InferenceFailed,
    ItemError,
    NotServing,
    QueueFull,
)
from extractor.outcome import Outcome
from extractor.stages import BatchFacts, StageTimes
from headwater import status
from headwater.errors import CallRefused
from headwater.service.methods import SERVICE_OF

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STAGE_SECONDS = (0.0001, 0.0002, 0.0005, *SECONDS)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
COSTS = (1, 4, 16, 64, 256, 1024, 4096, 16384)  # images, or tokens
JOB_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
STAGES = ("queue", "decode", "inference", "cache")

# The stage at which an error of a class, or of its nearest ancestor here, ends an item or a call.
_STAGE_OF: dict[type, str] = {
    CallRefused: "door",
    ItemError: "decode",
    InferenceFailed: "inference",
    NotServing: "inference",
    QueueFull: "queue",
    DeadlinePassed: "queue",
    Cancelled: "queue",
    Closed: "queue",
    Exception: "request",  # all that is found out before an item is queued
}


def stage_of(error: Exception) -> str:
    """Return the stage at which an error arose: door, request, queue, decode or inference."""
    return next(_STAGE_OF[kind] for kind in type(error).__mro__ if kind in _STAGE_OF)


class Metrics:
    """The counters and histograms of one server; several servers may live in one process.

    Attributes
    ----------
    registry : CollectorRegistry
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = self._counter("requests", "Calls that have ended.", "method", "code")
        self._request_errors = self._counter(
            "request_errors",
            "Calls that an error ended, by its class and the stage where it arose.",
            *("method", "code", "reason", "stage"),
        )
        self._request_seconds = self._histogram(
            "request_seconds", "From a call's acceptance to its end.", SECONDS, "method"
        )
        self._items = self._counter(
            "items", "Items answered: computed, cached, or with an error.", "backbone", "outcome"
        )
        self._item_errors = self._counter(
            "item_errors",
            "Items answered with an error, by its class and the stage where it arose.",
            *("backbone", "code", "reason", "stage"),
        )
        self._stage_seconds = self._histogram(
            "stage_seconds",
            "Of one request: its longest wait in the queue; decoding and inference, summed over its items; the cache.",
            STAGE_SECONDS,
            *("backbone", "stage"),
        )
        self._batch_size = self._histogram("batch_size", "Items in one forward.", BATCH_SIZES, "backbone")
        self._batch_cost = self._histogram(
            "batch_cost", "Images or tokens in one forward, without padding.", COSTS, "backbone"
        )
        self._batch_padding = self._counter(
            "batch_padding",
            "What was padded, in images or tokens; the waste is padding / (padding + headwater_batch_cost_sum).",
            "backbone",
        )
        self._predictions = self._counter(
            "predictions", "Items that a head was asked about: known, unknown, or with an error.", "head", "outcome"
        )
        # Not by task: there may be thousands, and a series of one that is deleted stays.
        self._classifications = self._counter(
            "classifications",
            "Items that a few-shot task was asked about: known, unknown, or with an error.",
            "outcome",
        )
        self._jobs = self._counter("jobs", "Training jobs that have ended.", "state")
        self._job_seconds = self._histogram(
            "job_seconds", "From the order of a training job to its end.", JOB_SECONDS, "state"
        )

    def predicted(self, head: str, outcomes: Mapping[str, int]) -> None:
        """Count the predictions of a request, `known`, `unknown` or `error`."""
        for outcome, number in outcomes.items():
            self._predictions(head, outcome).inc(number)

    def classified(self, outcomes: Mapping[str, int]) -> None:
        """Count the classifications of a request, `known`, `unknown` or `error`."""
        for outcome, number in outcomes.items():
            self._classifications(outcome).inc(number)

    def job_ended(self, state: str, seconds: float) -> None:
        """Count a training job that has ended."""
        self._jobs(state).inc()
        self._job_seconds(state).observe(seconds)

    def ended(self, method: str, code: grpc.StatusCode, error: Exception | None, seconds: float) -> None:
        """Count a call; a method that nobody serves is `unknown`, whatever its caller named it."""
        method = method if method in SERVICE_OF else "unknown"
        self._requests(method, code.name).inc()
        self._request_seconds(method).observe(seconds)
        if error is not None:
            self._request_errors(method, code.name, type(error).__name__, stage_of(error)).inc()

    def extracted(self, backbone: str, outcomes: Sequence[Outcome], times: StageTimes) -> None:
        """Count the items of a request, and observe where its time went."""
        for kind, number in Tally(map(_kind_of, outcomes)).items():
            self._items(backbone, kind).inc(number)
        self._count_errors(backbone, (outcome.error for outcome in outcomes if outcome.error is not None))
        for stage in STAGES:
            self._stage_seconds(backbone, stage).observe(getattr(times, f"{stage}_ms") / 1000)

    def batch(self, backbone: str, facts: BatchFacts) -> None:
        """Observe one forward; called in workers' threads."""
        self._batch_padding(backbone).inc(facts.padded_cost - facts.cost)
        self._batch_cost(backbone).observe(facts.cost)
        self._batch_size(backbone).observe(facts.n_items)

    # `cache` in front of `labels` takes a third off what a call costs, and is bounded as the labels are.

    def _counter(self, name: str, what: str, *labels: str) -> Callable[..., Counter]:
        return cache(Counter(f"headwater_{name}_total", what, labels, registry=self.registry).labels)

    def _histogram(self, name: str, what: str, buckets: Sequence[float], *labels: str) -> Callable[..., Histogram]:
        return cache(Histogram(f"headwater_{name}", what, labels, buckets=buckets, registry=self.registry).labels)

    def _count_errors(self, backbone: str, errors: Iterable[ExtractorError]) -> None:
        for error in errors:
            code, reason = status.code_of(error).name, status.reason_of(error)
            self._item_errors(backbone, code, reason, stage_of(error)).inc()


def _kind_of(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "error"
    return "cached" if outcome.cached else "computed"
