"""Embeddings and a task -> its answer: which backbone it needs, the names it goes by, and which of both are there."""

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import InvalidOption
from extractor.errors import BackboneChanged, BackboneNotFound, RequestInvalid, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.stages import StageTimes
from headwater.convert import RequestLimits
from headwater.service.answers import Asking, Options, taught_by
from headwater.service.calls import Call, Calls
from headwater.service.extractor import extract_and
from headwater.service.names import Names
from headwater.service.served import Served, shown
from headwater.service.tasks import Tasks
from headwater.service.windows import in_windows
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.learner import Taught
    from classifiers.tasks import Support, Task, TaskFacts
    from classifiers.tasks.settings import Settings

TEXT = "text"  # modality of the backbones that can read the name of a class


class Classifying:
    """The tasks of a server, and the backbones that embed for them; used on its event loop.

    Parameters
    ----------
    served : Served
    calls : Calls
    limits : RequestLimits
    tasks : Tasks
    """

    def __init__(self, served: Served, calls: Calls, limits: RequestLimits, tasks: Tasks) -> None:
        self.tasks = tasks
        self.limits = limits
        self.sight = calls.sight
        self._served = served
        self._names = Names()

    async def task(self, name: str) -> "Task":
        """Return a task; raises what `Tasks.task` does."""
        at_hand = self.tasks.at_hand(name)
        return at_hand if at_hand is not None else await self.tasks.on_disk(self.tasks.task, name)

    @contextmanager
    def extractor(self, facts: "TaskFacts") -> Iterator[Extractor]:
        """Use the backbone of a task, and no other; looked at anew for each request.

        Raises
        ------
        BackboneNotFound, BackboneChanged
        """
        self.check_served(facts)
        with self._served.using(facts.backbone) as extractor:
            if (extractor.fingerprint, extractor.dim) != (facts.fingerprint, facts.dim):
                raise BackboneChanged(
                    f"task {facts.name!r} holds embeddings of {facts.backbone!r} {facts.fingerprint} ({facts.dim}-d), "
                    f"and {extractor.spec.name!r} is {extractor.fingerprint} ({extractor.dim}-d) here; serve the "
                    "backbone that it was made with, or add its items to a new task"
                )
            yield extractor

    def check_served(self, facts: "TaskFacts") -> None:
        """Raise BackboneNotFound where the backbone of a task is not served."""
        try:
            self._served.named(facts.backbone)
        except BackboneNotFound:
            raise BackboneNotFound(
                f"task {facts.name!r} is of backbone {shown(facts.backbone)}, which is not served here; load it: "
                f"headwater admin load {facts.backbone}; or send embeddings of {facts.fingerprint}"
            ) from None

    def count(self, n_items: int, embeddings: bytes, dim: int) -> int:
        """Return how many there are of items or embeddings; raises RequestInvalid, RequestTooLarge."""
        if n_items and embeddings:
            raise RequestInvalid("the request has items and embeddings; send them in two")
        n = n_items or -(-len(embeddings) // (4 * dim))
        self.check_count(n)
        return n

    def check_count(self, n: int) -> None:
        """Raise RequestTooLarge for more items than a request may have."""
        if n > self.limits.max_items:
            raise RequestTooLarge(
                f"request has {n:,} items, the limit is {self.limits.max_items:,}; send them in several"
            )

    async def classify(self, options: Options, task: "Task", items: list[bytes], call: Call) -> pb.ClassifyResponse:
        """Embed items and ask a task about them; in one turn of a thread where the cache has them all."""
        with self.extractor(task.facts) as extractor:
            ask: Callable[[list[Outcome], StageTimes], pb.ClassifyResponse | None]
            ask = partial(self._asking(options).of, task)
            outcomes, times, response = await extract_and(extractor, items, call, self._run(options), ask)
            self.sight.embedded(call, extractor.spec.name, outcomes, times)
            return response if response is not None else await self.answer(options, task, outcomes, times, call)

    async def answer(
        self, options: Options, task: "Task", outcomes: Sequence[Outcome], times: StageTimes, call: Call
    ) -> pb.ClassifyResponse:
        """Ask a task, and, where names are to be extracted first, again; raises what `Asking.of` does."""
        run, ask = self._run(options), self._asking(options).of
        while True:
            response: pb.ClassifyResponse | None = await run(ask, task, outcomes, times)
            if response is not None:
                return response
            await self.learn_names(task, call)

    def _asking(self, options: Options) -> Asking:
        return Asking(self.tasks, self._names, options, self.limits.max_message_bytes)

    def _run(self, options: Options) -> Callable[..., Coroutine[Any, Any, Any]]:
        return self.tasks.on_disk if options.with_items else self.tasks.answering

    def taught(self, task: "Task", support: "Support") -> "Taught | None":
        """Return what a support has taught; None, where names must be extracted first. For any thread."""
        return taught_by(self.tasks.learner, self._names, task, support)

    async def learn_names(self, task: "Task", call: Call) -> None:
        """Extract the names of a zero-shot task's classes that are not known yet."""
        facts = task.facts
        with self.extractor(facts) as extractor:
            texts = await self.tasks.answering(
                self._names.missing, facts.fingerprint, task.support.labels, task.settings
            )
            await self.learn_texts(extractor, texts, call)

    async def names(
        self, extractor: Extractor, labels: Sequence[str], settings: "Settings", call: Call
    ) -> "Mapping[str, NDArray[np.float32]]":
        """Return the vector (dim,) of each label's name."""
        numbered = dict(enumerate(labels))
        while (found := self._names.of("", extractor.fingerprint, numbered, settings)) is None:
            await self.learn_texts(extractor, self._names.missing(extractor.fingerprint, numbered, settings), call)
        return found

    async def learn_texts(self, extractor: Extractor, texts: Sequence[str], call: Call) -> None:
        """Extract texts that stand for the names of classes, and remember their vectors."""
        outcomes = await in_windows(extractor, [text.encode() for text in texts], call, self.sight)
        for text, one in zip(texts, outcomes, strict=True):
            if one.error is not None:
                raise type(one.error)(f"{shown(text)}, for the name of a class: {one.error}")
        found = [one.embedding for one in outcomes if one.embedding is not None]
        self._names.remember(extractor.fingerprint, texts, found)


def check_reads_names(extractor: Extractor) -> None:
    """Raise InvalidOption where a backbone cannot embed the names of classes."""
    if extractor.spec.modality != TEXT:
        raise InvalidOption(
            f"zero_shot is true, and backbone {extractor.spec.name!r} embeds {extractor.spec.modality}, no texts: it "
            "cannot read the names of classes; leave zero_shot out"
        )
