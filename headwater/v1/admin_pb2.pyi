import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoadBackboneRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class LoadBackboneResponse(_message.Message):
    __slots__ = ("backbone",)
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    backbone: BackboneStatus
    def __init__(self, backbone: _Optional[_Union[BackboneStatus, _Mapping]] = ...) -> None: ...

class UnloadBackboneRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UnloadBackboneResponse(_message.Message):
    __slots__ = ("users",)
    USERS_FIELD_NUMBER: _ClassVar[int]
    users: int
    def __init__(self, users: _Optional[int] = ...) -> None: ...

class ReplaceBackboneRequest(_message.Message):
    __slots__ = ("name", "expected_fingerprint", "allow_new_fingerprint")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ALLOW_NEW_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    name: str
    expected_fingerprint: str
    allow_new_fingerprint: bool
    def __init__(self, name: _Optional[str] = ..., expected_fingerprint: _Optional[str] = ..., allow_new_fingerprint: bool = ...) -> None: ...

class ReplaceBackboneResponse(_message.Message):
    __slots__ = ("backbone", "old_fingerprint")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    OLD_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    backbone: BackboneStatus
    old_fingerprint: str
    def __init__(self, backbone: _Optional[_Union[BackboneStatus, _Mapping]] = ..., old_fingerprint: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("timeout_s", "stop")
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    timeout_s: float
    stop: bool
    def __init__(self, timeout_s: _Optional[float] = ..., stop: bool = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("quiet", "running_calls")
    QUIET_FIELD_NUMBER: _ClassVar[int]
    RUNNING_CALLS_FIELD_NUMBER: _ClassVar[int]
    quiet: bool
    running_calls: int
    def __init__(self, quiet: bool = ..., running_calls: _Optional[int] = ...) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ("level", "logger")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOGGER_FIELD_NUMBER: _ClassVar[int]
    level: str
    logger: str
    def __init__(self, level: _Optional[str] = ..., logger: _Optional[str] = ...) -> None: ...

class SetLogLevelResponse(_message.Message):
    __slots__ = ("old_level",)
    OLD_LEVEL_FIELD_NUMBER: _ClassVar[int]
    old_level: str
    def __init__(self, old_level: _Optional[str] = ...) -> None: ...

class GetServerStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerStatusResponse(_message.Message):
    __slots__ = ("version", "draining", "running_calls", "backbones", "changing", "leaving", "cache_tiers")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_CALLS_FIELD_NUMBER: _ClassVar[int]
    BACKBONES_FIELD_NUMBER: _ClassVar[int]
    CHANGING_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    CACHE_TIERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    draining: bool
    running_calls: int
    backbones: _containers.RepeatedCompositeFieldContainer[BackboneStatus]
    changing: _containers.RepeatedScalarFieldContainer[str]
    leaving: int
    cache_tiers: _containers.RepeatedCompositeFieldContainer[CacheTierStatus]
    def __init__(self, version: _Optional[str] = ..., draining: bool = ..., running_calls: _Optional[int] = ..., backbones: _Optional[_Iterable[_Union[BackboneStatus, _Mapping]]] = ..., changing: _Optional[_Iterable[str]] = ..., leaving: _Optional[int] = ..., cache_tiers: _Optional[_Iterable[_Union[CacheTierStatus, _Mapping]]] = ...) -> None: ...

class CacheTierStatus(_message.Message):
    __slots__ = ("tier", "entries", "bytes", "max_bytes", "hits", "misses", "stored", "dropped", "degraded")
    TIER_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    tier: str
    entries: int
    bytes: int
    max_bytes: int
    hits: int
    misses: int
    stored: int
    dropped: int
    degraded: str
    def __init__(self, tier: _Optional[str] = ..., entries: _Optional[int] = ..., bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ..., hits: _Optional[int] = ..., misses: _Optional[int] = ..., stored: _Optional[int] = ..., dropped: _Optional[int] = ..., degraded: _Optional[str] = ...) -> None: ...

class BackboneStatus(_message.Message):
    __slots__ = ("name", "fingerprint", "provider", "serving", "loaded_at", "users", "longest_s", "queued_items", "queued_bytes", "oldest_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    LONGEST_S_FIELD_NUMBER: _ClassVar[int]
    QUEUED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    fingerprint: str
    provider: str
    serving: bool
    loaded_at: _timestamp_pb2.Timestamp
    users: int
    longest_s: float
    queued_items: int
    queued_bytes: int
    oldest_s: float
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., provider: _Optional[str] = ..., serving: bool = ..., loaded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., users: _Optional[int] = ..., longest_s: _Optional[float] = ..., queued_items: _Optional[int] = ..., queued_bytes: _Optional[int] = ..., oldest_s: _Optional[float] = ...) -> None: ...
