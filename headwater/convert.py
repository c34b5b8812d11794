"""Messages <-> what `extractor` speaks: items, outcomes, facts of a backbone. Needs no server to be tested."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from extractor.errors import BackboneChanged
from extractor.limits import Limits
from extractor.outcome import Outcome
from extractor.spec import Spec
from extractor.stages import StageTimes
from headwater import status
from headwater.v1 import extractor_pb2 as pb

_WIRE_FLOAT = np.dtype("<f4")


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """What one call may carry.

    Parameters
    ----------
    max_items : int
        Items in one request.
    max_message_bytes : int
        Bytes of one message, either way.
    max_stream_items : int
        Items of one stream that are unanswered while more are read.
    """

    max_items: int = 1024
    max_message_bytes: int = 64 << 20
    max_stream_items: int = 256


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone as a server describes it.

    Parameters
    ----------
    name, fingerprint, modality, pooling, precision, provider, source, licence : str
    dim : int
        Length of an embedding.
    limits : Limits
        Of one item.
    request_limits : RequestLimits
        Of one call.
    """

    name: str
    fingerprint: str
    modality: str
    dim: int
    pooling: str
    precision: str
    provider: str
    source: str
    licence: str
    limits: Limits
    request_limits: RequestLimits


def to_items(request: pb.ExtractRequest) -> list[bytes]:
    """Return the items of a request; one without content is empty bytes, which extraction refuses by itself."""
    return [item.data for item in request.items]


def from_items(backbone: str, items: Iterable[bytes]) -> pb.ExtractRequest:
    """Return the request for items of a backbone."""
    return pb.ExtractRequest(backbone=backbone, items=[pb.Item(data=item) for item in items])


def from_numbered(backbone: str, numbered: Mapping[int, bytes]) -> pb.ExtractStreamRequest:
    """Return the message that carries items of a stream, by their ids."""
    items = [pb.Item(data=item) for item in numbered.values()]
    return pb.ExtractStreamRequest(backbone=backbone, ids=numbered.keys(), items=items)


def from_outcomes(spec: Spec, outcomes: Sequence[Outcome], times: StageTimes) -> pb.ExtractResponse:
    """Return the response that carries outcomes, their embeddings packed into one matrix."""
    response = pb.ExtractResponse(
        backbone=spec.name, fingerprint=spec.fingerprint, dim=spec.dim, times=pb.StageTimes(**vars(times))
    )
    _pack(response, outcomes)
    return response


def from_finished(
    finished: Mapping[int, Outcome], times: StageTimes, first_of: Spec | None
) -> pb.ExtractStreamResponse:
    """Return the message that carries the outcomes of some items of a stream, by their ids.

    Parameters
    ----------
    finished : mapping of int to Outcome
    times : StageTimes
        Of these items.
    first_of : Spec, optional
        The backbone's, in a stream's first message.
    """
    response = pb.ExtractStreamResponse(ids=finished.keys(), times=pb.StageTimes(**vars(times)))
    if first_of is not None:
        response.backbone, response.fingerprint, response.dim = first_of.name, first_of.fingerprint, first_of.dim
    _pack(response, finished.values())
    return response


def _pack(response: pb.ExtractResponse | pb.ExtractStreamResponse, outcomes: Iterable[Outcome]) -> None:
    rows: list[memoryview] = []
    for outcome in outcomes:
        message = response.outcomes.add(cached=outcome.cached, truncated=outcome.truncated)
        if outcome.error is not None:
            message.error.code = status.code_number(outcome.error)
            message.error.reason = status.reason_of(outcome.error)
            message.error.message = status.message_of(outcome.error)
        elif outcome.embedding is not None:
            message.row = len(rows)
            rows.append(outcome.embedding.astype(_WIRE_FLOAT, copy=False).data)
    response.embeddings = b"".join(rows)


def to_outcomes(response: pb.ExtractResponse | pb.ExtractStreamResponse, dim: int) -> Iterator[Outcome]:
    """Return the outcomes that a response carries; embeddings are read-only views of its matrix."""
    matrix = np.frombuffer(response.embeddings, _WIRE_FLOAT).reshape(-1, dim)
    matrix = matrix.astype(np.float32, copy=False)
    for message in response.outcomes:
        if message.HasField("error"):
            error = status.error_from(message.error.code, message.error.reason, message.error.message)
            yield Outcome(error=error)
        else:
            yield Outcome(matrix[message.row], cached=message.cached, truncated=message.truncated)


def check_fingerprint(response: pb.ExtractResponse | pb.ExtractStreamResponse, expected: BackboneInfo) -> None:
    """Raise BackboneChanged when a response comes from another fingerprint than was expected."""
    if response.fingerprint != expected.fingerprint:
        raise BackboneChanged(
            f"backbone {response.backbone!r} now has fingerprint {response.fingerprint}, before it had "
            f"{expected.fingerprint}: their embeddings must not be mixed; extract all items again"
        )


def from_backbone(spec: Spec, provider: str, limits: Limits, request_limits: RequestLimits) -> pb.Backbone:
    """Return the message that describes a served backbone."""
    return pb.Backbone(
        name=spec.name,
        fingerprint=spec.fingerprint,
        modality=spec.modality,
        dim=spec.dim,
        pooling=spec.pooling,
        precision=spec.precision,
        provider=provider,
        source=spec.source,
        licence=spec.licence,
        limits=pb.Limits(
            max_item_bytes=limits.max_item_bytes,
            max_text_bytes=limits.max_text_bytes,
            max_pixels=limits.max_pixels,
            max_items=request_limits.max_items,
            max_message_bytes=request_limits.max_message_bytes,
            max_stream_items=request_limits.max_stream_items,
        ),
    )


def to_backbone(message: pb.Backbone) -> BackboneInfo:
    """Return the facts of a served backbone."""
    limits = message.limits
    return BackboneInfo(
        name=message.name,
        fingerprint=message.fingerprint,
        modality=message.modality,
        dim=message.dim,
        pooling=message.pooling,
        precision=message.precision,
        provider=message.provider,
        source=message.source,
        licence=message.licence,
        limits=Limits(
            max_item_bytes=limits.max_item_bytes,
            max_text_bytes=limits.max_text_bytes,
            max_pixels=limits.max_pixels,
        ),
        request_limits=RequestLimits(
            max_items=limits.max_items,
            max_message_bytes=limits.max_message_bytes,
            max_stream_items=limits.max_stream_items,
        ),
    )
