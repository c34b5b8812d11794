from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Item(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ExtractRequest(_message.Message):
    __slots__ = ("backbone", "items")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    backbone: str
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, backbone: _Optional[str] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class ExtractResponse(_message.Message):
    __slots__ = ("backbone", "fingerprint", "dim", "embeddings", "outcomes", "times")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    backbone: str
    fingerprint: str
    dim: int
    embeddings: bytes
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    times: StageTimes
    def __init__(self, backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., embeddings: _Optional[bytes] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("queue_ms", "decode_ms", "inference_ms", "cache_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_MS_FIELD_NUMBER: _ClassVar[int]
    CACHE_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    decode_ms: float
    inference_ms: float
    cache_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., inference_ms: _Optional[float] = ..., cache_ms: _Optional[float] = ...) -> None: ...

class ExtractStreamRequest(_message.Message):
    __slots__ = ("backbone", "ids", "items")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    backbone: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, backbone: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class ExtractStreamResponse(_message.Message):
    __slots__ = ("ids", "outcomes", "embeddings", "backbone", "fingerprint", "dim", "times")
    IDS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    embeddings: bytes
    backbone: str
    fingerprint: str
    dim: int
    times: StageTimes
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("row", "error", "cached", "truncated")
    ROW_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    row: int
    error: ItemStatus
    cached: bool
    truncated: bool
    def __init__(self, row: _Optional[int] = ..., error: _Optional[_Union[ItemStatus, _Mapping]] = ..., cached: bool = ..., truncated: bool = ...) -> None: ...

class ItemStatus(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Backbone(_message.Message):
    __slots__ = ("name", "fingerprint", "modality", "dim", "pooling", "precision", "provider", "source", "licence", "limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    POOLING_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
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
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., modality: _Optional[str] = ..., dim: _Optional[int] = ..., pooling: _Optional[str] = ..., precision: _Optional[str] = ..., provider: _Optional[str] = ..., source: _Optional[str] = ..., licence: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_item_bytes", "max_text_bytes", "max_pixels", "max_items", "max_message_bytes", "max_stream_items")
    MAX_ITEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_ITEMS_FIELD_NUMBER: _ClassVar[int]
    max_item_bytes: int
    max_text_bytes: int
    max_pixels: int
    max_items: int
    max_message_bytes: int
    max_stream_items: int
    def __init__(self, max_item_bytes: _Optional[int] = ..., max_text_bytes: _Optional[int] = ..., max_pixels: _Optional[int] = ..., max_items: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_stream_items: _Optional[int] = ...) -> None: ...

class ListBackbonesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBackbonesResponse(_message.Message):
    __slots__ = ("backbones",)
    BACKBONES_FIELD_NUMBER: _ClassVar[int]
    backbones: _containers.RepeatedCompositeFieldContainer[Backbone]
    def __init__(self, backbones: _Optional[_Iterable[_Union[Backbone, _Mapping]]] = ...) -> None: ...

class GetBackboneRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...
