import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headwater.v1 import extractor_pb2 as _extractor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainHeadRequest(_message.Message):
    __slots__ = ("order", "examples")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    order: TrainingOrder
    examples: Examples
    def __init__(self, order: _Optional[_Union[TrainingOrder, _Mapping]] = ..., examples: _Optional[_Union[Examples, _Mapping]] = ...) -> None: ...

class TrainingOrder(_message.Message):
    __slots__ = ("name", "backbone", "fingerprint", "kind", "options", "activate", "dump", "detach")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    DUMP_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    name: str
    backbone: str
    fingerprint: str
    kind: str
    options: TrainingOptions
    activate: bool
    dump: str
    detach: bool
    def __init__(self, name: _Optional[str] = ..., backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., kind: _Optional[str] = ..., options: _Optional[_Union[TrainingOptions, _Mapping]] = ..., activate: bool = ..., dump: _Optional[str] = ..., detach: bool = ...) -> None: ...

class TrainingOptions(_message.Message):
    __slots__ = ("head", "class_weight", "reject", "reject_rate", "seed", "calibration", "out_of_scope")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    REJECT_RATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_SCOPE_FIELD_NUMBER: _ClassVar[int]
    head: str
    class_weight: str
    reject: str
    reject_rate: float
    seed: int
    calibration: str
    out_of_scope: str
    def __init__(self, head: _Optional[str] = ..., class_weight: _Optional[str] = ..., reject: _Optional[str] = ..., reject_rate: _Optional[float] = ..., seed: _Optional[int] = ..., calibration: _Optional[str] = ..., out_of_scope: _Optional[str] = ...) -> None: ...

class Examples(_message.Message):
    __slots__ = ("items", "embeddings", "targets")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    embeddings: bytes
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    def __init__(self, items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("labels", "values")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "head", "state", "done", "total", "step", "examples", "failed_items", "failures", "backbone", "fingerprint", "created_at", "ended_at", "version", "metrics", "error")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    FAILED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    head: str
    state: str
    done: int
    total: int
    step: str
    examples: int
    failed_items: int
    failures: _containers.RepeatedCompositeFieldContainer[FailedItem]
    backbone: str
    fingerprint: str
    created_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    version: str
    metrics: _containers.ScalarMap[str, float]
    error: _extractor_pb2.ItemStatus
    def __init__(self, id: _Optional[str] = ..., head: _Optional[str] = ..., state: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., step: _Optional[str] = ..., examples: _Optional[int] = ..., failed_items: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[FailedItem, _Mapping]]] = ..., backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ...) -> None: ...

class FailedItem(_message.Message):
    __slots__ = ("position", "error")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    position: int
    error: _extractor_pb2.ItemStatus
    def __init__(self, position: _Optional[int] = ..., error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListHeadsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListHeadsResponse(_message.Message):
    __slots__ = ("heads",)
    HEADS_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[Head]
    def __init__(self, heads: _Optional[_Iterable[_Union[Head, _Mapping]]] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("name", "versions", "aliases")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    versions: _containers.RepeatedCompositeFieldContainer[HeadVersion]
    aliases: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[HeadVersion, _Mapping]]] = ..., aliases: _Optional[_Mapping[str, int]] = ...) -> None: ...

class HeadVersion(_message.Message):
    __slots__ = ("name", "number", "kind", "labels", "n_labels", "backbone", "fingerprint", "dim", "created", "metrics", "options", "n_items", "library_versions", "rejection", "error")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LibraryVersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    N_LABELS_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    N_ITEMS_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: int
    kind: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    n_labels: int
    backbone: str
    fingerprint: str
    dim: int
    created: str
    metrics: _containers.ScalarMap[str, float]
    options: _containers.ScalarMap[str, str]
    n_items: int
    library_versions: _containers.ScalarMap[str, str]
    rejection: Rejection
    error: _extractor_pb2.ItemStatus
    def __init__(self, name: _Optional[str] = ..., number: _Optional[int] = ..., kind: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., n_labels: _Optional[int] = ..., backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., created: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., options: _Optional[_Mapping[str, str]] = ..., n_items: _Optional[int] = ..., library_versions: _Optional[_Mapping[str, str]] = ..., rejection: _Optional[_Union[Rejection, _Mapping]] = ..., error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("score", "threshold", "rule")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    score: str
    threshold: float
    rule: str
    def __init__(self, score: _Optional[str] = ..., threshold: _Optional[float] = ..., rule: _Optional[str] = ...) -> None: ...

class GetHeadRequest(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: str
    def __init__(self, head: _Optional[str] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("head", "backbone", "items", "embeddings", "fingerprint", "top")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    head: str
    backbone: str
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    embeddings: bytes
    fingerprint: str
    top: int
    def __init__(self, head: _Optional[str] = ..., backbone: _Optional[str] = ..., items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., fingerprint: _Optional[str] = ..., top: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("head", "kind", "fingerprint", "predictions", "rejection", "times")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    head: str
    kind: str
    fingerprint: str
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    rejection: Rejection
    times: _extractor_pb2.StageTimes
    def __init__(self, head: _Optional[str] = ..., kind: _Optional[str] = ..., fingerprint: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., rejection: _Optional[_Union[Rejection, _Mapping]] = ..., times: _Optional[_Union[_extractor_pb2.StageTimes, _Mapping]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("error", "ranking", "values", "unknown", "score", "cached", "truncated")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    error: _extractor_pb2.ItemStatus
    ranking: _containers.RepeatedCompositeFieldContainer[Ranked]
    values: _containers.RepeatedScalarFieldContainer[float]
    unknown: bool
    score: float
    cached: bool
    truncated: bool
    def __init__(self, error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ..., ranking: _Optional[_Iterable[_Union[Ranked, _Mapping]]] = ..., values: _Optional[_Iterable[float]] = ..., unknown: bool = ..., score: _Optional[float] = ..., cached: bool = ..., truncated: bool = ...) -> None: ...

class Ranked(_message.Message):
    __slots__ = ("label", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class ActivateHeadRequest(_message.Message):
    __slots__ = ("head", "alias")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    head: str
    alias: str
    def __init__(self, head: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class ActivateHeadResponse(_message.Message):
    __slots__ = ("version", "previous")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    version: str
    previous: str
    def __init__(self, version: _Optional[str] = ..., previous: _Optional[str] = ...) -> None: ...

class DeleteHeadRequest(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: str
    def __init__(self, head: _Optional[str] = ...) -> None: ...

class DeleteHeadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
