"""Runs of a source, as the driver lists them -> the read task of a Ray data set, the same when Ray retries it.

The driver hands runs to an actor that keeps each one until its outcomes have come back. So a task that Ray runs again,
because a process or a machine died, finds what it found before; of what is done by then it needs nothing.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource
from ray.data._internal.execution.execution_callback import ExecutionCallback  # of a context's public field
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from extractor.dump.mapper import DONE, RUN, as_rows

if TYPE_CHECKING:
    from extractor.dump.on_ray import Share


class Feed:
    """The runs that are on their way; an actor, next to the driver."""

    def __init__(self) -> None:
        self._runs: dict[int, bytes] = {}
        self._begun: dict[int, int] = {}
        self._n_runs = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, run: bytes) -> None:
        """Take the next run."""
        async with self._changed:
            self._runs[self._n_runs] = run
            self._n_runs += 1
            self._changed.notify_all()

    async def get(self, number: int) -> bytes | None:
        """Wait for a run; None when there are no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: number < self._n_runs or self._ended)
            return self._runs.get(number, DONE) if number < self._n_runs else None

    async def begin(self, number: int) -> int:
        """Count how often a run was begun; 1 at first."""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]

    async def done(self, number: int) -> None:
        """Let go of a run."""
        self._runs.pop(number, None)
        self._begun.pop(number, None)

    async def end(self) -> None:
        """Say that there are no more."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Attempts:
    """Tells an actor how often a run was begun, itself counted in; called with the run's number."""

    feed: Any

    def __call__(self, number: int) -> int:
        """Count."""
        return int(ray.get(self.feed.begin.remote(number)))


class FeedSource(Datasource):  # type: ignore[misc]  # whose types mypy does not follow
    """The runs of a feed as the one read task of a data set.

    Parameters
    ----------
    feed : actor handle of Feed
    """

    def __init__(self, feed: Any) -> None:
        super().__init__()
        self._feed = feed

    def get_name(self) -> str:
        """Return what Ray calls it."""
        return "Headwater"

    def estimate_inmemory_data_size(self) -> None:
        """Return None: only listing tells."""

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
        """Return the task."""
        feed = self._feed
        facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _rows(feed), facts)]


class Left(Exception):  # no error: nobody waits any more
    """Ends what Ray Data does for a feed."""


class Waiting:
    """Whether somebody waits for what Ray Data does; Ray pickles it with its settings, and asks this one.

    Parameters
    ----------
    check : callable
        Raises what ends Ray Data's work from within, when there is something.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.over = False
        self._check = check
        self._executor: Any = None
        self._actors: set[Any] = set()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Pickle nothing: it is asked here only."""
        return object, ()

    def callback(self) -> type:
        """Return what Ray Data calls as it goes, many times a second, and which ends it when nobody waits."""
        waiting = self

        class Ending(ExecutionCallback):  # type: ignore[misc]  # whose types mypy does not follow
            def before_execution_starts(self, executor: Any) -> None:
                waiting._executor = executor

            def on_execution_step(self, executor: Any) -> None:
                waiting._actors |= _actors_of(executor)
                if waiting.over:
                    raise Left
                waiting._check()

        return Ending

    def end(self, timeout_s: float, *, kill: bool) -> None:
        """Have Ray Data let its actors go, which then keep what they have for the cache; or kill them.

        Its executor, a thread, is part of a cycle: left to the garbage collector, its actors keep their CPUs for ever,
        and the next dump waits for these. One that is shut down before its thread has ended may start another actor.
        Where it ended early, an actor is kept by calls that are tried for ever, because its process died, say.
        """
        self.over = True
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.join(timeout_s)
        actors, self._actors = self._actors if kill else set(), set()
        if executor is not None:
            with suppress(Exception):  # it may have ended with the cluster
                executor.shutdown(force=False)
        for actor in actors:
            with suppress(Exception):
                ray.kill(actor)


def _actors_of(executor: Any) -> set[Any]:
    pools = [pool for one in executor._topology or () if (pool := getattr(one, "_actor_pool", None)) is not None]
    return {actor for pool in pools for actor in (*pool._running_actors, *pool._pending_actors.values())}


def start_feed() -> Any:
    """Return the handle of a feed on the driver's machine, which lives no longer than the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Feed).options(num_cpus=0, scheduling_strategy=here).remote()


def mapped(
    feed: Any, mapper: type, arguments: tuple[Any, ...], share: "Share", waiting: Waiting, *, calls: int, queued: int
) -> Generator[bytes, None, None]:
    """Have Ray Data map the runs of a feed, and yield what comes back, in any order.

    Parameters
    ----------
    feed : actor handle of Feed
    mapper : class
        Called with a row, in an actor.
    arguments : tuple
        To make one, after what tells it of attempts.
    share : Share
        Of the cluster, for an actor.
    waiting : Waiting
        When it is over, Left is raised: this thread, which waits in Ray, cannot be told otherwise.
    calls, queued : int
        Runs that an actor is at, and that wait for it.
    """
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # byte: each row is a block of its own, and none waits for the next
    context.enable_progress_bars = context.print_on_execution_start = False
    context.custom_execution_callback_classes = [waiting.callback()]
    context.execution_no_progress_timeout_s = -1  # a source may be slow; `waiting` knows better
    with DataContext.current(context):
        runs = ray.data.read_datasource(FeedSource(feed), override_num_blocks=1, num_cpus=0)
        pool = ActorPoolStrategy(
            size=share.actors,
            max_tasks_in_flight_per_actor=calls + queued,
            max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=True,
        )
        done = runs.map_batches(
            mapper,
            fn_constructor_args=(Attempts(feed), *arguments),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=share.cpus,
            num_gpus=share.gpus,
        )
    for bundle in done.iter_internal_ref_bundles():
        for block in bundle.blocks:
            for run in ray.get(block.ref).column(RUN):
                if data := run.as_py():
                    yield data


def _rows(feed: Any) -> Iterator[Any]:
    for number in count():
        run = ray.get(feed.get.remote(number))
        if run is None:
            return
        yield as_rows(run)
