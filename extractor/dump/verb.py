"""The streaming verb: items -> positions and outcomes; an `Extractor` here, or what asks servers elsewhere."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from threading import Condition, Thread
from typing import Protocol, runtime_checkable

from extractor.dump.counts import Counts
from extractor.dump.gather import Runs
from extractor.errors import ItemError, QueueFull, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.request import Request
from extractor.sources.entry import Content, Entry
from extractor.stages import StageTimes

SLICE_ITEMS = 32  # submitted at once
SLICE_BYTES = 4 << 20
SLICE_S = 0.25  # what a slow source gave is submitted by then
IN_FLIGHT_ITEMS = 512  # so that batches are full, and texts of like length find each other
IN_FLIGHT_BYTES = 64 << 20
RETRY_MS = 20  # where the queue is full

Readable = bytes | ItemError  # an item, or why there is none


class StreamingVerb(Protocol):
    """What embeds a stream.

    Parameters
    ----------
    name, fingerprint, modality : str
        Of the backbone.
    dim : int
    max_item_bytes : int
    times : StageTimes
        Where time went, as far as it went here; whoever begins something sets new ones.
    """

    times: StageTimes

    @property
    def name(self) -> str: ...  # noqa: D102  # above

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def modality(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def max_item_bytes(self) -> int: ...  # noqa: D102

    def outcomes(self, items: Iterator[Readable]) -> Generator[tuple[int, Outcome], None, None]:
        """Yield each item's position and outcome, in any order; read no more ahead than keeps it busy."""
        ...


@runtime_checkable
class ReadingVerb(Protocol):
    """A `StreamingVerb` that itself reads what it embeds, where it embeds it: its items are contents."""

    def reading(self, entries: Iterable[Entry], counts: Counts) -> Iterator[tuple[Entry, Content]]:
        """Yield entries and what `outcomes` takes of them, which tells counts of what it reads and how long it took."""
        ...


class LocalVerb:
    """An extractor as a `StreamingVerb`; a thread of its own reads items, so that what is done never waits for them.

    Parameters
    ----------
    extractor : Extractor
    """

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.name = extractor.spec.name
        self.fingerprint = extractor.fingerprint
        self.modality = extractor.spec.modality
        self.dim = extractor.dim
        self.max_item_bytes = extractor.limits.max_item_bytes
        self.times = StageTimes()

    def outcomes(self, items: Iterator[Readable]) -> Generator[tuple[int, Outcome], None, None]:
        """Yield each item's position and outcome, slice by slice as they are done."""
        slices = Runs(items, max_items=SLICE_ITEMS, max_bytes=SLICE_BYTES, max_s=SLICE_S, size=_n_bytes)
        line = _Line(self._extractor, slices)
        Thread(target=line.feed, name="dump-feed", daemon=True).start()
        try:
            while (one := line.finished()) is not None:
                found = iter(one.request.future.result())
                self.times.add(one.request.times)
                for position, error in enumerate(one.errors, one.start):
                    yield position, next(found) if error is None else Outcome(error=error)
        finally:
            line.close()


class _Slice:
    """Some items on their way; their bytes are let go of as soon as they are."""

    def __init__(self, start: int, part: list[Readable], request: Request) -> None:
        self.start = start
        self.n_bytes = sum(map(_n_bytes, part))
        self.errors = [item if isinstance(item, ItemError) else None for item in part]
        self.request = request


class _Line:
    """The slices that are on their way through an extractor, within a bound of items and bytes."""

    def __init__(self, extractor: Extractor, slices: Runs[Readable]) -> None:
        self._extractor = extractor
        self._slices = slices
        self._running: set[_Slice] = set()
        self._done: deque[_Slice] = deque()
        self._n_submitted = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def feed(self) -> None:
        """Submit slices until there are no more, or the line is closed; in a thread of its own."""
        try:
            for part in self._slices:
                if self._closed:
                    return
                self._submit(part)
        except BaseException as error:  # whoever waits for outcomes has to know
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def finished(self) -> _Slice | None:
        """Wait for the next slice that is done; None at the end. Raises what ended the feeding, after the others."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or (self._ended and not self._running))
            if self._done:
                self._changed.notify_all()  # there is room
                return self._done.popleft()
        if self._error is not None:
            raise self._error
        return None

    def close(self) -> None:
        """Leave what is on its way."""
        with self._changed:
            self._closed = True
            running = list(self._running)
            self._changed.notify_all()
        self._slices.close()
        for one in running:
            self._extractor.cancel(one.request)

    def _submit(self, part: list[Readable]) -> None:
        """Submit a slice; one that the queue can never hold is halved, one that finds it full waits."""
        items = [item for item in part if not isinstance(item, ItemError)]
        while not self._closed:
            try:
                one = _Slice(self._n_submitted, part, self._extractor.submit(items))
            except RequestTooLarge:
                if len(part) == 1:
                    raise
                self._submit(part[: len(part) // 2])
                self._submit(part[len(part) // 2 :])
                return
            except QueueFull as full:
                with self._changed:  # until something of ours is done, or of those who fill the queue beside us
                    self._changed.wait((full.retry_after_ms or RETRY_MS) / 1000)
                continue
            self._n_submitted += len(part)
            with self._changed:
                self._running.add(one)
                closed = self._closed
            if closed:  # while it was submitted
                self._extractor.cancel(one.request)
            one.request.future.add_done_callback(partial(self._finish, one))
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_room())
            return

    def _finish(self, one: _Slice, _: object) -> None:
        with self._changed:
            self._running.discard(one)
            if not self._closed:
                self._done.append(one)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        open_ones = (*self._running, *self._done)
        n_items, n_bytes = sum(len(one.errors) for one in open_ones), sum(one.n_bytes for one in open_ones)
        return n_items < IN_FLIGHT_ITEMS and n_bytes < IN_FLIGHT_BYTES


def _n_bytes(item: Readable) -> int:
    return 0 if isinstance(item, ItemError) else len(item)
