"""`Client`: the same two verbs as `Extractor`, over the wire. Loads neither onnxruntime nor Pillow nor scikit-learn."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from extractor.errors import BackboneChanged, ItemError
from extractor.items import Item, as_bytes, check_several
from extractor.outcome import Embedding, Outcome, stack
from headwater import convert, status
from headwater.convert import BackboneInfo, RequestLimits
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc

MAX_ITEMS = 64  # a request; small enough that a first answer comes soon and no server's limit is met
MAX_BYTES = 4 << 20  # a request; a larger item travels alone
ENVELOPE_BYTES = 64 << 10  # for what a message holds beside its items' bytes
REQUESTS_IN_FLIGHT = 4  # so that the server always has the next request at hand

# gRPC retries by itself, with jitter, within the deadline, and not before the time that a full queue's answer names.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "headwater.v1.ExtractorService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),  # a call that does not fit is not retried
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


@dataclass(eq=False)
class _Slice:
    """Consecutive items: those that can be sent, and the outcomes of those that cannot."""

    items: list[bytes] = field(default_factory=list)
    outcomes: list[Outcome | None] = field(default_factory=list)
    n_bytes: int = 0

    def full(self, more: int, limits: RequestLimits) -> bool:
        """Tell whether an item of so many bytes must wait for the next slice."""
        max_bytes = min(MAX_BYTES, limits.max_message_bytes - ENVELOPE_BYTES)
        max_items = min(MAX_ITEMS, limits.max_items)
        return bool(self.outcomes) and (len(self.outcomes) >= max_items or self.n_bytes + more > max_bytes)


class Client:
    """Asks a Headwater server for embeddings; use it as a context manager.

    A request that meets a full queue or a server that is not there is tried five times in all, by gRPC itself.

    Parameters
    ----------
    target : str
        `host:port`.
    backbone : str, optional
        Whose embeddings are asked for where a call names none; a server of a single backbone needs no name.
    timeout_s : float
        For the answer to one request; long lists are split over several.

    Examples
    --------
    >>> with Client("127.0.0.1:50051", backbone="minilm-l6") as client:  # doctest: +SKIP
    ...     X = client.extract(["a text", "another"])
    """

    def __init__(self, target: str, *, backbone: str = "", timeout_s: float = 120.0) -> None:
        self.target = target
        self.backbone = backbone
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._stub = extractor_pb2_grpc.ExtractorServiceStub(self._channel)
        self._known: dict[str, BackboneInfo] = {}

    def extract(self, items: Iterable[Item], *, backbone: str = "") -> Embedding:
        """Embed items; the first bad one raises.

        Parameters
        ----------
        items : iterable of bytes, str, pathlib.Path, ndarray or Pillow image
        backbone : str, optional

        Returns
        -------
        ndarray of shape (n, dim), float32
            In the order of the items.

        Raises
        ------
        ExtractorError
            The error of the first item that has one, with the item's position in front; or that of the call, when
            there is no such backbone, say, or the server's queue is full.
        ServiceError
            Any other failure of a call, with its status code.
        """
        return stack(self.iter_outcomes(items, backbone=backbone), self.describe(backbone).dim)

    def extract_each(self, items: Iterable[Item], *, backbone: str = "") -> list[Outcome]:
        """Embed items; each gets an embedding or its own error, in the order of the items."""
        return list(self.iter_outcomes(items, backbone=backbone))

    def iter_outcomes(self, items: Iterable[Item], *, backbone: str = "") -> Iterator[Outcome]:
        """Embed a stream of items of any length, a few requests at a time, and yield the outcomes in order."""
        info = self.describe(backbone)
        running: deque[tuple[_Slice, Any]] = deque()
        try:
            for part in _slices(check_several(items), info):
                request = convert.from_items(info.name, part.items)
                running.append(
                    (part, self._stub.Extract.future(request, timeout=self.timeout_s) if part.items else None)
                )
                if len(running) == REQUESTS_IN_FLIGHT:
                    yield from self._answer(*running.popleft(), info)
            while running:
                yield from self._answer(*running.popleft(), info)
        finally:
            for _, call in running:
                if call is not None:
                    call.cancel()

    def describe(self, backbone: str = "") -> BackboneInfo:
        """Return the facts of a backbone, asked for once; raises BackboneNotFound when the server has none."""
        name = backbone or self.backbone
        if name not in self._known:
            try:
                message = self._stub.GetBackbone(pb.GetBackboneRequest(name=name), timeout=self.timeout_s)
            except grpc.RpcError as error:
                raise status.call_error(error) from None
            self._known[name] = convert.to_backbone(message)
        return self._known[name]

    def backbones(self) -> list[BackboneInfo]:
        """Return the facts of every backbone that the server serves."""
        try:
            response = self._stub.ListBackbones(pb.ListBackbonesRequest(), timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise status.call_error(error) from None
        return [convert.to_backbone(message) for message in response.backbones]

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _answer(self, part: _Slice, call: Any, info: BackboneInfo) -> Iterator[Outcome]:
        """Wait for one request's answer, and put its outcomes where they belong."""
        answered: Iterator[Outcome] = iter(())
        if call is not None:
            try:
                response = call.result()
                convert.check_fingerprint(response, info)
            except grpc.RpcError as error:
                raise status.call_error(error) from None
            except BackboneChanged:
                self._known.clear()  # the caller was told: the next call may begin anew
                raise
            answered = convert.to_outcomes(response, response.dim)
        for outcome in part.outcomes:
            yield outcome if outcome is not None else next(answered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _slices(items: Iterable[Item], info: BackboneInfo) -> Iterator[_Slice]:
    """Cut a stream of items into requests, by count and by bytes; a bad item stays here, with its error."""
    part = _Slice()
    for item in items:
        content, error = _content(item, info.limits.max_item_bytes)
        if part.full(len(content), info.request_limits):
            yield part
            part = _Slice()
        if error is None:
            part.items.append(content)
            part.n_bytes += len(content)
        part.outcomes.append(error)
    if part.outcomes:
        yield part


def _content(item: Item, max_bytes: int) -> tuple[bytes, Outcome | None]:
    try:
        return as_bytes(item, max_bytes=max_bytes), None
    except ItemError as error:
        return b"", Outcome(error=error)
