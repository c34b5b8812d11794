"""Runs of a source, as the driver lists them -> the read task of a Ray data set, the same when Ray retries it.

The driver hands runs to an actor that keeps each one until its outcomes have come back. So a task that Ray runs again,
because a process or a machine died, finds what it found before; of what is done by then it needs nothing. Ray keeps
the calls of an actor for that actor, which may find no room once its machine is gone: then the work is begun again,
from the first run that is not done, with the actors that there is room for.
"""

import asyncio
import time
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
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from extractor.dump.mapper import DONE, RUN, as_rows

if TYPE_CHECKING:
    from extractor.dump.on_ray import Share


NODE_ID = "ray.io/node-id"  # a label that Ray gives each machine


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

    async def first(self) -> int:
        """Return the number of the first run whose outcomes are not there; of the next one, when all are."""
        return min(self._runs, default=self._n_runs)

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
    first : int
        Number of its first run.
    """

    def __init__(self, feed: Any, first: int) -> None:
        super().__init__()
        self._feed = feed
        self._first = first

    def get_name(self) -> str:
        """Return what Ray calls it."""
        return "Headwater"

    def estimate_inmemory_data_size(self) -> None:
        """Return None: only listing tells."""

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
        """Return the task."""
        feed, first = self._feed, self._first
        facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _rows(feed, first), facts)]


class Left(Exception):  # no error: nobody waits any more
    """Ends what Ray Data does for a feed."""


class MachineLost(Exception):  # no error: the work is begun again
    """An actor finds no room, and what was given to it waits for it."""


class Waiting:
    """Whether somebody waits for what Ray Data does; Ray pickles it with its settings, and asks this one.

    Parameters
    ----------
    check : callable
        Raises what ends Ray Data's work from within, when there is something.
    lost_s, gone_s : float
        For an actor whose process ended to be there again, without its machine and on it; after that, if others are
        there, MachineLost ends the work.
    """

    def __init__(self, check: Callable[[], None], lost_s: float, gone_s: float) -> None:
        self.over = False
        self.cause: Exception | None = None  # of an early end, from within
        self._check = check
        self._lost_s = lost_s
        self._gone_s = gone_s
        self._executor: Any = None
        self._actors: set[Any] = set()
        self._gone_since: dict[Any, float] = {}  # of those that ran and are to run again
        self._machines: dict[Any, str] = {}  # of these and of those that run

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
                waiting._step(executor)

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
            with suppress(Exception):  # it may have ended with the cluster
                executor.shutdown(force=False)
        if kill:
            self._kill()
        self._actors, self._gone_since, self._machines = set(), {}, {}

    def _step(self, executor: Any) -> None:
        """Keep the actors in view, and raise what ends the work.

        They are killed first: whoever waits for what an actor made, on a machine that is gone, would wait for ever.
        """
        try:
            if not executor._shutdown:  # else they are being let go of: there is what there was a step before
                self._look(executor)
            if self.over:
                raise Left
            self._check()
            if self._is_machine_lost():
                raise MachineLost
        except Exception as cause:
            self.cause = cause
            self._kill()
            raise

    def _look(self, executor: Any) -> None:
        pools = [pool for one in executor._topology if (pool := getattr(one, "_actor_pool", None)) is not None]
        running = {actor: state for pool in pools for actor, state in pool._running_actors.items()}
        now = time.monotonic()
        self._actors = {*running, *(actor for pool in pools for actor in pool._pending_actors.values())}
        self._machines = {actor: state.actor_location for actor, state in running.items()}
        gone = [actor for actor, state in running.items() if state.is_restarting]
        self._gone_since = {actor: self._gone_since.get(actor, now) for actor in gone}

    def _is_machine_lost(self) -> bool:
        """Whether an actor has been gone for too long, and others are there.

        On a machine that is alive it may only be slow to load its backbone.
        """
        now = time.monotonic()
        late = {actor: now - since for actor, since in self._gone_since.items() if now > since + self._lost_s}
        if not late or len(self._gone_since) == len(self._machines):
            return False
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return any(self._machines[actor] not in alive or gone_s > self._gone_s for actor, gone_s in late.items())

    def _kill(self) -> None:
        for actor in self._actors:
            with suppress(Exception):
                ray.kill(actor)


def start_feed() -> Any:
    """Return the handle of a feed on the driver's machine, which lives no longer than the driver."""
    here = NodeAffinitySchedulingStrategy(_here(), soft=False)
    return ray.remote(Feed).options(num_cpus=0, scheduling_strategy=here).remote()


def mapped(
    feed: Any,
    mapper: type,
    arguments: tuple[Any, ...],
    share: "Share",
    waiting: Waiting,
    *,
    most: int,
    calls: int,
    queued: int,
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
    most : int
        Actors, where there is room for more than the share's.
    calls, queued : int
        Runs that an actor is at, and that wait for it.
    """
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # byte: each row is a block of its own, and none waits for the next
    context.enable_progress_bars = context.print_on_execution_start = False
    context.custom_execution_callback_classes = [waiting.callback()]
    context.execution_no_progress_timeout_s = -1  # a source may be slow; `waiting` knows better
    with DataContext.current(context):
        first = ray.get(feed.first.remote())
        here = {NODE_ID: _here()}  # elsewhere it would go with its machine, and begin at the first again
        source = FeedSource(feed, first)
        runs = ray.data.read_datasource(source, override_num_blocks=1, num_cpus=0, label_selector=here)
        pool = ActorPoolStrategy(
            min_size=share.actors,
            max_size=max(share.actors, most),
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
    try:
        for bundle in done.iter_internal_ref_bundles():
            for block in bundle.blocks:
                for run in ray.get(block.ref).column(RUN):
                    if data := run.as_py():
                        yield data
    except RayError:
        if waiting.cause is None:
            raise
        raise waiting.cause from None  # what was being waited for went with the actors


def _here() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _rows(feed: Any, first: int) -> Iterator[Any]:
    undone = ray.get(feed.first.remote())
    for number in count(first):
        run = DONE if number < undone else ray.get(feed.get.remote(number))
        if run is None:
            return
        yield as_rows(run)
