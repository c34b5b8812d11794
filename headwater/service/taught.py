"""What few-shot tasks are -> messages, and the other way where callers send it. For any thread."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from headwater.heads import item_status
from headwater.status import CallError
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.tasks import Change, Example, Task, TaskFacts
    from classifiers.tasks.facts import Glance
    from classifiers.tasks.settings import Settings


def to_settings(message: pb.TaskSettings, before: "Settings | None" = None) -> "Settings":
    """Return settings: what a message leaves out is as before, or by default; raises InvalidOption."""
    from classifiers.tasks.settings import Settings

    settings = before or Settings()
    given: dict[str, Any] = {
        name: getattr(message, name) for name in ("method", "false_alarm_rate", "zero_shot") if message.HasField(name)
    }
    texts = {label: text for label, text in {**settings.texts, **message.texts}.items() if text}
    return replace(settings, **given, texts=texts)


def from_task(task: "Task") -> pb.Task:
    """Return the facts of a task with its classes, all of one version."""
    support = task.support
    message = _from_facts(task.facts, support.version, len(support), len(support.labels), task.limits.max_examples)
    numbers, counts = np.unique(support.classes, return_counts=True)
    n_of = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    named = sorted((label, n_of.get(number, 0)) for number, label in support.labels.items())
    message.classes.extend(pb.TaskClass(label=label, n_examples=n) for label, n in named)
    return message


def from_glance(glance: "Glance", max_examples: int) -> pb.Task:
    """Return the facts of a task as a list has them."""
    return _from_facts(glance.facts, glance.version, glance.n_examples, glance.n_classes, max_examples)


def from_error(name: str, error: CallError) -> pb.Task:
    """Return what a list says of a task that cannot be read."""
    return pb.Task(name=name, error=item_status(error))


def from_change(change: "Change") -> pb.TaskChange:
    """Return the message of one change."""
    return pb.TaskChange(
        version=change.version,
        kind=change.kind,
        detail=json.dumps(change.detail, ensure_ascii=False),
        n_examples=change.n_examples,
        created_at=_timestamp(change.created),
        can_be_undone=change.can_be_undone,
        undone_by=change.undone_by or 0,
    )


def from_example(example: "Example", *, with_item: bool) -> pb.TaskExample:
    """Return the message of one example, without its embedding."""
    return pb.TaskExample(
        id=example.id,
        label=example.label,
        note=example.note or "",
        created_at=_timestamp(example.created),
        item=(example.item or b"") if with_item else b"",
    )


def _from_facts(facts: "TaskFacts", version: int, n_examples: int, n_classes: int, max_examples: int) -> pb.Task:
    return pb.Task(
        name=facts.name,
        backbone=facts.backbone,
        fingerprint=facts.fingerprint,
        dim=facts.dim,
        version=version,
        n_examples=n_examples,
        n_classes=n_classes,
        keep_items=facts.keep_items,
        settings=_from_settings(facts.settings),
        created_at=_timestamp(facts.created),
        max_examples=max_examples,
    )


def _from_settings(settings: "Settings") -> pb.TaskSettings:
    texts: Mapping[str, str] = settings.texts
    return pb.TaskSettings(
        method=settings.method,
        false_alarm_rate=settings.false_alarm_rate,
        zero_shot=settings.zero_shot,
        texts=texts,
    )


def _timestamp(text: str) -> Timestamp:
    """Return a time as it is kept, ISO 8601; what an altered file has in its place is no time at all."""
    message = Timestamp()
    try:
        message.FromDatetime(datetime.fromisoformat(text))
    except ValueError:
        return Timestamp()
    return message
