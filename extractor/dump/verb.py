"""The streaming verb: items -> positions and outcomes; an `Extractor` here, or what asks servers elsewhere."""

import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import Protocol

from extractor.errors import ItemError, QueueFull, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.request import Request
from extractor.stages import StageTimes

SLICE_ITEMS = 32  # submitted at once
SLICE_BYTES = 4 << 20
IN_FLIGHT_ITEMS = 512  # so that batches are full, and texts of like length find each other
IN_FLIGHT_BYTES = 64 << 20

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
        Where time went, as far as it went here.
    """

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

    @property
    def times(self) -> StageTimes: ...  # noqa: D102

    def outcomes(self, items: Iterator[Readable]) -> Generator[tuple[int, Outcome], None, None]:
        """Yield each item's position and outcome, in any order; read no more ahead than keeps it busy."""
        ...


class LocalVerb:
    """An extractor as a `StreamingVerb`; outcomes come in the order of the items.

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
        """Yield each item's position and outcome, in order."""
        running: deque[_Slice] = deque()
        position = 0
        try:
            for part in _slices(items):
                self._submit(part, running)
                while running and (running[0].done or not _has_room(running)):
                    position = yield from self._finish(running.popleft(), position)
            while running:
                position = yield from self._finish(running.popleft(), position)
        finally:
            for one in running:
                self._extractor.cancel(one.request)

    def _submit(self, part: "list[Readable]", running: "deque[_Slice]") -> None:
        """Submit a slice; one that the queue can never hold is halved, one that finds it full waits."""
        items = [item for item in part if not isinstance(item, ItemError)]
        while True:
            try:
                running.append(_Slice(part, self._extractor.submit(items)))
                return
            except RequestTooLarge:
                if len(part) == 1:
                    raise
                self._submit(part[: len(part) // 2], running)
                self._submit(part[len(part) // 2 :], running)
                return
            except QueueFull as full:
                if running:
                    running[-1].request.future.result()
                else:  # others fill the queue
                    time.sleep((full.retry_after_ms or 0) / 1000)

    def _finish(self, one: "_Slice", position: int) -> Generator[tuple[int, Outcome], None, int]:
        found = iter(one.request.future.result())
        self.times.add(one.request.times)
        for item in one.part:
            yield position, Outcome(error=item) if isinstance(item, ItemError) else next(found)
            position += 1
        return position


class _Slice:
    """Some items on their way; their bytes are let go of as soon as they are."""

    def __init__(self, part: list[Readable], request: Request) -> None:
        self.n_bytes = sum(len(item) for item in part if not isinstance(item, ItemError))
        self.part: list[ItemError | None] = [item if isinstance(item, ItemError) else None for item in part]
        self.request = request

    @property
    def done(self) -> bool:
        return self.request.future.done()


def _has_room(running: "deque[_Slice]") -> bool:
    n_items, n_bytes = sum(len(one.part) for one in running), sum(one.n_bytes for one in running)
    return n_items < IN_FLIGHT_ITEMS and n_bytes < IN_FLIGHT_BYTES


def _slices(items: Iterator[Readable]) -> Iterator[list[Readable]]:
    part: list[Readable] = []
    n_bytes = 0
    for item in items:
        part.append(item)
        n_bytes += 0 if isinstance(item, ItemError) else len(item)
        if len(part) == SLICE_ITEMS or n_bytes >= SLICE_BYTES:
            yield part
            part, n_bytes = [], 0
    if part:
        yield part
