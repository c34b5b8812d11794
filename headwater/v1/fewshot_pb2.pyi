import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headwater.v1 import classifier_pb2 as _classifier_pb2
from headwater.v1 import extractor_pb2 as _extractor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateTaskRequest(_message.Message):
    __slots__ = ("name", "backbone", "fingerprint", "labels", "keep_items", "settings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ITEMS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    backbone: str
    fingerprint: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    keep_items: bool
    settings: TaskSettings
    def __init__(self, name: _Optional[str] = ..., backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., keep_items: bool = ..., settings: _Optional[_Union[TaskSettings, _Mapping]] = ...) -> None: ...

class TaskSettings(_message.Message):
    __slots__ = ("method", "false_alarm_rate", "zero_shot", "texts")
    class TextsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_RATE_FIELD_NUMBER: _ClassVar[int]
    ZERO_SHOT_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    method: str
    false_alarm_rate: float
    zero_shot: bool
    texts: _containers.ScalarMap[str, str]
    def __init__(self, method: _Optional[str] = ..., false_alarm_rate: _Optional[float] = ..., zero_shot: bool = ..., texts: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("name", "backbone", "fingerprint", "dim", "version", "n_examples", "n_classes", "classes", "keep_items", "settings", "created_at", "max_examples", "error")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    N_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    N_CLASSES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    KEEP_ITEMS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    MAX_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    backbone: str
    fingerprint: str
    dim: int
    version: int
    n_examples: int
    n_classes: int
    classes: _containers.RepeatedCompositeFieldContainer[TaskClass]
    keep_items: bool
    settings: TaskSettings
    created_at: _timestamp_pb2.Timestamp
    max_examples: int
    error: _extractor_pb2.ItemStatus
    def __init__(self, name: _Optional[str] = ..., backbone: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., version: _Optional[int] = ..., n_examples: _Optional[int] = ..., n_classes: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[TaskClass, _Mapping]]] = ..., keep_items: bool = ..., settings: _Optional[_Union[TaskSettings, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., max_examples: _Optional[int] = ..., error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ...) -> None: ...

class TaskClass(_message.Message):
    __slots__ = ("label", "n_examples")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    N_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    label: str
    n_examples: int
    def __init__(self, label: _Optional[str] = ..., n_examples: _Optional[int] = ...) -> None: ...

class TaskVersion(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class UpdateTaskRequest(_message.Message):
    __slots__ = ("task", "settings", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    settings: TaskSettings
    if_version: int
    def __init__(self, task: _Optional[str] = ..., settings: _Optional[_Union[TaskSettings, _Mapping]] = ..., if_version: _Optional[int] = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ...) -> None: ...

class DeleteTaskRequest(_message.Message):
    __slots__ = ("task", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    if_version: int
    def __init__(self, task: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class DeleteTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NewExamples(_message.Message):
    __slots__ = ("items", "embeddings", "fingerprint", "labels", "ids", "notes")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    embeddings: bytes
    fingerprint: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    ids: _containers.RepeatedScalarFieldContainer[str]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., fingerprint: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., ids: _Optional[_Iterable[str]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class AddExamplesRequest(_message.Message):
    __slots__ = ("task", "examples", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    examples: NewExamples
    if_version: int
    def __init__(self, task: _Optional[str] = ..., examples: _Optional[_Union[NewExamples, _Mapping]] = ..., if_version: _Optional[int] = ...) -> None: ...

class AddExamplesResponse(_message.Message):
    __slots__ = ("version", "examples", "n_new", "times")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    N_NEW_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    version: int
    examples: _containers.RepeatedCompositeFieldContainer[AddedExample]
    n_new: int
    times: _extractor_pb2.StageTimes
    def __init__(self, version: _Optional[int] = ..., examples: _Optional[_Iterable[_Union[AddedExample, _Mapping]]] = ..., n_new: _Optional[int] = ..., times: _Optional[_Union[_extractor_pb2.StageTimes, _Mapping]] = ...) -> None: ...

class AddedExample(_message.Message):
    __slots__ = ("error", "id", "cached", "truncated")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    error: _extractor_pb2.ItemStatus
    id: str
    cached: bool
    truncated: bool
    def __init__(self, error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ..., id: _Optional[str] = ..., cached: bool = ..., truncated: bool = ...) -> None: ...

class RemoveExamplesRequest(_message.Message):
    __slots__ = ("task", "ids", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    if_version: int
    def __init__(self, task: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., if_version: _Optional[int] = ...) -> None: ...

class RelabelExamplesRequest(_message.Message):
    __slots__ = ("task", "labels", "if_version")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    labels: _containers.ScalarMap[str, str]
    if_version: int
    def __init__(self, task: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., if_version: _Optional[int] = ...) -> None: ...

class RenameClassRequest(_message.Message):
    __slots__ = ("task", "label", "to", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    label: str
    to: str
    if_version: int
    def __init__(self, task: _Optional[str] = ..., label: _Optional[str] = ..., to: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class MergeClassesRequest(_message.Message):
    __slots__ = ("task", "labels", "into", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    into: str
    if_version: int
    def __init__(self, task: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., into: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class RemoveClassRequest(_message.Message):
    __slots__ = ("task", "label", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    label: str
    if_version: int
    def __init__(self, task: _Optional[str] = ..., label: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class UndoChangesRequest(_message.Message):
    __slots__ = ("task", "n", "if_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: str
    n: int
    if_version: int
    def __init__(self, task: _Optional[str] = ..., n: _Optional[int] = ..., if_version: _Optional[int] = ...) -> None: ...

class ListChangesRequest(_message.Message):
    __slots__ = ("task", "n")
    TASK_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    task: str
    n: int
    def __init__(self, task: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class ListChangesResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[TaskChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[TaskChange, _Mapping]]] = ...) -> None: ...

class TaskChange(_message.Message):
    __slots__ = ("version", "kind", "detail", "n_examples", "created_at", "can_be_undone", "undone_by")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    N_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CAN_BE_UNDONE_FIELD_NUMBER: _ClassVar[int]
    UNDONE_BY_FIELD_NUMBER: _ClassVar[int]
    version: int
    kind: str
    detail: str
    n_examples: int
    created_at: _timestamp_pb2.Timestamp
    can_be_undone: bool
    undone_by: int
    def __init__(self, version: _Optional[int] = ..., kind: _Optional[str] = ..., detail: _Optional[str] = ..., n_examples: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., can_be_undone: bool = ..., undone_by: _Optional[int] = ...) -> None: ...

class ListExamplesRequest(_message.Message):
    __slots__ = ("task", "label", "page_size", "page_token", "with_items", "with_embeddings")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITH_ITEMS_FIELD_NUMBER: _ClassVar[int]
    WITH_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    task: str
    label: str
    page_size: int
    page_token: str
    with_items: bool
    with_embeddings: bool
    def __init__(self, task: _Optional[str] = ..., label: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., with_items: bool = ..., with_embeddings: bool = ...) -> None: ...

class ListExamplesResponse(_message.Message):
    __slots__ = ("examples", "embeddings", "next_page_token", "version")
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    examples: _containers.RepeatedCompositeFieldContainer[TaskExample]
    embeddings: bytes
    next_page_token: str
    version: int
    def __init__(self, examples: _Optional[_Iterable[_Union[TaskExample, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., next_page_token: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class TaskExample(_message.Message):
    __slots__ = ("id", "label", "note", "created_at", "item")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    id: str
    label: str
    note: str
    created_at: _timestamp_pb2.Timestamp
    item: bytes
    def __init__(self, id: _Optional[str] = ..., label: _Optional[str] = ..., note: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., item: _Optional[bytes] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("task", "items", "embeddings", "fingerprint", "options")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    task: str
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    embeddings: bytes
    fingerprint: str
    options: ClassifyOptions
    def __init__(self, task: _Optional[str] = ..., items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., fingerprint: _Optional[str] = ..., options: _Optional[_Union[ClassifyOptions, _Mapping]] = ...) -> None: ...

class ClassifyOptions(_message.Message):
    __slots__ = ("top", "neighbours", "with_items", "false_alarm_rate")
    TOP_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    WITH_ITEMS_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_RATE_FIELD_NUMBER: _ClassVar[int]
    top: int
    neighbours: int
    with_items: bool
    false_alarm_rate: float
    def __init__(self, top: _Optional[int] = ..., neighbours: _Optional[int] = ..., with_items: bool = ..., false_alarm_rate: _Optional[float] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("answer", "classifications", "times")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    answer: TaskAnswer
    classifications: _containers.RepeatedCompositeFieldContainer[Classification]
    times: _extractor_pb2.StageTimes
    def __init__(self, answer: _Optional[_Union[TaskAnswer, _Mapping]] = ..., classifications: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ..., times: _Optional[_Union[_extractor_pb2.StageTimes, _Mapping]] = ...) -> None: ...

class TaskAnswer(_message.Message):
    __slots__ = ("version", "method", "reason", "learnt_from", "refining", "uncalibrated", "threshold", "fingerprint")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEARNT_FROM_FIELD_NUMBER: _ClassVar[int]
    REFINING_FIELD_NUMBER: _ClassVar[int]
    UNCALIBRATED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    version: int
    method: str
    reason: str
    learnt_from: int
    refining: bool
    uncalibrated: bool
    threshold: float
    fingerprint: str
    def __init__(self, version: _Optional[int] = ..., method: _Optional[str] = ..., reason: _Optional[str] = ..., learnt_from: _Optional[int] = ..., refining: bool = ..., uncalibrated: bool = ..., threshold: _Optional[float] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("error", "ranking", "unknown", "score", "neighbours", "cached", "truncated")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    error: _extractor_pb2.ItemStatus
    ranking: _containers.RepeatedCompositeFieldContainer[_classifier_pb2.Ranked]
    unknown: bool
    score: float
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbour]
    cached: bool
    truncated: bool
    def __init__(self, error: _Optional[_Union[_extractor_pb2.ItemStatus, _Mapping]] = ..., ranking: _Optional[_Iterable[_Union[_classifier_pb2.Ranked, _Mapping]]] = ..., unknown: bool = ..., score: _Optional[float] = ..., neighbours: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., cached: bool = ..., truncated: bool = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("id", "label", "similarity", "note", "item")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    id: str
    label: str
    similarity: float
    note: str
    item: bytes
    def __init__(self, id: _Optional[str] = ..., label: _Optional[str] = ..., similarity: _Optional[float] = ..., note: _Optional[str] = ..., item: _Optional[bytes] = ...) -> None: ...

class ClassifyStreamRequest(_message.Message):
    __slots__ = ("task", "options", "ids", "items")
    TASK_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    task: str
    options: ClassifyOptions
    ids: _containers.RepeatedScalarFieldContainer[int]
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    def __init__(self, task: _Optional[str] = ..., options: _Optional[_Union[ClassifyOptions, _Mapping]] = ..., ids: _Optional[_Iterable[int]] = ..., items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("ids", "classifications", "answer", "times")
    IDS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    classifications: _containers.RepeatedCompositeFieldContainer[Classification]
    answer: TaskAnswer
    times: _extractor_pb2.StageTimes
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., classifications: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ..., answer: _Optional[_Union[TaskAnswer, _Mapping]] = ..., times: _Optional[_Union[_extractor_pb2.StageTimes, _Mapping]] = ...) -> None: ...

class ClassifyWithExamplesRequest(_message.Message):
    __slots__ = ("backbone", "examples", "items", "embeddings", "fingerprint", "settings", "options")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    backbone: str
    examples: NewExamples
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    embeddings: bytes
    fingerprint: str
    settings: TaskSettings
    options: ClassifyOptions
    def __init__(self, backbone: _Optional[str] = ..., examples: _Optional[_Union[NewExamples, _Mapping]] = ..., items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., fingerprint: _Optional[str] = ..., settings: _Optional[_Union[TaskSettings, _Mapping]] = ..., options: _Optional[_Union[ClassifyOptions, _Mapping]] = ...) -> None: ...

class SuggestRequest(_message.Message):
    __slots__ = ("task", "n", "items", "embeddings", "fingerprint")
    TASK_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    task: str
    n: int
    items: _containers.RepeatedCompositeFieldContainer[_extractor_pb2.Item]
    embeddings: bytes
    fingerprint: str
    def __init__(self, task: _Optional[str] = ..., n: _Optional[int] = ..., items: _Optional[_Iterable[_Union[_extractor_pb2.Item, _Mapping]]] = ..., embeddings: _Optional[bytes] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class SuggestResponse(_message.Message):
    __slots__ = ("version", "suggestions", "failed_items", "failures", "reason")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    FAILED_ITEMS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    version: int
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    failed_items: int
    failures: _containers.RepeatedCompositeFieldContainer[_classifier_pb2.FailedItem]
    reason: str
    def __init__(self, version: _Optional[int] = ..., suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ..., failed_items: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[_classifier_pb2.FailedItem, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class Suggestion(_message.Message):
    __slots__ = ("position", "label", "uncertainty")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    position: int
    label: str
    uncertainty: float
    def __init__(self, position: _Optional[int] = ..., label: _Optional[str] = ..., uncertainty: _Optional[float] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("task", "n")
    TASK_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    task: str
    n: int
    def __init__(self, task: _Optional[str] = ..., n: _Optional[int] = ...) -> None: ...

class AuditResponse(_message.Message):
    __slots__ = ("version", "accuracy", "contradictions", "duplicates", "overlaps", "small_classes", "n_contradictions", "n_duplicates", "n_overlaps", "n_small_classes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    CONTRADICTIONS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    OVERLAPS_FIELD_NUMBER: _ClassVar[int]
    SMALL_CLASSES_FIELD_NUMBER: _ClassVar[int]
    N_CONTRADICTIONS_FIELD_NUMBER: _ClassVar[int]
    N_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    N_OVERLAPS_FIELD_NUMBER: _ClassVar[int]
    N_SMALL_CLASSES_FIELD_NUMBER: _ClassVar[int]
    version: int
    accuracy: AuditedAccuracy
    contradictions: _containers.RepeatedCompositeFieldContainer[Contradiction]
    duplicates: _containers.RepeatedCompositeFieldContainer[NearDuplicates]
    overlaps: _containers.RepeatedCompositeFieldContainer[Overlap]
    small_classes: _containers.RepeatedCompositeFieldContainer[TaskClass]
    n_contradictions: int
    n_duplicates: int
    n_overlaps: int
    n_small_classes: int
    def __init__(self, version: _Optional[int] = ..., accuracy: _Optional[_Union[AuditedAccuracy, _Mapping]] = ..., contradictions: _Optional[_Iterable[_Union[Contradiction, _Mapping]]] = ..., duplicates: _Optional[_Iterable[_Union[NearDuplicates, _Mapping]]] = ..., overlaps: _Optional[_Iterable[_Union[Overlap, _Mapping]]] = ..., small_classes: _Optional[_Iterable[_Union[TaskClass, _Mapping]]] = ..., n_contradictions: _Optional[int] = ..., n_duplicates: _Optional[int] = ..., n_overlaps: _Optional[int] = ..., n_small_classes: _Optional[int] = ...) -> None: ...

class AuditedAccuracy(_message.Message):
    __slots__ = ("accuracy", "low", "high", "n_examples", "method")
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    N_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    accuracy: float
    low: float
    high: float
    n_examples: int
    method: str
    def __init__(self, accuracy: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., n_examples: _Optional[int] = ..., method: _Optional[str] = ...) -> None: ...

class Contradiction(_message.Message):
    __slots__ = ("id", "label", "suggested", "probability", "suggested_probability")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SUGGESTED_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SUGGESTED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    label: str
    suggested: str
    probability: float
    suggested_probability: float
    def __init__(self, id: _Optional[str] = ..., label: _Optional[str] = ..., suggested: _Optional[str] = ..., probability: _Optional[float] = ..., suggested_probability: _Optional[float] = ...) -> None: ...

class NearDuplicates(_message.Message):
    __slots__ = ("id", "label", "other_id", "other_label", "similarity")
    ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    OTHER_ID_FIELD_NUMBER: _ClassVar[int]
    OTHER_LABEL_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    label: str
    other_id: str
    other_label: str
    similarity: float
    def __init__(self, id: _Optional[str] = ..., label: _Optional[str] = ..., other_id: _Optional[str] = ..., other_label: _Optional[str] = ..., similarity: _Optional[float] = ...) -> None: ...

class Overlap(_message.Message):
    __slots__ = ("label", "other_label", "confused")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    OTHER_LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFUSED_FIELD_NUMBER: _ClassVar[int]
    label: str
    other_label: str
    confused: float
    def __init__(self, label: _Optional[str] = ..., other_label: _Optional[str] = ..., confused: _Optional[float] = ...) -> None: ...

class ExportTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class FilePart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImportTaskRequest(_message.Message):
    __slots__ = ("order", "data")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    order: ImportOrder
    data: bytes
    def __init__(self, order: _Optional[_Union[ImportOrder, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportOrder(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...
