"""A bounded queue of items, drained by worker threads: items are prepared, batched by length, and run.

One executor for all shapes. Workers take what is queued when they free; with `decode_threads=0` they prepare it
themselves (decode and inference fused: best for images on a CPU), else a pool prepares ahead of them (best for a GPU).
Callers take turns by their weights; within what is prepared, the oldest item picks the batch and those nearest to it
in length fill it. Who has left is dropped before anything is paid for it. Nothing waits for a batch to fill, unless
`max_queue_delay_ms` says so.
"""

import logging
import random
import time
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Lock, Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extractor.batches import Budget, run_around
from extractor.caller import ANYONE
from extractor.errors import (
    Closed,
    DeadlinePassed,
    DeadlineTooShort,
    ExtractorError,
    InferenceFailed,
    NotServing,
    QueueFull,
    RequestTooLarge,
)
from extractor.fair import FairQueue, Held
from extractor.job import Job
from extractor.outcome import Embedded, Embedding
from extractor.speed import Speed
from extractor.stages import BatchFacts

log = logging.getLogger(__name__)

MIN_RETRY_MS = 20
FREE_SHARE = 4  # one caller may hold up to so many times what is free: it alone can fill four fifths of the queue
LOOKS_A_LIMIT = 4  # how often within `max_forward_s` the watch looks


class Bounds(NamedTuple):
    """What may wait and run.

    Parameters
    ----------
    max_items, max_bytes : int
        In the queue.
    max_forward_s : float
        A forward that takes longer hangs.
    """

    max_items: int
    max_bytes: int
    max_forward_s: float


@dataclass(frozen=True)
class QueueFacts:
    """What waits: items, their bytes, and how long the oldest has waited, in seconds."""

    n_items: int
    n_bytes: int
    oldest_s: float


@dataclass(frozen=True, eq=False)
class _Ready:
    """An item prepared, and what it costs in a forward: 1, or its length."""

    job: Job
    array: NDArray[Any]
    truncated: bool
    cost: int
    order: int


@dataclass(eq=False)
class _InHand:
    """A batch in its forward, since when, and whether its callers were told that it hangs."""

    batch: list[_Ready]
    since: float
    given_up: bool = False


class Batcher:
    """Runs `prepare` and `forward` for many callers.

    Parameters
    ----------
    prepare : callable
        One item's bytes -> (array, truncated); raises an ItemError for a bad item.
    forward : callable
        A list of n arrays -> (n, dim) float32.
    cost_of : callable
        An array -> what it costs in a forward: its tokens, samples or values where items vary in length, else 1.
    workers : int
        Threads, each with one batch in hand.
    decode_threads : int
        Threads that prepare items for the workers; 0 lets the workers prepare their own.
    budget : Budget
        Of one forward.
    window : int
        Items that are prepared ahead, for a batch to be chosen from.
    max_queue_delay_ms : float
        How long an item may wait for others to fill its batch.
    bounds : Bounds
    """

    def __init__(
        self,
        prepare: Callable[[bytes], tuple[NDArray[Any], bool]],
        forward: Callable[[Sequence[NDArray[Any]]], Embedding],
        *,
        cost_of: Callable[[NDArray[Any]], int],
        workers: int,
        decode_threads: int = 0,
        budget: Budget,
        window: int,
        max_queue_delay_ms: float = 0.0,
        bounds: Bounds,
    ) -> None:
        self._prepare = prepare
        self._forward = forward
        self._cost_of = cost_of
        self.workers = workers
        self.decode_threads = decode_threads
        self.budget = budget
        self.window = max(window, budget.max_size)
        self.max_queue_delay_s = max_queue_delay_ms / 1000
        self.bounds = bounds
        self.on_failure: Callable[[], object] | None = None  # called when the forward has failed on a single item
        self.on_batch: Callable[[BatchFacts], object] | None = None  # called after each forward
        self._queue = FairQueue()
        self._ready: list[_Ready] = []  # by cost
        self._preparing = 0  # items on their way from the one to the other
        self._in_hand: set[_InHand] = set()
        self._orders = 0
        self._speed = Speed()
        self._closed = False
        self._lock = Lock()
        self._queued = Condition(self._lock)  # for those who prepare
        self._prepared = Condition(self._lock)  # for workers beside a pool
        self._ended = Condition(self._lock)  # for the watch
        self._threads: list[Thread] = []

    def start(self, name: str) -> None:
        """Start the threads, named after the backbone."""
        work = [(self._work, f"{name}-{i}") for i in range(self.workers)]
        decode = [(self._decode, f"{name}-decode-{i}") for i in range(self.decode_threads)]
        threads = [*work, *decode, (self._watch, f"{name}-watch")]
        self._threads = [Thread(target=target, name=label, daemon=True) for target, label in threads]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue one caller's jobs, all of them or none.

        Raises
        ------
        QueueFull
            They would exceed a bound of the queue now, or the share of it that one caller may hold.
        DeadlineTooShort
            With what waits before them they would not be done by their deadline.
        RequestTooLarge
            They exceed a bound of the queue by themselves.
        NotServing
            Every worker's forward hangs.
        Closed
            The batcher is stopping.
        """
        with self._lock:
            if self._closed:
                raise Closed("the backbone is stopping; ask another server, or this one once it is back")
            if not jobs:
                return
            if self._all_hang():
                raise self._hanging()
            self._check_room(jobs)
            self._check_deadline(jobs)
            for job in jobs:
                self._queue.push(job)
            self._queued.notify(len(jobs))

    def discard(self, jobs: Sequence[Job]) -> None:
        """Take jobs out of the queue whose callers have left."""
        with self._lock:
            for job in jobs:
                self._queue.discard(job)

    def queue(self) -> QueueFacts:
        """Return what waits now."""
        with self._lock:
            oldest = self._queue.oldest
            waited_s = 0.0 if oldest is None else time.monotonic() - oldest
            return QueueFacts(self._queue.n_items, self._queue.n_bytes, waited_s)

    def longest_forward_s(self) -> float:
        """Return how long the oldest forward has run that has not returned; 0 without one."""
        with self._lock:
            now = time.monotonic()
            return now - min((one.since for one in self._in_hand), default=now)

    def close(self, timeout_s: float | None = None) -> None:
        """Refuse new jobs, fail those that wait with Closed, finish those in hand, and end the threads.

        Parameters
        ----------
        timeout_s : float, optional
            For what is in hand; a thread that hangs longer is left behind, and ends with the process.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            waiting = self._empty()
            for condition in (self._queued, self._prepared, self._ended):
                condition.notify_all()
        _fail(waiting, Closed("the server stopped before it came to this item; send it again"))
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            log.warning("a batch in hand did not end within %g s; its thread is left behind", timeout_s)

    # -- arrival: what may come in; the lock is held

    def _check_room(self, jobs: Sequence[Job]) -> None:
        held = self._queue.held_by(jobs[0].caller)
        if jobs[0].caller == ANYONE or not self._queue:  # nobody else to leave room for, or nobody has come yet
            held = Held()
        n_bytes = sum(len(job.item) for job in jobs)
        self._check_bound("items", self._queue.n_items, held.n_items, len(jobs), self.bounds.max_items)
        self._check_bound("bytes", self._queue.n_bytes, held.n_bytes, n_bytes, self.bounds.max_bytes)

    def _check_bound(self, unit: str, queued: int, held: int, more: int, limit: int) -> None:
        if more > limit:
            raise RequestTooLarge(f"request has {more:,} {unit}, the queue holds at most {limit:,}; send fewer at once")
        free = limit - queued - more
        if free < 0:
            raise QueueFull(
                f"queue holds {queued:,} {unit}, {more:,} more would pass its limit of {limit:,}; "
                "wait and send again, or send fewer at once",
                retry_after_ms=self._retry_after_ms(),
            )
        if held and held + more > FREE_SHARE * (free + 1):
            raise QueueFull(
                f"{held:,} {unit} of yours wait already, {more:,} more would leave {free:,} of {limit:,} to others; "
                "wait and send again, or send fewer at once",
                retry_after_ms=self._retry_after_ms(),
            )

    def _retry_after_ms(self) -> int:
        """Return when the queue should be worked off, give or take a half: not all shall come back at once."""
        wait_s = self._speed.seconds_for(self._queue.cost, self.workers)
        return max(MIN_RETRY_MS, round(1000 * wait_s * random.uniform(0.5, 1.5)))  # noqa: S311  # no secret

    def _check_deadline(self, jobs: Sequence[Job]) -> None:
        if not self._queue:  # it begins at once: let it try, and measure
            return
        ahead = self._queue.before(jobs[0].caller, sum(job.cost for job in jobs))
        wait_s = self._speed.seconds_for(ahead, self.workers)
        left_s = max(job.deadline for job in jobs) - time.monotonic()
        if wait_s > left_s:
            raise DeadlineTooShort(
                f"with what waits it would take about {1000 * wait_s:,.0f} ms, the deadline leaves "
                f"{max(0.0, 1000 * left_s):,.0f} ms; send it with more time, or later",
                retry_after_ms=max(MIN_RETRY_MS, round(1000 * wait_s)),
            )

    def _empty(self) -> list[Job]:
        waiting = [self._queue.pop() for _ in range(len(self._queue))]
        waiting.extend(one.job for one in self._ready)
        self._ready.clear()
        return waiting

    # -- threads

    def _work(self) -> None:
        ended = time.monotonic()
        while batch := self._next_batch():
            begun = max(ended, min(one.job.queued_at for one in batch))  # idle time is nobody's
            cost = sum(one.job.cost for one in batch)
            self._run(batch)
            ended = time.monotonic()
            with self._lock:
                self._speed.measure(cost, ended - begun)
            del batch  # a waiting worker holds no item

    def _decode(self) -> None:
        while jobs := self._take(1, fed=lambda: bool(self._queue) and self._room() > 0):
            self._prepare_all(jobs)

    def _watch(self) -> None:
        """Tell the callers of a forward that hangs, and all others when no worker is left."""
        while True:
            with self._lock:
                if self._closed:
                    return
                self._ended.wait(self.bounds.max_forward_s / LOOKS_A_LIMIT)
                hanging = self._give_up()
                waiting = self._empty() if self._all_hang() else []
            if hanging:
                log.error("a forward has not returned for %g s", self.bounds.max_forward_s)
                _fail([one.job for one in hanging], self._hanging())
                self._failed()
            _fail(waiting, self._hanging())

    # -- from the queue to the batch

    def _next_batch(self) -> list[_Ready]:
        """Wait for the next batch; empty when closed."""
        while True:
            if self.decode_threads:
                self._await_prepared()
            else:
                self._prepare_all(self._take(self.window, fed=lambda: bool(self._queue or self._ready)))
            with self._lock:
                if self._closed and not self._ready:
                    return []
                late = self._drop_gone()
                batch = self._choose()
            _fail(late, _late())
            if batch:
                return batch

    def _await_prepared(self) -> None:
        with self._lock:
            while not self._ready and not self._closed:
                self._prepared.wait()
            self._await_more(self._prepared)

    def _take(self, most: int, *, fed: Callable[[], bool]) -> list[Job]:
        """Wait until there is something to do, then take this thread's share of the queue; empty when closed."""
        with self._lock:
            while not self._closed and not fed():
                self._queued.wait()
            if not self.decode_threads:
                self._await_more(self._queued)
            share = -(-len(self._queue) // self.workers)
            jobs = [self._queue.pop() for _ in range(min(share, most, self._room()))]
            self._preparing += len(jobs)
            return jobs

    def _await_more(self, condition: Condition) -> None:
        """Wait until a batch's worth is here, or the oldest has waited as long as it may; the lock is held."""
        while self.max_queue_delay_s and not self._closed:
            here = len(self._ready) if self.decode_threads else len(self._ready) + len(self._queue)
            waiting = [one.job.queued_at for one in self._ready]
            oldest = min(waiting if self._queue.oldest is None else [*waiting, self._queue.oldest], default=0.0)
            left_s = oldest + self.max_queue_delay_s - time.monotonic()
            if here >= self.budget.max_size or left_s <= 0:
                return
            condition.wait(left_s)

    def _room(self) -> int:
        return self.window - len(self._ready) - (self._preparing if self.decode_threads else 0)

    def _prepare_all(self, jobs: list[Job]) -> None:
        for job in jobs:
            array_and_cut = self._prepared_one(job)
            with self._lock:
                self._preparing -= 1
                if array_and_cut is not None:
                    self._orders += 1
                    array, truncated = array_and_cut
                    ready = _Ready(job, array, truncated, self._cost_of(array), self._orders)
                    insort(self._ready, ready, key=lambda one: one.cost)
                    self._prepared.notify()

    def _prepared_one(self, job: Job) -> tuple[NDArray[Any], bool] | None:
        """Prepare one job; None when its callers have left, or when it failed and its future says so."""
        begun = time.monotonic()
        job.queue_s = begun - job.queued_at
        if job.deadline < begun:
            _fail([job], _late())
        if job.future.done():
            return None
        item, job.item = job.item, b""  # who still holds the future need not hold the item
        try:
            return self._prepare(item)
        except ExtractorError as error:
            _fail([job], error)
        except Exception:
            log.exception("preparing an item of %d bytes failed", len(item))
            _fail([job], InferenceFailed("the item could not be prepared; the server's log says why"))
        finally:
            job.decode_s = time.monotonic() - begun
        return None

    def _drop_gone(self) -> list[Job]:
        """Drop what nobody waits for any more; return those whose time is over, to be told so; the lock is held."""
        now = time.monotonic()
        here = [one for one in self._ready if not one.job.future.done()]
        self._ready = [one for one in here if one.job.deadline >= now]
        return [one.job for one in here if one.job.deadline < now]

    def _choose(self) -> list[_Ready]:
        """Take the next batch from what is prepared; the lock is held."""
        if not self._ready:
            return []
        oldest = min(range(len(self._ready)), key=lambda i: self._ready[i].order)
        start, end = run_around([one.cost for one in self._ready], oldest, self.budget)
        batch = self._ready[start:end]
        del self._ready[start:end]
        self._queued.notify(len(batch))  # there is room, or more to run
        return [one for one in batch if one.job.future.set_running_or_notify_cancel()]

    # -- from the batch to the outcomes

    def _run(self, batch: list[_Ready]) -> None:
        """Run one batch; one that fails is halved until only the culprit fails."""
        in_hand = _InHand(batch, time.monotonic())
        for one in batch:
            one.job.queue_s = in_hand.since - one.job.queued_at - one.job.decode_s
        with self._lock:
            self._in_hand.add(in_hand)
        try:
            rows = self._forward([one.array for one in batch])
            if len(rows) != len(batch):
                raise ValueError(f"the session gave {len(rows)} rows for {len(batch)} items")
        except Exception:
            self._return(in_hand)
            if not in_hand.given_up:  # else its callers were told already
                self._failed_on(batch)
            return
        seconds = self._return(in_hand)
        for one, row in zip(batch, rows, strict=True):
            one.job.inference_s += seconds / len(batch)
            _deliver(one, row)
        if (tell := self.on_batch) is not None:
            cost, padded = sum(one.cost for one in batch), len(batch) * max(one.cost for one in batch)
            with _logged("the callback of a batch"):
                tell(BatchFacts(len(batch), cost, padded, seconds))

    def _return(self, in_hand: _InHand) -> float:
        with self._lock:
            self._in_hand.discard(in_hand)
        return time.monotonic() - in_hand.since

    def _failed_on(self, batch: list[_Ready]) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            self._run(batch[:middle])
            self._run(batch[middle:])
            return
        log.exception("the session failed on one item")
        _fail([batch[0].job], InferenceFailed("the session failed on this item; the server's log says why"))
        self._failed()

    def _failed(self) -> None:
        if (tell := self.on_failure) is not None:  # it may be set anew meanwhile
            with _logged("the callback of a failure"):
                tell()

    # -- forwards that hang; the lock is held

    def _give_up(self) -> list[_Ready]:
        since = time.monotonic() - self.bounds.max_forward_s
        hanging = [one for one in self._in_hand if one.since < since and not one.given_up]
        for one in hanging:
            one.given_up = True
        return [ready for one in hanging for ready in one.batch]

    def _all_hang(self) -> bool:
        return sum(one.given_up for one in self._in_hand) >= self.workers

    def _hanging(self) -> NotServing:
        return NotServing(
            f"the session has not returned for {self.bounds.max_forward_s:g} s; ask another server, or this one later"
        )


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Let no error end a worker's thread."""
    try:
        yield
    except Exception:
        log.exception("%s failed", what)


def _late() -> DeadlinePassed:
    return DeadlinePassed("the deadline passed before the item's turn came; send it with more time")


def _fail(jobs: Sequence[Job], error: ExtractorError) -> None:
    for job in jobs:
        with suppress(InvalidStateError):  # its callers have left, or were told already
            job.future.set_exception(error)


def _deliver(one: _Ready, row: Embedding) -> None:
    if not np.isfinite(row).all():
        _fail([one.job], InferenceFailed("the backbone gave NaN or infinity for this item"))
        return
    embedding = row.copy()  # a view would keep the whole batch alive
    embedding.flags.writeable = False
    with suppress(InvalidStateError):  # it was told that the forward hangs
        one.job.future.set_result(Embedded(embedding, one.truncated))
