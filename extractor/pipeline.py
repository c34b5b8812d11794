"""The one object: `Extractor`, whose one verb is `extract(items) -> X` (n, dim) float32.

Joins the stages, of which none knows another: key, cache, single flight, prepare, batcher, backbone.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from extractor.backbone import Backbone, default_provider
from extractor.batcher import Batcher
from extractor.cache import Cache, item_key
from extractor.caller import ANYONE, Caller
from extractor.errors import ItemError, QueueFull, RequestTooLarge
from extractor.flights import Flights
from extractor.items import Item, as_bytes, check_several
from extractor.limits import Limits
from extractor.outcome import Embedded, Embedding, Outcome, stack
from extractor.plan import Plan, changed, default_plan
from extractor.prepare import load_prepare
from extractor.proof import Proof
from extractor.request import Request
from extractor.shelf import find_backbone
from extractor.spec import Spec, read_spec, verify_files

SLICE = 64  # items that `extract` submits at once
SLICES_IN_FLIGHT = 2  # so that workers never wait for the caller


class Extractor:
    """A frozen backbone that embeds items; made by `Extractor.load`, used as a context manager.

    Parameters
    ----------
    backbone : Backbone
    batcher : Batcher
        Started.
    proof : Proof
        What the session has to meet.
    cache : Cache, optional
    limits : Limits

    Examples
    --------
    >>> with Extractor.load("minilm-l6") as extractor:  # doctest: +SKIP
    ...     X = extractor.extract(["a text", "another"])
    """

    def __init__(
        self, backbone: Backbone, batcher: Batcher, proof: Proof, *, cache: Cache | None, limits: Limits
    ) -> None:
        self.backbone = backbone
        self.proof = proof
        self.cache = cache
        self.limits = limits
        self.fingerprint = backbone.spec.fingerprint
        self._batcher = batcher
        self._flights = Flights(self._store)

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        cache: Cache | None = None,
        limits: Limits | None = None,
        plan: Plan | None = None,
        **changes: Any,
    ) -> Self:
        """Open a backbone: check its files against their hashes, and let its session prove itself.

        Parameters
        ----------
        name_or_folder : str or Path
            A name under `HEADWATER_HOME/backbones`, or the path of a backbone folder.
        cache : Cache, optional
            Where embeddings are looked up and kept; several extractors may share it.
        limits : Limits, optional
        plan : Plan, optional
            How to run it; by default as fits the modality and the provider.
        **changes
            Fields of the plan to set anew: `provider="cpu"`, `workers=1`. By default the provider is `cuda` where the
            installed onnxruntime was built for it.

        Raises
        ------
        BackboneNotFound, BackboneInvalid, ProviderUnavailable, RuntimeMissing
        """
        folder = find_backbone(name_or_folder)
        spec = read_spec(folder)
        verify_files(folder, spec)
        limits = limits or Limits()
        plan = changed(plan or default_plan(spec.modality, changes.get("provider") or default_provider()), **changes)
        backbone = Backbone.load(folder, spec, provider=plan.provider, threads=plan.threads)
        proof = Proof.load(spec, folder)
        proof.check(backbone)
        batcher = Batcher(
            load_prepare(spec, folder, limits),
            backbone.forward,
            workers=plan.workers,
            max_batch_size=plan.max_batch_size,
            window=plan.window,
            max_queue_size=limits.max_queue_size,
            max_queue_bytes=limits.max_queue_bytes,
        )
        batcher.start(spec.name)
        return cls(backbone, batcher, proof, cache=cache, limits=limits)

    @property
    def spec(self) -> Spec:
        """The backbone's facts."""
        return self.backbone.spec

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.spec.dim

    def extract(self, items: Iterable[Item]) -> Embedding:
        """Embed items; the first bad one raises.

        Parameters
        ----------
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image

        Returns
        -------
        ndarray of shape (n, dim), float32
            In the order of the items.

        Raises
        ------
        ExtractorError
            The error of the first item that has one, with the item's position in front.
        """
        return stack(self.iter_outcomes(items), self.dim)

    def extract_each(self, items: Iterable[Item]) -> list[Outcome]:
        """Embed items; each gets an embedding or its own error, in the order of the items."""
        return list(self.iter_outcomes(items))

    def iter_outcomes(self, items: Iterable[Item]) -> Iterator[Outcome]:
        """Embed a stream of items of any length, a few slices at a time, and yield the outcomes in order."""
        stream = iter(check_several(items))
        running: deque[Request] = deque()
        waiting: deque[list[Item]] = deque()
        try:
            while waiting or (chunk := list(islice(stream, SLICE))):
                if not waiting:
                    waiting.append(chunk)
                self._submit_first(waiting, running)
                if len(running) == SLICES_IN_FLIGHT or (running and waiting):
                    yield from running.popleft().future.result()
            while running:
                yield from running.popleft().future.result()
        finally:
            for request in running:
                self.cancel(request)

    def submit(self, items: Sequence[Item], *, caller: Caller = ANYONE, deadline: float | None = None) -> Request:
        """Begin to embed items and return at once; an item that stands several times is computed once.

        Raises
        ------
        QueueFull
            The items that are not cached would pass the queue's bound; none of them is computed.
        Closed
            The extractor is stopping.
        """
        request = Request([None] * len(items))
        places: dict[bytes, list[int]] = {}
        contents: dict[bytes, bytes] = {}
        for position, item in enumerate(items):
            try:
                content = as_bytes(item, max_bytes=self.limits.max_item_bytes)
            except ItemError as error:
                request.outcomes[position] = Outcome(error=error)
                continue
            key = item_key(self.fingerprint, content)
            places.setdefault(key, []).append(position)
            contents[key] = content
        missing = self._answer_from_cache(request, places)
        self._take_off(request, places, {key: contents[key] for key in missing})
        request.settle()
        return request

    def cancel(self, request: Request) -> None:
        """Leave a request: what nobody else waits for, and has not begun, is never computed."""
        for flight in request.abandon():
            self._flights.leave(flight)

    def check(self) -> None:
        """Run the golden items through the session; raises BackboneInvalid, or the session's own error, if it fails."""
        self.proof.check(self.backbone)

    def on_failure(self, callback: Callable[[], object] | None) -> None:
        """Have a function called, in a worker's thread, whenever the session has failed on an item."""
        self._batcher.on_failure = callback

    def close(self, timeout_s: float | None = None) -> None:
        """Refuse new items, fail those that wait with Closed, finish those in hand, and end the threads.

        Parameters
        ----------
        timeout_s : float, optional
            For what is in hand; by default as long as it takes.
        """
        self._batcher.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit_first(self, waiting: deque[list[Item]], running: deque[Request]) -> None:
        """Submit the first slice; one that the queue can never hold is halved, one that finds it full waits on."""
        chunk = waiting.popleft()
        try:
            running.append(self.submit(chunk))
        except RequestTooLarge:
            if len(chunk) == 1:
                raise
            waiting.extendleft((chunk[len(chunk) // 2 :], chunk[: len(chunk) // 2]))
        except QueueFull as full:
            waiting.appendleft(chunk)
            if not running:  # others fill the queue
                time.sleep((full.retry_after_ms or 0) / 1000)

    def _answer_from_cache(self, request: Request, places: dict[bytes, list[int]]) -> list[bytes]:
        """Fill in what the cache has; return the keys that it has not."""
        keys = list(places)
        missing = []
        for key, hit in zip(keys, self._look_up(keys), strict=True):
            if hit is None:
                missing.append(key)
                continue
            for position in places[key]:
                request.outcomes[position] = Outcome(hit.embedding, cached=True, truncated=hit.truncated)
        return missing

    def _take_off(self, request: Request, places: dict[bytes, list[int]], missing: dict[bytes, bytes]) -> None:
        """Put what is missing on its way, or join those who did already."""
        boarded = [self._flights.board(key, item) for key, item in missing.items()]
        request.expect([flight for flight, _ in boarded])
        new = [flight for flight, is_new in boarded if is_new]
        try:
            # Another flight of a key may have landed between the look-up and the boarding: look once more.
            for flight, hit in zip(new, self._look_up([flight.key for flight in new]), strict=True):
                if hit is not None:
                    flight.future.set_result(hit)
            self._batcher.submit([flight.job for flight in new if not flight.future.done()])
        except BaseException as error:
            for flight in new:
                if not flight.future.done():
                    flight.future.set_exception(error)  # for those who joined meanwhile
            self.cancel(request)
            raise
        for flight, _ in boarded:
            request.follow(flight, places[flight.key])

    def _look_up(self, keys: Sequence[bytes]) -> Sequence[Embedded | None]:
        return self.cache.get_many(keys) if self.cache is not None and keys else [None] * len(keys)

    def _store(self, key: bytes, embedded: Embedded) -> None:
        if self.cache is not None:
            self.cache.put_many([(key, embedded)])
