"""What `Client` can ask about few-shot tasks: teach by example, ask at once, look, undo, take a task elsewhere."""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Unpack

import grpc
from numpy.typing import ArrayLike

from extractor.items import Item, check_several
from headwater import fewshot_calls as calls
from headwater.adding import Adding, Tag, check_lengths, check_no_more, next_tag, rows_to_add, tags_of
from headwater.content import Content, content_of
from headwater.convert import BackboneInfo, RequestLimits
from headwater.core import ClientCore
from headwater.exchange import A, Progress, Question, StreamQuestion
from headwater.fewshot import (
    Addition,
    AuditReport,
    ChangeInfo,
    Classification,
    ExampleInfo,
    Suggestions,
    TaskInfo,
    to_task,
)
from headwater.fewshot_calls import Asked, Choices, Classifying, Pause, Shown, Steps, T
from headwater.fewshot_files import parts_of, written
from headwater.head_calls import Patience
from headwater.pool import Pool, pool_messages, pool_of_embeddings
from headwater.v1 import fewshot_pb2 as pb


class TaskCalls(ClientCore):
    """The methods of `Client` that are about few-shot tasks."""

    _stub: Any

    if TYPE_CHECKING:  # what `Client` has

        def describe(self, backbone: str = "") -> BackboneInfo:  # noqa: D102
            ...
        def _ask(self, method: Callable[..., Any], request: Any, *, patient: bool = False) -> Any: ...
        def _call(self, method: Callable[..., Any], request: Any, **options: Any) -> Any: ...
        def _answers(
            self, question: Question[A], items: Iterable[Item], progress: Progress | None
        ) -> Generator[A, None, None]: ...
        def _streamed(
            self, question: StreamQuestion[A], items: Iterable[Item], progress: Progress | None
        ) -> Generator[tuple[int, A], None, None]: ...

    def create_task(
        self,
        name: str,
        *,
        labels: Iterable[str] = (),
        backbone: str = "",
        fingerprint: str = "",
        keep_items: bool = False,
        **choices: Unpack[Choices],
    ) -> "FewShotTask":
        """Make a few-shot task.

        Parameters
        ----------
        name : str
            1 to 100 letters, digits, '.', '_' and '-'.
        labels : iterable of str
            Classes to begin with; others come with their examples.
        backbone : str, optional
            That embeds its items.
        fingerprint : str, optional
            What the backbone's has to be.
        keep_items : bool
            Keep items beside their embeddings, so that neighbours can be shown.
        choices
            How it classifies: see `headwater.fewshot_calls.Choices`.

        Raises
        ------
        TaskExists
            There is one of that name, perhaps by an earlier try of this call, whose answer was lost.
        ClassifierError
            A name, a label or a choice that there cannot be.
        HeadwaterError, ExtractorError
        """
        made = self._run(calls.create(name, labels, backbone or self.backbone, fingerprint, keep_items, choices))
        return FewShotTask(self, made)

    def task(self, name: str) -> "FewShotTask":
        """Return a task, to be taught and asked; raises TaskNotFound, TaskInvalid."""
        return FewShotTask(self, self._run(calls.info(name)))

    def tasks(self) -> list[TaskInfo]:
        """Return the facts of all tasks, by name, without their classes; those that cannot be read say why."""
        return self._run(calls.tasks())

    def delete_task(self, name: str, *, if_version: int | None = None) -> None:
        """Delete a task and all that it holds, for good; raises TaskNotFound, VersionConflict."""
        self._run(calls.delete(name, if_version))

    def import_task(self, path: str | Path, *, name: str = "") -> "FewShotTask":
        """Make a task of a file that `FewShotTask.export` has written, by default under the name that it had.

        Raises
        ------
        TaskExists
        TaskInvalid
            The file is damaged, too new, or no task.
        EmbeddingMismatch, BackboneNotFound
            Its embeddings are of another backbone than the server has.
        OSError
            The file cannot be read.
        """
        response = self._upload("ImportTask", lambda: calls.import_messages(name, parts_of(Path(path))), True)
        return FewShotTask(self, to_task(response))

    def classify_with_examples(
        self,
        examples: Iterable[Item],
        labels: Iterable[str],
        items: Iterable[Item],
        *,
        backbone: str = "",
        **asked: Unpack[Asked],
    ) -> list[Classification]:
        """Tell the labels of items by examples that come in the same call; the server keeps nothing.

        Parameters
        ----------
        examples, items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
            At most 1,024 together.
        labels : iterable of str
            Of the examples.
        backbone : str, optional
        asked
            How, and what is told: see `headwater.fewshot_calls.Choices` and `Shown`.

        Returns
        -------
        list of Classification
            One for each item, in their order, each with its own error where it has one.

        Raises
        ------
        ClassifierError, ExtractorError
            An example that cannot be embedded, an option that there is not.
        HeadwaterError
        """
        info = self.describe(backbone)
        known = [content_of(one, info) for one in check_several(examples)]
        asked_about = [content_of(one, info) for one in check_several(items)]
        return self._run(calls.with_examples(known, labels, asked_about, info.name, asked))

    def classify_with_example_embeddings(
        self, examples: ArrayLike, labels: Iterable[str], X: ArrayLike, *, fingerprint: str, **asked: Unpack[Asked]
    ) -> list[Classification]:
        """Tell the labels of embeddings X (n, dim), float32, by others (n_examples, dim) of the same fingerprint."""
        return self._run(calls.with_example_embeddings(examples, labels, X, fingerprint, asked))

    def _run(self, steps: Steps[T], *, patient: bool = False) -> T:
        """Do the steps of a call."""
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = self._ask(getattr(self._stub, step.method), step.request, patient=patient)

    def _upload(self, method: str, messages: Callable[[], Iterable[Any]], can_repeat: bool) -> Any:
        """Send messages, and return the answer; all of them again, where that can be and may help."""
        tries = self._tries(patient=True)
        while True:
            sending = _Sending(messages(), Patience(self.timeout_s))
            call = self._call(getattr(self._stub, method).future, iter(sending))
            sending.began(call)
            try:
                with _watched(call, sending.patience):
                    return call.result()
            except (grpc.RpcError, grpc.FutureCancelledError):
                if sending.error is not None:
                    raise sending.error from None
                if sending.patience.left_s <= 0:
                    raise sending.patience.over() from None
                failure = self._failure(call)
            pause = tries.pause_s(failure, time.monotonic()) if can_repeat else None
            if pause is None:
                raise self._given_up(failure, tries)
            time.sleep(pause)

    def _download(self, method: str, request: Any) -> Iterator[Any]:
        """Yield the messages of an answer."""
        patience = Patience(self.timeout_s)
        call = self._call(getattr(self._stub, method), request)
        try:
            with _watched(call, patience):
                for message in call:
                    patience.ours(True)
                    yield message
                    patience.ours(False)
        except grpc.RpcError:
            if patience.left_s <= 0:
                raise patience.over() from None
            raise
        finally:
            call.cancel()


class FewShotTask:
    """A few-shot task on a server; `Client.task` and `Client.create_task` give it. It holds no state but its name.

    Every change makes a version, which the method returns. `if_version` refuses a change, with VersionConflict, unless
    the task is at that version: for two teachers at once. A call whose answer was lost is repeated: what was added is
    not added twice, and no more is undone; other changes may then say that what they remove is gone, or, with
    `if_version`, VersionConflict, and a note on the error says why. Besides what is said at each method, all of them
    raise TaskNotFound once the task is deleted, LimitExceeded for more than it may hold, HeadwaterError, and
    ExtractorError.

    Parameters
    ----------
    client : Client
    info : TaskInfo

    Attributes
    ----------
    name, backbone, fingerprint : str

    Examples
    --------
    >>> task = client.create_task("mail", backbone="minilm-l6")  # doctest: +SKIP
    >>> task.add(["Where is my parcel?", "I want my money back."], ["delivery", "refund"])  # doctest: +SKIP
    >>> task.classify(["When will the courier come?"])[0].label  # doctest: +SKIP
    'delivery'
    """

    def __init__(self, client: TaskCalls, info: TaskInfo) -> None:
        self._client = client
        self.name = info.name
        self.backbone = info.backbone
        self.fingerprint = info.fingerprint

    def __repr__(self) -> str:
        return f"FewShotTask({self.name!r}, backbone={self.backbone!r})"

    def info(self) -> TaskInfo:
        """Return its facts now: version, classes, settings."""
        return self._run(calls.info(self.name))

    def update(self, *, if_version: int | None = None, **choices: Unpack[Choices]) -> TaskInfo:
        """Change how it classifies; see `headwater.fewshot_calls.Choices`. This cannot be undone: set it back."""
        return self._run(calls.update(self.name, choices, if_version))

    def add(
        self,
        items: Iterable[Item],
        labels: Iterable[str],
        *,
        ids: Iterable[str] | None = None,
        notes: Iterable[str] | None = None,
        if_version: int | None = None,
        progress: Progress | None = None,
    ) -> Addition:
        """Teach examples; on disk when this returns, and used by the next `classify`.

        1,024 at a time are one change; one that cannot be embedded gets its own error and the others are added. Where
        a call fails half-way, those that were sent before are there: with ids it can be made again, and adds the rest.

        Parameters
        ----------
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
        labels : iterable of str
            One for each; one that is new is a new class.
        ids : iterable of str, optional
            One for each, by which it is removed and relabelled; by default made here.
        notes : iterable of str, optional
            One for each, shown with neighbours.
        if_version : int, optional
        progress : callable, optional
            Called with (examples done, None) whenever some are done.

        Raises
        ------
        InvalidLabels
            One that there cannot be, or not as many as items.
        ExampleConflict
            An id is taken by an example with another label or embedding.
        VersionConflict
        """
        check_lengths(items=items, labels=labels, ids=ids, notes=notes)
        info = self._client.describe(self.backbone)
        adding = Adding(self.name, info.request_limits, self._client.timeout_s, if_version)
        contents = (content_of(item, info) for item in check_several(items))
        return self._add(adding, contents, tags_of(labels, ids, notes), progress)

    def add_embeddings(
        self,
        X: ArrayLike,
        labels: Iterable[str],
        *,
        fingerprint: str,
        ids: Iterable[str] | None = None,
        notes: Iterable[str] | None = None,
        if_version: int | None = None,
    ) -> Addition:
        """Teach embeddings X (n, dim), float32, finite, of the backbone with a fingerprint; see `add`.

        Raises
        ------
        EmbeddingMismatch
            They are of another backbone, or of another length, than the task's.
        NotFinite
        """
        check_lengths(embeddings=X, labels=labels, ids=ids, notes=notes)
        adding = Adding(self.name, RequestLimits(), self._client.timeout_s, if_version, fingerprint)
        return self._add(adding, rows_to_add(X, fingerprint), tags_of(labels, ids, notes), None)

    def remove(self, ids: Iterable[str], *, if_version: int | None = None) -> int:
        """Remove examples, all or none, and return the version; raises ExampleNotFound."""
        return self._run(calls.remove(self.name, ids, if_version))

    def relabel(self, labels: Mapping[str, str], *, if_version: int | None = None) -> int:
        """Give examples other labels, by their ids, all or none, and return the version; raises ExampleNotFound."""
        return self._run(calls.relabel(self.name, labels, if_version))

    def rename_class(self, label: str, to: str, *, if_version: int | None = None) -> int:
        """Give a class a label that no other has, and return the version; raises InvalidLabels."""
        return self._run(calls.rename_class(self.name, label, to, if_version))

    def merge_classes(self, labels: Iterable[str], into: str, *, if_version: int | None = None) -> int:
        """Put the examples of classes into another one, remove the classes, and return the version."""
        return self._run(calls.merge_classes(self.name, labels, into, if_version))

    def remove_class(self, label: str, *, if_version: int | None = None) -> int:
        """Remove a class and its examples, and return the version; raises InvalidLabels."""
        return self._run(calls.remove_class(self.name, label, if_version))

    def undo(self, n: int = 1, *, if_version: int | None = None) -> int:
        """Take back the last changes that are not taken back yet, and return the version."""
        return self._run(calls.undo(self.name, n, if_version))

    def changes(self, n: int = 100) -> list[ChangeInfo]:
        """Return the last changes, the newest first."""
        return self._run(calls.changes(self.name, n))

    def examples(
        self, *, label: str = "", with_items: bool = False, with_embeddings: bool = False
    ) -> Generator[ExampleInfo, None, None]:
        """Yield the examples, of one class perhaps, in the order in which they came; a page at a time is asked for."""
        token, more = "", True
        while more:
            some, token = self._run(
                calls.page(self.name, label, token, with_items=with_items, with_embeddings=with_embeddings)
            )
            yield from some
            more = bool(token)

    def classify(
        self, items: Iterable[Item], *, progress: Progress | None = None, **shown: Unpack[Shown]
    ) -> list[Classification]:
        """Tell the labels of items, by all that was taught before this was called.

        Parameters
        ----------
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
        progress : callable, optional
            Called with (items done, items in all or None) whenever some are done.
        shown
            `top`, `neighbours`, `with_items`, `false_alarm_rate`: see `headwater.fewshot_calls.Shown`.

        Returns
        -------
        list of Classification
            One for each item, in their order; each has its own error where it has one, and says what answered.

        Raises
        ------
        TaskEmpty
            It has nothing to go by yet.
        BackboneChanged, BackboneNotFound
            The server has another backbone under the task's name, or none.
        InvalidOption
        """
        return list(self.iter_classifications(items, progress=progress, **shown))

    def iter_classifications(
        self, items: Iterable[Item], *, progress: Progress | None = None, **shown: Unpack[Shown]
    ) -> Generator[Classification, None, None]:
        """Tell the labels of items of any number, a few requests at a time, and yield them in order; see `classify`."""
        check_several(items)
        with closing(self._client._answers(self._question(shown), items, progress)) as found:
            yield from found

    def iter_unordered(
        self, items: Iterable[Item], *, progress: Progress | None = None, **shown: Unpack[Shown]
    ) -> Generator[tuple[int, Classification], None, None]:
        """Tell the labels of a stream of items of any length, and yield positions and answers as they come.

        Like `Client.iter_unordered` for the rest; changes that are made meanwhile count from then on.
        """
        yield from self._client._streamed(self._question(shown), items, progress)

    def classify_embeddings(self, X: ArrayLike, *, fingerprint: str, **shown: Unpack[Shown]) -> list[Classification]:
        """Tell the labels of embeddings X (n, dim), float32, of the backbone with a fingerprint; see `classify`.

        A row with NaN or infinity gets an error of its own. Raises EmbeddingMismatch.
        """
        return self._run(calls.classify_embeddings(self.name, X, fingerprint, shown))

    def suggest(self, items: Iterable[Item], n: int = 10) -> Suggestions:
        """Tell which items of a pool to label next: those that are uncertain and unlike each other.

        Parameters
        ----------
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
            At most 100,000; read as they are sent. One that can be read again, such as a list, is sent again where
            the server breaks off.
        n : int
            1 to 1,000.
        """
        info = self._client.describe(self.backbone)
        pools: list[Pool] = []

        def messages() -> Iterator[pb.SuggestRequest]:
            pools.append(Pool(self.name, n, info))
            yield from pool_messages(pools[-1], (content_of(item, info) for item in check_several(items)))

        response = self._client._upload("Suggest", messages, isinstance(items, Collection))
        return pools[-1].told(response)

    def suggest_embeddings(self, X: ArrayLike, n: int = 10, *, fingerprint: str) -> Suggestions:
        """Tell which embeddings of a pool X (n_pool, dim), float32, finite, to label next; see `suggest`."""
        pools: list[Pool] = []

        def messages() -> Iterator[pb.SuggestRequest]:
            pool, parts = pool_of_embeddings(self.name, X, fingerprint, n)
            pools.append(pool)
            return parts

        response = self._client._upload("Suggest", messages, True)
        return pools[-1].told(response)

    def audit(self, n: int = 100) -> AuditReport:
        """Tell what deserves a look, at most n of each kind, and how often the task is right, by leave-one-out."""
        return self._run(calls.audit(self.name, n))

    def export(self, path: str | Path) -> None:
        """Write it as one file, examples, items and history; there is no half file. Raises OSError."""
        tries = self._client._tries(patient=True)
        with written(Path(path)) as file:
            while True:
                try:
                    file.seek(0)
                    file.truncate()
                    for part in self._client._download("ExportTask", pb.ExportTaskRequest(task=self.name)):
                        file.write(part.data)
                    return
                except grpc.RpcError as error:
                    failure = self._client._failure(error)
                pause = tries.pause_s(failure, time.monotonic())
                if pause is None:
                    raise failure.error
                time.sleep(pause)

    def delete(self, *, if_version: int | None = None) -> None:
        """Delete it and all that it holds, for good."""
        self._client.delete_task(self.name, if_version=if_version)

    def _question(self, shown: Shown) -> Classifying:
        return Classifying(self._client.describe(self.backbone), self.name, calls.options(shown))

    def _run(self, steps: Steps[T]) -> T:
        return self._client._run(steps, patient=True)

    def _add(
        self, adding: Adding, contents: Iterable[Content], tags: Iterator[Tag], progress: Progress | None
    ) -> Addition:
        n = 0
        for one in contents:
            if adding.is_full(one):
                self._run(adding.send())
                if progress is not None:
                    progress(n, None)
            adding.take(one, next_tag(tags, n))
            n += 1
        check_no_more(tags, n)
        added = self._run(adding.result())
        if progress is not None:
            progress(n, None)
        return added


class _Sending:
    """Messages on their way: gRPC's thread takes them; an error of the caller's own must not look like their end."""

    def __init__(self, messages: Iterable[Any], patience: Patience) -> None:
        self._messages = messages
        self.patience = patience
        self.error: BaseException | None = None
        self._call: Any = None
        self._has_begun = Event()

    def began(self, call: Any) -> None:
        """Say whose they are."""
        self._call = call
        self._has_begun.set()

    def __iter__(self) -> Iterator[Any]:
        try:
            self.patience.ours(True)
            for message in self._messages:
                self.patience.ours(False)
                yield message
                self.patience.ours(True)
            self.patience.ours(False)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            self._has_begun.wait()
            self._call.cancel()


@contextmanager
def _watched(call: Any, patience: Patience) -> Iterator[None]:
    """Cancel a call in which nothing moves for too long."""
    over = Event()

    def watch() -> None:
        while not over.wait(max(0.01, patience.left_s)):
            if patience.left_s <= 0:
                call.cancel()
                return

    Thread(target=watch, name="headwater-patience", daemon=True).start()
    try:
        yield
    finally:
        over.set()
