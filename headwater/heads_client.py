"""What `Client` can ask about heads: predict, train, watch, list, activate, delete."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Unpack

import grpc
from numpy.typing import ArrayLike

from extractor.errors import BackboneChanged
from extractor.items import Item, check_several
from headwater.content import content_of
from headwater.convert import BackboneInfo
from headwater.core import ClientCore
from headwater.exchange import A, Progress, Question
from headwater.head_calls import Batch, Patience, Predicting, Target, Training, embedding_messages, embedding_requests
from headwater.head_calls import order as order_of
from headwater.heads import EMBEDDING, HeadInfo, JobInfo, VersionInfo, to_head, to_job, to_predictions, to_version
from headwater.prediction import Prediction
from headwater.v1 import classifier_pb2 as pb

Messages = Iterable[pb.TrainHeadRequest]


class HeadCalls(ClientCore):
    """The methods of `Client` that are about heads. A head is `NAME`, `NAME@3` or `NAME@ALIAS`."""

    _stub: Any

    if TYPE_CHECKING:  # what `Client` has

        def describe(self, backbone: str = "") -> BackboneInfo:  # noqa: D102
            ...
        def _ask(self, method: Callable[..., Any], request: Any, *, patient: bool = False) -> Any: ...
        def _call(self, method: Callable[..., Any], request: Any, **options: Any) -> Any: ...
        def _answers(
            self, question: Question[A], items: Iterable[Item], progress: Progress | None
        ) -> Generator[A, None, None]: ...

    def predict(
        self,
        head: str,
        items: Iterable[Item],
        *,
        top: int = 1,
        backbone: str = "",
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Tell the labels of items; each gets a prediction or its own error, in the order of the items.

        Parameters
        ----------
        head : str
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
        top : int
            Labels to give for each, the likeliest first; at most 100.
        backbone : str, optional
            By default the one that the head was trained on.
        progress : callable, optional
            Called with (items done, items in all or None) whenever some are done.

        Raises
        ------
        HeadNotFound
        HeadInvalid
            The head is damaged or was altered.
        BackboneChanged
            The backbone is not the one that the head was trained on.
        HeadwaterError, ExtractorError
            Any other failure of a call; see `extract`.
        """
        return list(self.iter_predictions(head, items, top=top, backbone=backbone, progress=progress))

    def iter_predictions(
        self,
        head: str,
        items: Iterable[Item],
        *,
        top: int = 1,
        backbone: str = "",
        progress: Progress | None = None,
    ) -> Generator[Prediction, None, None]:
        """Tell the labels of items of any number, a few requests at a time, and yield the predictions in order."""
        check_several(items)
        read_by = self.describe(backbone or self._backbone_of(head))
        try:
            with closing(self._answers(Predicting(read_by, head, backbone, top), items, progress)) as predictions:
                yield from predictions
        except BackboneChanged:
            self._forget()
            raise

    def predict_embeddings(self, head: str, X: ArrayLike, *, fingerprint: str, top: int = 1) -> list[Prediction]:
        """Tell the labels of embeddings X (n, dim), float32, of the backbone with a fingerprint; see `predict`."""
        found: list[Prediction] = []
        for request in embedding_requests(head, X, fingerprint, top):
            found.extend(to_predictions(self._ask(self._stub.Predict, request, patient=True)))
        return found

    def train_head(
        self,
        name: str,
        items: Iterable[Item],
        labels: Iterable[Target],
        *,
        backbone: str = "",
        progress: Progress | None = None,
        **choices: Unpack[Training],
    ) -> "TrainingJob":
        """Send labelled items, and return the job that trains a head on them once they have all come.

        Items that cannot be embedded are left out; the job tells them.

        Parameters
        ----------
        name : str
            Of the head; where there is one of that name, this becomes its next version.
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
            Of any length; read as they are sent.
        labels : iterable of str, of lists of str, or of numbers
            One for each item.
        backbone : str, optional
        progress : callable, optional
            Called with (items embedded, None).
        choices
            See `headwater.head_calls.Training`.

        Raises
        ------
        ClassifierError
            A choice that there is not, a label that is none.
        JobsFull, HeadNotFound, HeadwaterError, ExtractorError
        """
        info = self.describe(backbone)
        batch = Batch(info)
        first = order_of(name, choices, backbone=info.name)
        job = self._send_examples(first, _item_messages(batch, check_several(items), labels), progress)
        job.unsent = batch.failures
        return job

    def train_head_on_embeddings(
        self,
        name: str,
        X: ArrayLike,
        labels: Iterable[Target],
        *,
        fingerprint: str,
        backbone: str = "",
        **choices: Unpack[Training],
    ) -> "TrainingJob":
        """Send embeddings X (n, dim), float32, with their labels, and return the job; see `train_head`."""
        first = order_of(name, choices, backbone=backbone or self.backbone, fingerprint=fingerprint)
        return self._send_examples(first, embedding_messages(X, labels), None)

    def train_head_on_dump(
        self, name: str, dump: str, *, backbone: str = "", **choices: Unpack[Training]
    ) -> "TrainingJob":
        """Train on a dump, by its path below the folder that the server's operator allows; see `train_head`."""
        first = order_of(name, choices, backbone=backbone or self.backbone, dump=dump)
        return self._send_examples(first, (), None)

    def job(self, identity: str) -> JobInfo:
        """Return how a job is now; raises JobNotFound."""
        return to_job(self._ask(self._stub.GetJob, pb.GetJobRequest(id=identity)))

    def jobs(self) -> list[JobInfo]:
        """Return the jobs of this key, the newest first."""
        return [to_job(message) for message in self._ask(self._stub.ListJobs, pb.ListJobsRequest()).jobs]

    def watch_job(self, identity: str) -> Generator[JobInfo, None, None]:
        """Yield how a job is, now and whenever that changes, until it has ended.

        A connection that breaks is taken up again within `timeout_s`. Raises JobNotFound.
        """
        last, tries = None, None
        while last is None or not last.has_ended:
            call = self._call(self._stub.WatchJob, pb.WatchJobRequest(id=identity), timeout=self.timeout_s)
            try:
                for event in call:
                    tries, now = None, to_job(event.job)
                    if now != last:
                        yield now
                    last = now
            except grpc.RpcError as error:
                failure = self._failure(error)
                if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and last is not None:
                    continue  # nothing changed for long; ask whether the server is still there
                tries = tries or self._tries(patient=True)
                pause = tries.pause_s(failure, time.monotonic())
                if pause is None:
                    raise failure.error from None
                time.sleep(pause)
            finally:
                call.cancel()

    def cancel_job(self, identity: str) -> JobInfo:
        """Cancel a job, and return how it ended; raises JobNotFound."""
        return to_job(self._ask(self._stub.CancelJob, pb.CancelJobRequest(id=identity)))

    def heads(self) -> list[HeadInfo]:
        """Return the heads with their versions, without labels."""
        return [to_head(message) for message in self._ask(self._stub.ListHeads, pb.ListHeadsRequest()).heads]

    def head(self, head: str) -> VersionInfo:
        """Return the facts of one version; raises HeadNotFound, HeadInvalid."""
        return to_version(self._ask(self._stub.GetHead, pb.GetHeadRequest(head=head)))

    def activate_head(self, head: str, alias: str = "production") -> str:
        """Let an alias stand for a version from now on, and return what it stood for: `NAME@2`, or "" for nothing."""
        request = pb.ActivateHeadRequest(head=head, alias=alias)
        previous: str = self._ask(self._stub.ActivateHead, request).previous
        return previous

    def delete_head(self, head: str) -> None:
        """Delete a version, `NAME@3`, or a head with all its versions, `NAME`; raises HeadNotFound, HeadInUse."""
        self._ask(self._stub.DeleteHead, pb.DeleteHeadRequest(head=head))

    def _backbone_of(self, head: str) -> str:
        """Return the backbone that a head was trained on; asked for once, for only its limits are wanted here."""
        if head not in self._trained_on:
            self._trained_on[head] = self.head(head).backbone
        return self._trained_on[head]

    def _send_examples(
        self, first: pb.TrainHeadRequest, messages: Messages, progress: Progress | None
    ) -> "TrainingJob":
        """Send an order until it is taken, then the examples once."""
        tries = self._tries(patient=True)
        while True:
            sending = _Sending(first, messages, Patience(self.timeout_s))
            sending.call = self._call(self._stub.TrainHead, sending.messages())
            try:
                return TrainingJob(self, sending.run(progress))
            except grpc.RpcError as error:
                failure = self._failure(error)
            if sending.error is not None:
                raise sending.error
            pause = None if sending.is_taken else tries.pause_s(failure, time.monotonic())
            if pause is None:
                raise failure.error
            time.sleep(pause)


class TrainingJob:
    """A training job on a server; iterate over it to see how far it is, or wait for its `result`.

    Parameters
    ----------
    client : Client
    info : JobInfo
        How it is, as far as this side knows.

    Attributes
    ----------
    unsent : dict of int to ExtractorError
        Items that could not be read here, by their positions.
    """

    def __init__(self, client: HeadCalls, info: JobInfo) -> None:
        self._client = client
        self.info = info
        self.unsent: dict[int, Any] = {}

    @property
    def id(self) -> str:
        """By which it is watched from elsewhere."""
        return self.info.id

    def __iter__(self) -> Iterator[JobInfo]:
        if self.info.has_ended:
            yield self.info
            return
        for info in self._client.watch_job(self.id):
            self.info = info
            yield info

    def result(self) -> JobInfo:
        """Wait until it has ended, and return how: with its `version` and `metrics`.

        Raises
        ------
        ClassifierError, JobCancelled, JobFailed, HeadwaterError, ExtractorError
            Why there is no head.
        """
        for _ in self:
            pass
        if self.info.error is not None:
            raise self.info.error
        return self.info

    def cancel(self) -> JobInfo:
        """Cancel it, and return how it ended."""
        self.info = self._client.cancel_job(self.id)
        return self.info


class _Sending:
    """One call of TrainHead: gRPC's thread sends, another receives, and the caller's waits for both."""

    def __init__(self, first: pb.TrainHeadRequest, messages: Messages, patience: Patience) -> None:
        self._first = first
        self._messages = messages
        self._patience = patience
        self._told: SimpleQueue[JobInfo | None] = SimpleQueue()
        self._go = Event()  # the order is taken, or the call is over
        self.call: Any = None
        self.is_taken = False
        self.error: BaseException | None = None  # of the caller's own items

    def messages(self) -> Iterator[pb.TrainHeadRequest]:
        """Yield the order, and once it is taken the examples; an error of theirs must not look like their end."""
        yield self._first
        self._go.wait()
        if not self.is_taken:
            return  # the call is over
        try:
            self._patience.ours(True)
            for message in self._messages:
                self._patience.ours(False)
                yield message
                self._patience.ours(True)
            self._patience.ours(False)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            self.call.cancel()

    def run(self, progress: Progress | None) -> JobInfo:
        """Send and receive until everything has come; raises grpc.RpcError."""
        Thread(target=self._receive, name="training", daemon=True).start()
        last: JobInfo | None = None
        try:
            while (info := self._next()) is not None:
                last, self.is_taken = info, True
                self._go.set()
                if progress is not None and info.state == EMBEDDING:
                    progress(info.done, None)
        finally:
            self.call.cancel()
            self._go.set()
        if last is None or self.call.code() is not grpc.StatusCode.OK:
            raise self.call
        return last

    def _next(self) -> JobInfo | None:
        while True:
            try:
                return self._told.get(timeout=max(0.01, self._patience.left_s))
            except Empty:
                if self._patience.left_s <= 0:
                    raise self._patience.over() from None

    def _receive(self) -> None:
        with suppress(grpc.RpcError):  # it is the call
            for event in self.call:
                self._patience.renew()
                self._told.put(to_job(event.job))
        self._told.put(None)


def _item_messages(batch: Batch, items: Iterable[Item], labels: Iterable[Target]) -> Messages:
    for item, label in zip(items, labels, strict=True):
        if (message := batch.take(content_of(item, batch.info), label)) is not None:
            yield message
    if (message := batch.rest()) is not None:
        yield message
