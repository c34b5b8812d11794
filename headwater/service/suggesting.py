"""`Suggest`: a stream of items or embeddings -> a pool on disk -> which of them to label next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import NotFinite, TaskUnwritable
from extractor.errors import ExtractorError, RequestInvalid, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from headwater.heads import item_status
from headwater.service import answers, teaching
from headwater.service.calls import Call
from headwater.service.classifying import Classifying
from headwater.service.served import shown
from headwater.service.upload import GRACE_S, next_message
from headwater.service.windows import in_windows
from headwater.v1 import classifier_pb2
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.learner import Taught
    from classifiers.tasks import Support, Task

SUGGESTIONS, MAX_SUGGESTIONS = 10, 1000
MAX_ITEMS = 100_000
MAX_BYTES = 1 << 30  # of embeddings
MAX_FAILURES = 100  # that are told
CHUNK = 1024  # rows that are classified at once


class Pool:
    """The items of one call, embedded as they come and kept on disk: any number of callers may take their time.

    Parameters
    ----------
    task : Task
    call : Call
    asked : Classifying
    """

    def __init__(self, task: "Task", call: Call, asked: Classifying) -> None:
        self._task = task
        self._call = call
        self._asked = asked
        self._extractor: Extractor | None = None  # from the first message with items on
        self._using = ExitStack()  # of that extractor, and the file
        self._file: IO[bytes]
        self._n_items = 0
        self._positions: list[NDArray[np.int64]] = []  # of the rows, among the items of all messages
        self._failures: dict[int, ExtractorError] = {}
        self._n_failed = 0

    async def __aenter__(self) -> Self:
        self._file = await self._asked.tasks.on_disk(self._begun)
        self._using.callback(self._file.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._using.close()

    async def fill(self, first: pb.SuggestRequest, requests: AsyncIterator[pb.SuggestRequest]) -> None:
        """Take what comes until the sender closes its side.

        Raises
        ------
        RequestInvalid, RequestTooLarge, NotFinite, EmbeddingMismatch, BackboneNotFound, BackboneChanged
        TaskUnwritable
        """
        message: pb.SuggestRequest | None = first
        while message is not None:
            if message.task not in ("", self._task.facts.name):
                raise RequestInvalid(
                    f"message names task {shown(message.task)}, the first one {self._task.facts.name!r}; call again"
                )
            await self._take(message)
            message = await next_message(requests)
        await asyncio.sleep(GRACE_S)

    async def suggest(self, n: int) -> pb.SuggestResponse:
        """Return n suggestions, or as many as there are; raises what learning a task's names does."""
        response = pb.SuggestResponse(
            failed_items=self._n_failed,
            failures=[
                classifier_pb2.FailedItem(position=at, error=item_status(error)) for at, error in self._failures.items()
            ],
        )
        while not await self._asked.tasks.apart(self._choose, n, response):
            await self._asked.learn_names(self._task, self._call)
        return response

    async def _take(self, message: pb.SuggestRequest) -> None:
        dim = self._task.facts.dim
        n = self._asked.count(len(message.items), message.embeddings, dim)
        if self._n_items + n > MAX_ITEMS or (self._n_items + n) * 4 * dim > MAX_BYTES:
            raise RequestTooLarge(
                f"the pool has more than {min(MAX_ITEMS, MAX_BYTES // (4 * dim)):,} items, the limit; send a sample"
            )
        await self._call.pace(n)
        if message.items:
            X, positions = self._kept(await self._outcomes([item.data for item in message.items]))
        else:
            X, positions = self._given(message), np.arange(n)
            self._call.n_items += n
        await self._asked.tasks.on_disk(self._write, X)
        self._positions.append(positions + self._n_items)
        self._n_items += n

    async def _outcomes(self, items: list[bytes]) -> list[Outcome]:
        if self._extractor is None:
            self._extractor = self._using.enter_context(self._asked.extractor(self._task.facts))
        outcomes = await in_windows(self._extractor, items, self._call, self._asked.sight)
        teaching.check_outcomes(outcomes)
        return outcomes

    def _kept(self, outcomes: list[Outcome]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the embeddings among outcomes and where they stand; take down what failed."""
        failed = {self._n_items + i: one.error for i, one in enumerate(outcomes) if one.error is not None}
        self._n_failed += len(failed)
        for at, error in list(failed.items())[: MAX_FAILURES - len(self._failures)]:
            self._failures[at] = error
        good = [i for i, one in enumerate(outcomes) if one.error is None]
        return answers.rows_of(outcomes, self._task.facts.dim), np.array(good, np.int64)

    def _given(self, message: pb.SuggestRequest) -> NDArray[np.float32]:
        facts = self._task.facts
        if not message.embeddings:
            return np.zeros((0, facts.dim), np.float32)
        X = answers.given(message.embeddings, message.fingerprint, facts.fingerprint, facts.dim, f"task {facts.name!r}")
        wrong = np.flatnonzero(~np.isfinite(X).all(axis=1))
        if len(wrong):
            raise NotFinite.in_rows((wrong + self._n_items).tolist(), self._n_items + len(X))
        return X

    def _begun(self) -> IO[bytes]:
        try:
            return TemporaryFile(dir=self._asked.tasks.store.folder)
        except OSError as error:
            raise _not_kept(error) from None

    def _write(self, X: NDArray[np.float32]) -> None:
        try:
            self._file.write(X.tobytes())
        except OSError as error:
            raise _not_kept(error) from None

    def _choose(self, n: int, response: pb.SuggestResponse) -> bool:
        """Put suggestions into a response; False, where names must be extracted first."""
        from classifiers.suggest import suggest

        positions = np.concatenate([np.zeros(0, np.int64), *self._positions])
        response.ClearField("suggestions")
        support = self._task.support
        response.version = support.version
        if not len(positions):
            return True
        self._file.flush()
        X = np.memmap(self._file, np.float32, "r", shape=(len(positions), self._task.facts.dim))
        taught = self._asked.taught(self._task, support) if self._knows(support) else None
        if taught is None and self._knows(support):
            return False
        chances, labels = (None, [""] * len(X)) if taught is None else _likeliest(taught, X)
        found = suggest(X, n, probabilities=chances, X_known=support.X if len(support) else None)
        response.reason = found.reason
        for at, uncertainty in zip(found.positions.tolist(), found.uncertainty.tolist(), strict=True):
            response.suggestions.add(position=int(positions[at]), label=labels[at], uncertainty=uncertainty)
        return True

    def _knows(self, support: "Support") -> bool:
        """Tell whether a task knows two classes, by examples or by their names."""
        n_known = len(support.labels) if self._task.settings.zero_shot else len(np.unique(support.classes))
        return n_known >= 2


def _likeliest(taught: "Taught", X: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the two largest probabilities (n, 2) of each row, on which its margin depends, and its label."""
    parts, labels = [], []
    for start in range(0, len(X), CHUNK):
        probabilities = taught.classify(np.asarray(X[start : start + CHUNK])).probabilities
        labels.extend(taught.labels[probabilities.argmax(axis=1)].tolist())
        parts.append(np.partition(probabilities, -2, axis=1)[:, -2:])
    return np.concatenate(parts), labels


def _not_kept(error: OSError) -> TaskUnwritable:
    return TaskUnwritable(f"the pool could not be kept ({error.strerror}); make room on the server, and repeat")
