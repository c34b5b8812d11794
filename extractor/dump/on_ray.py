"""A backbone on the machines of a Ray cluster, as a `StreamingVerb`: Ray Data schedules, carries and retries.

The driver lists, in runs of items; actors that hold a session read and embed them; the driver has the outcomes in order
and commits them, as in every dump. Nothing here decides what runs where, and no file is written by a machine but the
driver's, so a dump on Ray is resumed without Ray and the other way round.
"""

import logging
import os
import pickle
import socket
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Condition, Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from extractor.dump.counts import Counts
from extractor.dump.gather import Runs
from extractor.dump.mapper import Mapped, Mapper, Run
from extractor.errors import EngineFailed, RuntimeMissing
from extractor.limits import Limits
from extractor.outcome import Outcome
from extractor.plan import cores
from extractor.shelf import find_backbone
from extractor.sources.entry import Content, Entry, held
from extractor.spec import read_spec
from extractor.stages import StageTimes

if TYPE_CHECKING:
    from extractor.dump.feed import Waiting

log = logging.getLogger(__name__)

LOCAL = "local"  # the address of a Ray that is started here, in this process, and ends with it
CONNECT_S = 10.0
LEAVE_S = 5.0  # for Ray Data to end what nobody waits for: a thread in Ray, when that is shut down, ends the process
LOST_S = 60.0  # for an actor whose machine is gone to be there again, on another
GONE_S = 300.0  # on its own, where it may only be slow to load its backbone
STALLED_S = 900.0  # for Ray to bring something back of what it was given: a machine may have to be started first
OBJECT_STORE_BYTES = 256 << 20  # of that one; bounds below keep far less in it
RUN_S = 1.0  # of an actor's time: short, so that rows come to be committed; long, so that Ray's own work is small
FIRST_ITEMS, MAX_ITEMS = 16, 1024  # of a run, until it is known how long they take, and at most
RUN_BYTES = 8 << 20
GATHER_S = 0.5  # for a run, from a slow source
CALLS = 2  # of an actor at once, so that one run's end is filled with the next one's begin
QUEUED = 2  # beside those, which wait at the actor
FLIGHT_BYTES = 128 << 20  # of runs that are on their way


class Share(NamedTuple):
    """What an actor has of the cluster, and how many there are.

    Parameters
    ----------
    actors : int
    cpus, gpus : int
        Of each.
    """

    actors: int
    cpus: int
    gpus: int


class RayVerb:
    """A backbone on Ray; a context manager.

    Parameters
    ----------
    backbone : str or Path
        A name or folder that is the same backbone on every machine: actors hold its fingerprint against the driver's.
    address : str
        `local` starts a Ray in this process; `auto` or `host:port` is a cluster that runs. A Ray that this process has
        joined already is used as it is.
    cache : str, optional
        As `Extractor.load` takes it, on each machine.

    Raises
    ------
    RuntimeMissing
        ray is not installed.
    BackboneNotFound, BackboneInvalid
    EngineFailed
        No Ray answers at the address, or it has no processors.

    Examples
    --------
    >>> with RayVerb("efficientnet-lite0", address="auto") as verb:  # doctest: +SKIP
    ...     dump("s3://bucket/photos", "dumped", verb)
    """

    def __init__(self, backbone: str | Path, *, address: str = LOCAL, cache: str | None = None) -> None:
        folder = find_backbone(backbone)
        spec = read_spec(folder)
        self.name = spec.name
        self.fingerprint = spec.fingerprint
        self.modality = spec.modality
        self.dim = spec.dim
        self.max_item_bytes = Limits().max_item_bytes
        self.times = StageTimes()
        self._backbone = str(folder.absolute()) if folder == Path(backbone) else str(backbone)
        self._address = address
        self._cache = cache
        self._counts = Counts()
        self._started = False
        self._left = False
        self._streams: list[tuple[Waiting, Event]] = []  # that were begun, and that have ended

    def __enter__(self) -> Self:
        self._started = join(self._address)
        self._left = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        for waiting, _ in self._streams:
            waiting.over = True
        for _, ended in self._streams:
            ended.wait(2 * LEAVE_S)  # of Ray's thread, and of its executor
        if self._started:
            import ray

            ray.shutdown()

    def reading(self, entries: Iterable[Entry], counts: Counts) -> Iterator[tuple[Entry, Content]]:
        """Yield entries and their contents: actors read."""
        self._counts = counts
        return ((entry, entry.content) for entry in entries)

    def outcomes(self, items: Iterator[Content]) -> Generator[tuple[int, Outcome], None, None]:
        """Yield each item's position and outcome, run by run as they are done."""
        from extractor.dump.feed import MachineLost, start_feed

        share = share_of_cluster()
        feed = start_feed()
        line = _Line(feed, share, items)
        Thread(target=line.feed, name="dump-feed", daemon=True).start()
        most, whole = share.actors, False
        try:
            while not whole:
                try:
                    yield from self._outcomes(feed, line, share, most)
                    whole = True
                except MachineLost:
                    share = share_of_cluster()
                    log.warning(_lost(share.actors, most))
                    most = max(most, share.actors)
            line.check()
        finally:
            line.close()

    def _outcomes(
        self, feed: Any, line: "_Line", share: Share, most: int
    ) -> Generator[tuple[int, Outcome], None, None]:
        """Yield outcomes until there are no more, or a machine is lost."""
        from extractor.dump.feed import Left, Waiting

        waiting, ended = Waiting(line.check_moving, LOST_S, GONE_S), Event()
        self._streams.append((waiting, ended))
        whole = False
        try:
            if self._left:  # while what came before this was ended
                raise Left
            with closing(self._mapped(feed, share, most, waiting)) as done:
                for mapped in done:
                    line.done(mapped)
                    self._count(mapped)
                    yield from enumerate(mapped.outcomes, mapped.start)
                    line.wait()
            whole = True
        finally:
            waiting.end(LEAVE_S, kill=not whole)
            ended.set()

    def _mapped(self, feed: Any, share: Share, most: int, waiting: "Waiting") -> Generator[Mapped, None, None]:
        """Yield what Ray Data brings back."""
        from extractor.dump.feed import mapped

        arguments = (self._backbone, self.fingerprint, self._cache, None if share.gpus else share.cpus)
        done = mapped(feed, Mapper, arguments, share, waiting, most=most, calls=CALLS, queued=QUEUED)
        with _said_by_ray(), closing(done):
            for data in done:
                yield pickle.loads(data)  # noqa: S301  # by our own actors

    def _count(self, mapped: Mapped) -> None:
        self.times.add(mapped.times)
        self._counts.read_bytes += mapped.read_bytes
        self._counts.read_s += mapped.read_s


class _Line:
    """Makes runs of items and hands them to the feed, within a bound of runs and bytes on their way."""

    def __init__(self, feed: Any, share: Share, items: Iterator[Content]) -> None:
        self._runs = Runs(items, max_items=FIRST_ITEMS, max_bytes=RUN_BYTES, max_s=GATHER_S, size=held)
        self._feed = feed
        self._share = share
        self._max_runs = share.actors * (CALLS + QUEUED) + 1
        self._n_bytes: dict[int, int] = {}  # of the runs on their way
        self._waits_since: float | None = None  # with something on its way; None while what came back is taken
        self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def feed(self) -> None:
        """Hand on items until there are no more, or the line is closed; in a thread of its own."""
        import ray

        try:
            start = 0
            for number, contents in enumerate(self._runs):
                data = pickle.dumps(Run(number, start, contents))
                if not self._takes(number, len(data)):
                    return
                ray.get(self._feed.put.remote(data))
                start += len(contents)
        except BaseException as error:  # whoever waits for outcomes has to know
            self._error = error
        finally:
            with suppress(Exception):  # it may have ended with the cluster
                self._feed.end.remote()

    def done(self, mapped: Mapped) -> None:
        """Let go of a run, and learn from it how long runs should be."""
        rate = len(mapped.outcomes) / max(mapped.seconds, 1e-3)
        with self._changed:
            self._waits_since = None
            del self._n_bytes[mapped.number]
            self._runs.max_items = min(max(1.0, RUN_S * rate), 2 * self._runs.max_items, MAX_ITEMS)
            self._changed.notify_all()
        self._feed.done.remote(mapped.number)

    def wait(self) -> None:
        """Count the time until the next run comes back, if there is one on its way."""
        with self._changed:
            self._waits_since = time.monotonic() if self._n_bytes else None

    def check_moving(self) -> None:
        """Raise that Ray brings nothing back, when it has had the time: it would wait for ever, and say nothing."""
        since = self._waits_since
        if since is not None and time.monotonic() > since + STALLED_S:
            raise EngineFailed(
                f"Ray has brought nothing back for {STALLED_S:.0f} s, and {len(self._n_bytes):,} runs of items are on "
                f"their way; its {self._share.actors} actors take {self._share.cpus} CPUs and {self._share.gpus} GPUs "
                "each, which something else may hold: look with `ray status`, free them, and run the dump again"
            )

    def check(self) -> None:
        """Raise what ended the feeding, or that runs did not come back."""
        if self._error is not None:
            raise self._error
        if self._n_bytes:
            raise EngineFailed(f"Ray has lost {len(self._n_bytes):,} runs of items; run the dump again for them")

    def close(self) -> None:
        """Take no more items, and end the feed."""
        import ray

        self._runs.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with suppress(Exception):  # it may have ended with the cluster
            ray.kill(self._feed)

    def _takes(self, number: int, n_bytes: int) -> bool:
        """Wait for room for a run; false when the line is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(n_bytes))
            if not self._n_bytes:
                self._waits_since = time.monotonic()
            self._n_bytes[number] = n_bytes
            return not self._closed

    def _has_room(self, n_bytes: int) -> bool:
        on_way = self._n_bytes.values()
        return not on_way or (len(on_way) < self._max_runs and sum(on_way) + n_bytes <= FLIGHT_BYTES)


def join(address: str) -> bool:
    """Join a Ray cluster or start one here, if this process is in none; return whether it was not.

    Raises
    ------
    RuntimeMissing
        ray is not installed.
    EngineFailed
        No Ray answers there.
    """
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a thread that outlives a shutdown would start another; read on import
    try:
        import ray
        import ray.data
    except ImportError:
        raise RuntimeMissing("--ray needs ray, which is not installed: pip install 'headwater[ray]'") from None
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # on stderr, where the progress is
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what ends its work is told of by us
    own = {"num_cpus": cores(), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _check_open(address)
        ray.init(address=address, **(own if address == LOCAL else {}), **quiet)
    except Exception as error:
        raise EngineFailed(
            f"no Ray answers at {address} ({_said(error)}); start one there, or take --ray {LOCAL}"
        ) from None
    except BaseException:  # a signal, say: what was started by then would stay
        ray.shutdown()
        raise
    return True


def _check_open(address: str) -> None:
    """Raise OSError where nobody listens, also at what `auto` stands for: Ray would wait for minutes."""
    from ray._private.services import canonicalize_bootstrap_address  # RAY_ADDRESS, or what ran here last

    found = (canonicalize_bootstrap_address(address) or "") if address == "auto" else address
    host, _, port = found.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OSError as error:
            raise OSError(f"{found}: {error}") from None


def share_of_cluster() -> Share:
    """Divide the joined cluster: an actor a GPU; without any, an actor for as many CPUs as its least machine has.

    So a machine has its weights in memory once, or few times where it is larger than others.

    Raises
    ------
    EngineFailed
        There are no processors.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus:
        return Share(gpus, 1, 1)
    cpus = [int(machine.get("CPU", 0)) for machine in machines if machine.get("CPU", 0) >= 1]
    if not cpus:
        raise EngineFailed("the Ray cluster has no processors for actors; start a worker with some")
    return Share(sum(one // min(cpus) for one in cpus), min(cpus), 0)


def _lost(actors: int, most: int) -> str:
    return (
        f"an actor of Ray has not come back for {LOST_S:.0f} s or more, as if its machine was lost; the dump goes "
        f"on with {actors:,} of {most:,} actors, and with more when there is room for them"
    )


@contextmanager
def _said_by_ray() -> Iterator[None]:
    """Raise what ended Ray's work as our own error."""
    import ray.exceptions

    try:
        yield
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise EngineFailed(
            f"Ray cannot go on: {_said(error)}; what is committed stays: mend the cluster, and run the dump again"
        ) from error


def _said(error: BaseException) -> str:
    """Return the first line of what Ray says, and the last, where a traceback names its reason."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"
