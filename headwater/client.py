"""`Client`: the same two verbs as `Extractor`, over the wire. Loads neither onnxruntime nor Pillow nor scikit-learn."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc

from extractor.errors import BackboneChanged
from extractor.items import Item, check_several
from extractor.outcome import Embedding, Outcome, stack
from headwater import convert
from headwater.channel import Access, Stub, open_channel
from headwater.content import content_of
from headwater.convert import BackboneInfo
from headwater.core import OPTIONS, ClientCore
from headwater.exchange import A, Exchange, Extraction, Progress, Question, Slice, StreamQuestion
from headwater.fewshot_client import TaskCalls
from headwater.heads_client import HeadCalls
from headwater.threads import ThreadedFlow
from headwater.v1 import extractor_pb2 as pb

_END = object()


class Client(HeadCalls, TaskCalls, ClientCore):
    """Asks a Headwater server for embeddings; use it as a context manager.

    What meets a full queue, a stopping server or none at all is asked for again, until `timeout_s` is over: when the
    server said that it should be, or after pauses that grow, both spread by chance. What was answered is never asked
    for again. `headwater.aio.AsyncClient` is its twin for asyncio.

    Parameters
    ----------
    target : str
        `host:port`.
    backbone : str, optional
        Whose embeddings are asked for where a call names none; a server of a single backbone needs no name.
    timeout_s : float
        For the answer to one request, with all its repetitions; long lists are split over several. In a stream: how
        long nothing at all may be answered. A server that has never answered is given up after 5 s.
    key, ca, cert, cert_key : optional
        API key, authorities, certificate and its private key: see `headwater.channel.Access`.
    cache_control : str
        `no-cache`: have the server compute anew what it has stored; `no-store`: have it store nothing of ours; or both,
        with a comma between. Neither changes an embedding.

    Raises
    ------
    CredentialsInvalid
        One of them cannot be used.

    Examples
    --------
    >>> with Client("127.0.0.1:50051", backbone="minilm-l6") as client:  # doctest: +SKIP
    ...     X = client.extract(["a text", "another"])
    """

    def __init__(
        self,
        target: str,
        *,
        backbone: str = "",
        timeout_s: float = 120.0,
        key: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        cert_key: str | Path | None = None,
        cache_control: str = "",
    ) -> None:
        access = Access(key=key, ca=ca, cert=cert, cert_key=cert_key)
        super().__init__(target, access, backbone=backbone, timeout_s=timeout_s, cache_control=cache_control)
        self._channel = open_channel(target, access, OPTIONS)
        self._stub = Stub(self._channel)

    def __deepcopy__(self, memo: object) -> Self:
        """Return this client itself, so that scikit-learn's `clone` of a pipeline shares it."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a key does not belong into a file, nor a connection into another process."""
        raise TypeError(
            "a Client cannot go to another process; share it among threads, "
            "`with joblib.parallel_config('threading'):`, or make one in each process"
        )

    def extract(self, items: Iterable[Item], *, backbone: str = "", progress: Progress | None = None) -> Embedding:
        """Embed items; the first bad one raises.

        Parameters
        ----------
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
        backbone : str, optional
        progress : callable, optional
            Called, in this thread, with (items done, items in all or None) whenever some are done.

        Returns
        -------
        ndarray of shape (n, dim), float32
            In the order of the items.

        Raises
        ------
        ExtractorError
            The error of the first item that has one, with the item's position in front; or that of the call, when
            there is no such backbone, say, or the server's queue stayed full.
        ServiceError
            Any other failure of a call, with its status code.
        ClientClosed
            The client was closed.
        """
        dim = self.describe(backbone).dim
        with closing(self.iter_outcomes(items, backbone=backbone, progress=progress)) as outcomes:
            return stack(outcomes, dim)

    def extract_each(
        self, items: Iterable[Item], *, backbone: str = "", progress: Progress | None = None
    ) -> list[Outcome]:
        """Embed items; each gets an embedding or its own error, in the order of the items."""
        return list(self.iter_outcomes(items, backbone=backbone, progress=progress))

    def iter_outcomes(
        self, items: Iterable[Item], *, backbone: str = "", progress: Progress | None = None
    ) -> Generator[Outcome, None, None]:
        """Embed items of any number, a few requests at a time, and yield the outcomes in order."""
        yield from self._answers(Extraction(self.describe(backbone)), items, progress)

    def iter_unordered(
        self, items: Iterable[Item], *, backbone: str = "", progress: Progress | None = None
    ) -> Generator[tuple[int, Outcome], None, None]:
        """Embed a stream of items of any length, and yield each one's position and outcome as it finishes.

        Items are read in a thread of their own, at most 256 ahead of what was yielded. A stream that breaks is taken
        up with what is unanswered, at another server perhaps; no item is yielded twice.
        """
        yield from self._streamed(Extraction(self.describe(backbone)), items, progress)

    def describe(self, backbone: str = "") -> BackboneInfo:
        """Return the facts of a backbone, asked for once; raises BackboneNotFound when the server has none."""
        name = backbone or self.backbone
        known = self._known.get(name)  # one look: another thread may forget it now
        return known or self._learn(name, self._ask(self._stub.GetBackbone, pb.GetBackboneRequest(name=name)))

    def backbones(self) -> list[BackboneInfo]:
        """Return the facts of every backbone that the server serves."""
        response = self._ask(self._stub.ListBackbones, pb.ListBackbonesRequest())
        return [convert.to_backbone(message) for message in response.backbones]

    def close(self) -> None:
        """Close the connection; calls that run raise ClientClosed."""
        self._closed = True
        self._channel.close()

    def _answers(
        self, question: Question[A], items: Iterable[Item], progress: Progress | None
    ) -> Generator[A, None, None]:
        """Ask about items of any number, and yield the answers in order."""
        exchange = self._exchange(question, check_several(items), progress)
        source = iter(items)
        finished: SimpleQueue[Any] = SimpleQueue()
        running: dict[Any, Slice[A]] = {}
        try:
            while not exchange.done:
                _feed(exchange, source)
                for part in exchange.due():
                    self._send(exchange, part, running, finished)
                yield from exchange.ready()
                self._settle(exchange, running, finished)
        except BackboneChanged:
            self._forget()
            raise
        finally:
            for call in running:
                call.cancel()

    def _streamed(
        self, question: StreamQuestion[A], items: Iterable[Item], progress: Progress | None
    ) -> Generator[tuple[int, A], None, None]:
        """Ask about items of any number over one stream, and yield positions and answers as they come."""
        flow = self._flow(question, check_several(items), progress)
        try:
            yield from ThreadedFlow(flow, partial(self._open_stream, question.stream), self._failure).outcomes(items)
        except BackboneChanged:
            self._forget()
            raise

    def _ask(self, method: Callable[..., Any], request: Any, *, patient: bool = False) -> Any:
        tries = self._tries(patient=patient)
        while True:
            try:
                return self._call(method, request, timeout=self.timeout_s)
            except grpc.RpcError as error:
                failure = self._failure(error)
            pause = tries.pause_s(failure, time.monotonic())
            if pause is None:
                raise self._given_up(failure, tries)
            time.sleep(pause)

    def _send(
        self, exchange: Exchange[A], part: Slice[A], running: dict[Any, Slice[A]], finished: "SimpleQueue[Any]"
    ) -> None:
        request, timeout_s = exchange.request(part)
        call = self._call(getattr(self._stub, exchange.question.method).future, request, timeout=timeout_s)
        running[call] = part
        call.add_done_callback(finished.put)

    def _settle(self, exchange: Exchange[A], running: dict[Any, Slice[A]], finished: "SimpleQueue[Any]") -> None:
        """Wait for an answer, or until something is due, whatever comes first."""
        wait_s = exchange.wait_s()
        if not running and wait_s is None:
            return
        try:
            call = finished.get(timeout=wait_s)
        except Empty:
            return
        part = running.pop(call)
        try:
            exchange.answer(part, call.result())
        except grpc.RpcError as error:
            exchange.refuse(part, self._failure(error))

    def _open_stream(self, method: str, messages: Iterator[Any]) -> Any:
        return self._call(getattr(self._stub, method), messages)

    def _call(self, method: Callable[..., Any], request: Any, **options: Any) -> Any:
        """Call; raise ClientClosed where the client is closed, or another thread closes it at this moment."""
        self._check_open()
        try:
            return method(request, metadata=self._metadata, **options)
        except ValueError:  # what gRPC says of a closed channel
            self._check_open()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _feed(exchange: Exchange[Any], source: Iterator[Item]) -> None:
    while exchange.wants_items:
        item = next(source, _END)
        if item is _END:
            exchange.end()
        else:
            exchange.take(content_of(item, exchange.info))
