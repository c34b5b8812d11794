"""The one object: `Extractor`, whose one verb is `extract(items) -> X` (n, dim) float32.

Joins the stages, of which none knows another: key, cache, single flight, prepare, batcher, backbone.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from extractor.backbone import Backbone
from extractor.batcher import Batcher, Bounds, QueueFacts
from extractor.batches import Budget
from extractor.cache import Cache, item_key
from extractor.cache.control import PLAIN, CacheControl
from extractor.cache.opened import open_cache
from extractor.caller import ANYONE, Caller
from extractor.errors import ItemError, QueueFull, RequestTooLarge
from extractor.flights import Flights
from extractor.items import Item, as_bytes, check_several
from extractor.job import Job
from extractor.limits import Limits
from extractor.outcome import Embedded, Embedding, Outcome, stack
from extractor.plan import Plan, changed
from extractor.prepare import load_prepare
from extractor.proof import Proof
from extractor.recipes import ArrayPreprocess, AudioPreprocess, TextPreprocess
from extractor.request import Request
from extractor.shelf import find_backbone
from extractor.spec import Spec, read_spec, verify_files
from extractor.stages import BatchFacts
from extractor.stored import choose_plan

SLICE = 64  # items that `extract` submits at once
SLICES_IN_FLIGHT = 2  # so that workers never wait for the caller
ORDINARY_TOKENS = 16
BYTES_A_TOKEN = 4  # about; of English
BYTES_A_SAMPLE = 2  # of a WAV; a compressed sound is guessed too low, at most by ten times
ORDINARY_BYTES = 64 << 10  # of a sound: two seconds


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
    owns_cache : bool
        The cache is closed with the extractor.
    limits : Limits

    Examples
    --------
    >>> with Extractor.load("minilm-l6") as extractor:  # doctest: +SKIP
    ...     X = extractor.extract(["a text", "another"])
    """

    def __init__(
        self,
        backbone: Backbone,
        batcher: Batcher,
        proof: Proof,
        *,
        cache: Cache | None,
        owns_cache: bool = False,
        limits: Limits,
    ) -> None:
        self.backbone = backbone
        self.proof = proof
        self.cache = cache
        self.limits = limits
        self.fingerprint = backbone.spec.fingerprint
        self._batcher = batcher
        self._flights = Flights(self._store)
        self._owns_cache = owns_cache

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        cache: Cache | str | Path | None = None,
        limits: Limits | None = None,
        plan: Plan | None = None,
        **changes: Any,
    ) -> Self:
        """Open a backbone: check its files against their hashes, and let its session prove itself.

        Parameters
        ----------
        name_or_folder : str or Path
            A name under `HEADWATER_HOME/backbones`, or the path of a backbone folder.
        cache : Cache, str or Path, optional
            Where embeddings are looked up and kept: an open cache, which several extractors may share and whose owner
            closes it; or `off`, `memory`, a folder, `redis://…`; by default as `HEADWATER_CACHE` says, else the user's
            cache folder.
        limits : Limits, optional
        plan : Plan, optional
            How to run it; by default as `headwater tune` chose on this machine, else as fits the modality, the
            precision and the provider: `cuda` where the installed onnxruntime was built for it.
        **changes
            Fields of the plan to set anew: `provider="cpu"`, `workers=1`.

        Raises
        ------
        BackboneNotFound, BackboneInvalid, ProviderUnavailable, RuntimeMissing, CacheInvalid
        """
        folder = find_backbone(name_or_folder)
        spec = read_spec(folder)
        verify_files(folder, spec)
        limits = limits or Limits()
        plan = changed(plan, **changes) if plan else choose_plan(folder, spec, **changes)
        backbone = Backbone.load(folder, spec, plan)
        proof = Proof.load(spec, folder)
        proof.check(backbone)
        batcher = Batcher(
            load_prepare(spec, folder, limits),
            backbone.forward,
            cost_of=np.size if spec.varies else _one,
            workers=plan.workers,
            decode_threads=plan.decode_threads,
            budget=_budget(spec, plan),
            window=plan.window,
            max_queue_delay_ms=plan.max_queue_delay_ms,
            bounds=Bounds(limits.max_queue_size, limits.max_queue_bytes, limits.max_forward_s),
        )
        named = str(cache) if isinstance(cache, Path) else cache
        opened = open_cache(named) if named is None or isinstance(named, str) else named
        batcher.start(spec.name)
        return cls(backbone, batcher, proof, cache=opened, owns_cache=opened is not cache, limits=limits)

    def __deepcopy__(self, memo: object) -> Self:
        """Return this extractor itself, so that scikit-learn's `clone` of a pipeline shares it."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: sessions and threads stay in their process."""
        raise TypeError(
            "an Extractor cannot go to another process; share it among threads, "
            "`with joblib.parallel_config('threading'):`, or load one in each process"
        )

    @property
    def spec(self) -> Spec:
        """The backbone's facts."""
        return self.backbone.spec

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.spec.dim

    @property
    def submit_waits(self) -> bool:
        """Whether `submit` may wait, for a disk or a network, and is not for an event loop."""
        return self.cache is not None and self.cache.waits

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

    def submit(
        self,
        items: Sequence[Item],
        *,
        caller: Caller = ANYONE,
        deadline: float | None = None,
        control: CacheControl = PLAIN,
    ) -> Request:
        """Begin to embed items and return at once; an item that stands several times is computed once.

        Parameters
        ----------
        items : sequence of bytes, str, pathlib.Path, ndarray or Pillow image
        caller : Caller, optional
            Who asks: callers share the backbone by their weights.
        deadline : float, optional
            When the caller stops waiting, on the clock of `time.monotonic`; what has not begun then is never computed.
        control : CacheControl, optional
            Whether the cache is looked into, and whether it keeps what is computed.

        Raises
        ------
        QueueFull
            The items that are not cached would pass the queue's bound; none of them is computed.
        DeadlineTooShort
            With what waits before them, they would not be computed before the deadline.
        NotServing
            The session hangs.
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
        with self._flights.watch() as landed:
            begun = time.monotonic()
            missing = list(places) if control.no_cache else self._answer_from_cache(request, places)
            request.times.cache_ms = 1000 * (time.monotonic() - begun)
            until = math.inf if deadline is None else deadline
            jobs = {key: Job(contents[key], caller, self._guess_cost(contents[key]), until) for key in missing}
            self._take_off(request, places, jobs, control, landed)
        request.settle()
        return request

    def cancel(self, request: Request) -> None:
        """Leave a request: what nobody else waits for, and has not begun, is never computed."""
        self._batcher.discard([flight.job for flight in request.abandon() if self._flights.leave(flight)])

    def check(self) -> None:
        """Run the golden items through the session; raises BackboneInvalid, or the session's own error, if it fails."""
        self.proof.check(self.backbone)

    def queue(self) -> QueueFacts:
        """Return what waits for the backbone now."""
        return self._batcher.queue()

    def longest_forward_s(self) -> float:
        """Return how long the oldest forward has run that has not returned; 0 without one."""
        return self._batcher.longest_forward_s()

    def on_batch(self, callback: Callable[[BatchFacts], object] | None) -> None:
        """Have a function called, in a worker's thread, after each forward."""
        self._batcher.on_batch = callback

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
        if self._owns_cache and self.cache is not None:
            self.cache.close()

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

    def _take_off(
        self,
        request: Request,
        places: dict[bytes, list[int]],
        missing: dict[bytes, Job],
        control: CacheControl,
        landed: set[bytes],
    ) -> None:
        """Put what is missing on its way, or join those who did already; `landed` was stored since the look-up."""
        store = not control.no_store
        boarded = [self._flights.board(key, job, store=store) for key, job in missing.items()]
        request.expect([flight for flight, _ in boarded])
        new = [flight for flight, is_new in boarded if is_new]
        try:
            again = [] if control.no_cache else [flight for flight in new if flight.key in landed]
            for flight, hit in zip(again, self._look_up([flight.key for flight in again]), strict=True):
                if hit is not None:
                    flight.store = False  # it is
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

    def _guess_cost(self, item: bytes) -> float:
        """Guess what an item costs before it is decoded, in ordinary items: one that varies in length by its bytes."""
        match self.spec.preprocess:
            case TextPreprocess(max_tokens=max_tokens):
                return max(1.0, min(len(item), BYTES_A_TOKEN * max_tokens) / (BYTES_A_TOKEN * ORDINARY_TOKENS))
            case AudioPreprocess(max_samples=max_samples) if self.spec.varies:
                return max(1.0, min(len(item), BYTES_A_SAMPLE * max_samples) / ORDINARY_BYTES)
            case ArrayPreprocess() if self.spec.varies:
                return max(1.0, len(item) / ORDINARY_BYTES)
        return 1.0

    def _look_up(self, keys: Sequence[bytes]) -> Sequence[Embedded | None]:
        return self.cache.get_many(keys) if self.cache is not None and keys else [None] * len(keys)

    def _store(self, key: bytes, embedded: Embedded) -> None:
        if self.cache is not None:
            self.cache.put_many([(key, embedded)])


def _budget(spec: Spec, plan: Plan) -> Budget:
    """Return what one forward may take: no padding where the graph could not tell it from the item."""
    most = plan.max_batch_tokens if spec.modality == "text" else plan.max_batch_values
    return Budget(plan.max_batch_size, most, plan.max_padding if spec.pads else 0.0)


def _one(array: NDArray[Any]) -> int:
    return 1
