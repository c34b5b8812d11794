"""`ClassifyWithExamples`: examples and items of one call -> its answer; nothing is kept."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import EmbeddingMismatch, NotFinite
from extractor.errors import BackboneChanged, RequestInvalid
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.stages import StageTimes
from headwater.service import answers, taught, teaching
from headwater.service.answers import Options
from headwater.service.calls import Call
from headwater.service.classifying import Classifying, check_reads_names
from headwater.service.extractor import extract
from headwater.service.served import Served, shown
from headwater.service.upload import matrix
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.tasks.settings import Settings


class Once:
    """One call of `ClassifyWithExamples`.

    Parameters
    ----------
    request : ClassifyWithExamplesRequest
    call : Call
    asked : Classifying
    """

    def __init__(self, request: pb.ClassifyWithExamplesRequest, call: Call, asked: Classifying) -> None:
        self._request = request
        self._call = call
        self._asked = asked
        self._n_examples = len(request.examples.items) or len(request.examples.labels)
        self._names: Mapping[str, NDArray[np.float32]] = {}

    async def classify(self, served: Served) -> pb.ClassifyResponse:
        """Return the answer.

        Raises
        ------
        RequestInvalid, RequestTooLarge, LimitExceeded, InvalidOption, BackboneNotFound, BackboneChanged
        TaskEmpty, EmbeddingMismatch, NotFinite, ItemError
            Where an example cannot be had.
        """
        request, examples = self._request, self._request.examples
        options = answers.to_options(request.options)
        self._check_either()
        settings = await self._asked.tasks.on_disk(self._settings)
        with ExitStack() as using:
            extractor = None
            if request.items or examples.items or settings.zero_shot:
                extractor = using.enter_context(served.using(request.backbone))
            fingerprint = self._fingerprint(extractor)
            dim = extractor.dim if extractor is not None else self._dim()
            n = self._n_examples + (len(request.items) or -(-len(request.embeddings) // (4 * dim)))
            self._asked.check_count(n)
            self._call.charge(n)
            known, queries, times = await self._embed(extractor, dim)
            if extractor is not None and settings.zero_shot:
                check_reads_names(extractor)
                labels = sorted({*examples.labels, *settings.texts})
                self._names = await self._asked.names(extractor, labels, settings, self._call)
        return await self._asked.tasks.learning(self._answer, settings, options, known, queries, times, fingerprint)

    def _check_either(self) -> None:
        request = self._request
        for part, items in ((request.examples, request.examples.items), (request, request.items)):
            if items and part.embeddings:
                raise RequestInvalid("the request has items and embeddings where one may be; send items or embeddings")
        if request.examples.items and len(request.examples.labels) != self._n_examples:
            raise RequestInvalid(
                f"there are {self._n_examples:,} examples and {len(request.examples.labels):,} labels; give one to each"
            )

    def _settings(self) -> "Settings":
        from classifiers.tasks import Limits

        limits, settings = Limits(), taught.to_settings(self._request.settings)
        limits.check_settings(settings)
        self._asked.check_count(len(settings.texts))
        teaching.check(self._request.examples, self._n_examples, limits)
        return settings

    def _fingerprint(self, extractor: Extractor | None) -> str:
        """Return the one of all embeddings; raises RequestInvalid, BackboneChanged, EmbeddingMismatch."""
        request = self._request
        sent = [part.fingerprint for part in (request.examples, request) if part.embeddings]
        if "" in sent:
            raise RequestInvalid("the request has embeddings and does not say of what; give their fingerprint")
        if extractor is not None:
            if strange := [one for one in sent if one != extractor.fingerprint]:
                raise BackboneChanged(
                    f"the embeddings are of the fingerprint {shown(strange[0])}, and backbone {extractor.spec.name!r} "
                    f"has {extractor.fingerprint}; name the backbone that they are of, or extract them again"
                )
            return extractor.fingerprint
        if len(set(sent)) > 1:
            raise EmbeddingMismatch(
                f"the examples are of the fingerprint {shown(sent[0])}, and the embeddings to classify of "
                f"{shown(sent[1])}; extract all with one backbone"
            )
        return sent[0] if sent else ""

    def _dim(self) -> int:
        """Return the length of an embedding, where no backbone tells it: each example has a label."""
        n_bytes = len(self._request.examples.embeddings)
        if n_bytes % (4 * max(1, self._n_examples)) or (self._n_examples and not n_bytes):
            raise RequestInvalid(
                f"the embeddings of {self._n_examples:,} labelled examples have {n_bytes:,} bytes; send one row of "
                "float32 for each label"
            )
        return max(1, n_bytes // (4 * max(1, self._n_examples)))

    async def _embed(
        self, extractor: Extractor | None, dim: int
    ) -> tuple[NDArray[np.float32], list[Outcome], StageTimes]:
        """Return the examples (n, dim), and what became of each item that is to be classified."""
        request, examples = self._request, self._request.examples
        n = len(examples.items)
        found, times = list[Outcome](), StageTimes()
        if extractor is not None and (examples.items or request.items):
            items = [item.data for item in (*examples.items, *request.items)]
            found, times = await extract(extractor, items, self._call)
            self._asked.sight.embedded(self._call, extractor.spec.name, found, times)
        for position, one in enumerate(found[:n]):
            if one.error is not None:
                raise type(one.error)(f"example {position}: {one.error}")
        known = answers.rows_of(found[:n], dim) if n else matrix(examples.embeddings, dim)
        wrong = np.flatnonzero(~np.isfinite(known).all(axis=1))
        if len(wrong):
            raise NotFinite.in_rows(wrong.tolist(), len(known))
        if len(known) != len(examples.labels):
            raise RequestInvalid(
                f"there are {len(known):,} examples and {len(examples.labels):,} labels; give one to each"
            )
        queries = found[n:] if request.items else answers.as_outcomes(matrix(request.embeddings, dim))
        return known, queries, times

    def _answer(
        self,
        settings: "Settings",
        options: Options,
        known: NDArray[np.float32],
        queries: list[Outcome],
        times: StageTimes,
        fingerprint: str,
    ) -> pb.ClassifyResponse:
        labels = list(self._request.examples.labels)
        ids = list(self._request.examples.ids) or [str(i) for i in range(len(labels))]
        X = answers.rows_of(queries, known.shape[1])
        learnt = self._asked.tasks.learner.once(known, labels, settings, self._names)
        evidence = answers.nearest(X, known, ids, labels, options.neighbours)
        response = answers.respond(learnt, X, queries, evidence, options, times, fingerprint)
        return answers.bounded(response, options, self._asked.limits.max_message_bytes)
