"""A bounded queue of items, drained by worker threads: each prepares what it takes, batches it and runs the forward.

Decode and inference are fused in the worker: on a CPU that is the fastest executor for an image backbone, and the
workers' threads keep every core busy. A worker takes what is queued when it frees; nothing waits for a batch to fill.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.errors import Closed, ExtractorError, InferenceFailed, QueueFull, RequestTooLarge
from extractor.outcome import Embedded, Embedding

log = logging.getLogger(__name__)

SMOOTHING = 0.1  # weight of the newest batch in the measured speed
MIN_RETRY_MS = 20


@dataclass(eq=False)
class Job:
    """One item on its way: its bytes, and the future that its callers wait for."""

    item: bytes
    future: "Future[Embedded]" = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _Ready:
    job: Job
    array: NDArray[Any]
    truncated: bool


class Batcher:
    """Runs `prepare` and `forward` for many callers.

    Parameters
    ----------
    prepare : callable
        One item's bytes -> (array, truncated); raises an ItemError for a bad item.
    forward : callable
        A list of n arrays -> (n, dim) float32.
    workers : int
        Threads, each with one batch in hand.
    max_batch_size : int
        Items in one forward.
    window : int
        Items that a worker takes at once, to be sorted by length and cut into batches.
    max_queue_size, max_queue_bytes : int
        Bounds on what waits.
    """

    def __init__(
        self,
        prepare: Callable[[bytes], tuple[NDArray[Any], bool]],
        forward: Callable[[Sequence[NDArray[Any]]], Embedding],
        *,
        workers: int,
        max_batch_size: int,
        window: int,
        max_queue_size: int,
        max_queue_bytes: int,
    ) -> None:
        self._prepare = prepare
        self._forward = forward
        self.workers = workers
        self.max_batch_size = max_batch_size
        self.window = window
        self.max_queue_size = max_queue_size
        self.max_queue_bytes = max_queue_bytes
        self._queue: deque[Job] = deque()
        self._s_per_item = 0.0  # of one worker, smoothed; 0 before the first
        self._queued_bytes = 0
        self._closed = False
        self._changed = Condition()
        self._threads: list[Thread] = []
        self.on_failure: Callable[[], object] | None = None  # called when the forward has failed on a single item

    def start(self, name: str) -> None:
        """Start the worker threads, named after the backbone."""
        self._threads = [Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(self.workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, all of them or none.

        Raises
        ------
        QueueFull
            They would exceed a bound of the queue now.
        RequestTooLarge
            They exceed a bound of the queue by themselves.
        Closed
            The batcher is stopping.
        """
        n_bytes = sum(len(job.item) for job in jobs)
        with self._changed:
            if self._closed:
                raise Closed("the backbone is stopping; ask another server, or this one once it is back")
            self._check_room("items", len(self._queue), len(jobs), self.max_queue_size)
            self._check_room("bytes", self._queued_bytes, n_bytes, self.max_queue_bytes)
            self._queue.extend(jobs)
            self._queued_bytes += n_bytes
            self._changed.notify(len(jobs))

    def close(self, timeout_s: float | None = None) -> None:
        """Refuse new jobs, fail those that wait with Closed, finish those in hand, and end the threads.

        Parameters
        ----------
        timeout_s : float, optional
            For what is in hand; a thread that hangs longer is left behind, and ends with the process.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._closed = True
            waiting = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            self._changed.notify_all()
        for job in waiting:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(Closed("the server stopped before it came to this item; send it again"))
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            log.warning("a batch in hand did not end within %g s; its thread is left behind", timeout_s)

    def _check_room(self, unit: str, queued: int, more: int, limit: int) -> None:
        if more > limit:
            raise RequestTooLarge(f"request has {more:,} {unit}, the queue holds at most {limit:,}; send fewer at once")
        if queued + more > limit:
            raise QueueFull(
                f"queue holds {queued:,} {unit}, {more:,} more would pass its limit of {limit:,}; "
                "wait and send again, or send fewer at once",
                retry_after_ms=max(MIN_RETRY_MS, round(1000 * len(self._queue) * self._s_per_item / self.workers)),
            )

    def _work(self) -> None:
        while jobs := self._take():
            begun = time.monotonic()
            ready = [one for one in map(self._prepared, jobs) if one is not None]
            for batch in self._batches(ready):
                self._run(batch)
            self._measure((time.monotonic() - begun) / len(jobs))
            del jobs, ready  # a waiting worker holds no item

    def _measure(self, s_per_item: float) -> None:
        with self._changed:
            first = self._s_per_item == 0
            self._s_per_item = s_per_item if first else (1 - SMOOTHING) * self._s_per_item + SMOOTHING * s_per_item

    def _take(self) -> list[Job]:
        """Wait for jobs and take this worker's share of them, at most a window; empty when closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            share = -(-len(self._queue) // self.workers)
            jobs = [self._queue.popleft() for _ in range(min(share, self.window))]
            self._queued_bytes -= sum(len(job.item) for job in jobs)
            return jobs

    def _prepared(self, job: Job) -> _Ready | None:
        """Prepare one job; None when its callers have left, or when it failed and its future says so."""
        if not job.future.set_running_or_notify_cancel():
            return None
        item, job.item = job.item, b""  # who still holds the future need not hold the item
        try:
            array, truncated = self._prepare(item)
        except ExtractorError as error:
            job.future.set_exception(error)
        except Exception:
            log.exception("preparing an item of %d bytes failed", len(item))
            job.future.set_exception(InferenceFailed("the item could not be prepared; the server's log says why"))
        else:
            return _Ready(job, array, truncated)
        return None

    def _batches(self, ready: list[_Ready]) -> Iterator[list[_Ready]]:
        """Cut a window into batches of like length, so that little padding is computed."""
        ready.sort(key=lambda one: len(one.array))
        for start in range(0, len(ready), self.max_batch_size):
            yield ready[start : start + self.max_batch_size]

    def _run(self, batch: list[_Ready]) -> None:
        """Run one batch; one that fails is halved until only the culprit fails."""
        try:
            rows = self._forward([one.array for one in batch])
        except Exception:
            if len(batch) == 1:
                log.exception("the session failed on one item")
                batch[0].job.future.set_exception(
                    InferenceFailed("the session failed on this item; the server's log says why")
                )
                if self.on_failure is not None:
                    self.on_failure()
                return
            middle = len(batch) // 2
            self._run(batch[:middle])
            self._run(batch[middle:])
        else:
            for one, row in zip(batch, rows, strict=True):
                _deliver(one, row)


def _deliver(one: _Ready, row: Embedding) -> None:
    if not np.isfinite(row).all():
        one.job.future.set_exception(InferenceFailed("the backbone gave NaN or infinity for this item"))
        return
    embedding = row.copy()  # a view would keep the whole batch alive
    embedding.flags.writeable = False
    one.job.future.set_result(Embedded(embedding, one.truncated))
