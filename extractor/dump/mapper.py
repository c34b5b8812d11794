"""A run of contents -> the run's outcomes, in an actor of Ray that holds the session: the function that Ray Data maps.

Ray's rows are runs, in one column of pickled bytes: their own processes speak to each other, and Ray pickles anyway.
"""

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import pyarrow as pa

from extractor.dump.counts import Counts
from extractor.dump.reader import read_ahead
from extractor.dump.verb import LocalVerb
from extractor.errors import BackboneChanged, EngineFailed, ExtractorError
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.sources.entry import Content, Entry, printable
from extractor.stages import StageTimes

RUN = "run"  # the column
MAX_ATTEMPTS = 4
DONE = b""  # in place of a run whose outcomes the driver has


@dataclass(frozen=True)
class Run:
    """Items of a source, one after the other.

    Parameters
    ----------
    number : int
        Of the run.
    start : int
        Position of its first item.
    contents : list of Content
        Paths and positions where the source has them, else bytes; what is read is read by whoever computes.
    """

    number: int
    start: int
    contents: list[Content]


@dataclass(frozen=True)
class Mapped:
    """What came of a run.

    Parameters
    ----------
    number, start : int
    outcomes : list of Outcome
        In the order of its contents.
    read_bytes : int
    read_s, seconds : float
        Spent reading, summed over threads; and with the run.
    times : StageTimes
    """

    number: int
    start: int
    outcomes: list[Outcome]
    read_bytes: int = 0
    read_s: float = 0.0
    seconds: float = 0.0
    times: StageTimes = field(default_factory=StageTimes)


class Mapper:
    """Holds a session; called by several threads.

    What Ray tells of an actor that does not start is a text; so one that cannot serve says why for each item that it is
    given, and the dump ends with that error.

    Parameters
    ----------
    attempt : callable
        Counts how often a run, by its number, was begun: one that kills each process must not be begun for ever.
    backbone : str
        Name or folder, on the machine of the actor.
    fingerprint : str
        What it has to be.
    cache : str, optional
        As `Extractor.load` takes it.
    workers : int, optional
        Forwards at once; by default as the machine's plan says.
    """

    def __init__(
        self, attempt: Callable[[int], int], backbone: str, fingerprint: str, cache: str | None, workers: int | None
    ) -> None:
        self._attempt = attempt
        try:
            self._serving: Extractor | ExtractorError = _loaded(backbone, fingerprint, cache, workers)
        except ExtractorError as error:
            self._serving = error

    def __del__(self) -> None:
        """Close the session, as Ray lets go of this at an actor's end: the cache then keeps what it was given."""
        if isinstance(serving := getattr(self, "_serving", None), Extractor):  # where `__init__` came to its end
            serving.close()

    def __call__(self, rows: Any) -> Any:
        """Map one row, (1,) of bytes, to one row."""
        data = rows.column(RUN)[0].as_py()
        return as_rows(pickle.dumps(self._map(pickle.loads(data))) if data else DONE)  # noqa: S301  # by our own driver

    def _map(self, run: Run) -> Mapped:
        try:
            if self._attempt(run.number) > MAX_ATTEMPTS:
                raise EngineFailed(_given_up(run))
            if isinstance(self._serving, Extractor):
                return _mapped(run, LocalVerb(self._serving))
            raise self._serving
        except ExtractorError as error:
            return Mapped(run.number, run.start, [Outcome(error=error)] * len(run.contents))


def as_rows(*runs: bytes) -> Any:
    """Return pickled runs as rows for Ray."""
    return pa.table({RUN: pa.array(runs, pa.large_binary())})


def _given_up(run: Run) -> str:
    first, last = (_named(run.contents[at], run.start + at) for at in (0, len(run.contents) - 1))
    return (
        f"the items from {first} to {last}, of those that this run of the dump has to do, were begun {MAX_ATTEMPTS} "
        "times, and their process died each time, or its machine: one of them or of their neighbours does that, or "
        "memory is short; find it, or take larger machines"
    )


def _named(content: Content, position: int) -> str:
    path = getattr(content, "path", None)  # of a file or of an archive
    return f"number {position + 1:,}" if path is None else f"number {position + 1:,} (in {printable(path)})"


def _loaded(backbone: str, fingerprint: str, cache: str | None, workers: int | None) -> Extractor:
    """Load a backbone that is the driver's."""
    extractor = Extractor.load(backbone, cache=cache, workers=workers)
    if extractor.fingerprint == fingerprint:
        return extractor
    extractor.close()
    raise BackboneChanged(
        f"{backbone} on a machine of the cluster has the fingerprint {extractor.fingerprint}, the dump {fingerprint}; "
        "install the same backbone on all machines, or name a folder that all of them see"
    )


def _mapped(run: Run, verb: LocalVerb) -> Mapped:
    """Read and embed a run."""
    begun, counts = time.monotonic(), Counts()
    entries = (Entry("", content) for content in run.contents)
    read = read_ahead(entries, max_bytes=verb.max_item_bytes, counts=counts)
    found = sorted(verb.outcomes(item for _, item in read), key=itemgetter(0))
    seconds = time.monotonic() - begun
    outcomes = [outcome for _, outcome in found]
    return Mapped(run.number, run.start, outcomes, counts.read_bytes, counts.read_s, seconds, verb.times)
