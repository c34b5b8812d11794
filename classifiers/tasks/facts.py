"""What a task, its examples and its changes are, as plain facts, and the limits that they keep to."""

import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import InvalidOption, LimitExceeded
from classifiers.tasks.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a task may hold; lengths of texts in bytes of UTF-8.

    Parameters
    ----------
    max_examples : int
        A search is exact and goes through all of them: beyond a million, train a head instead.
    max_labels, max_label_bytes, max_text_bytes, max_id_bytes, max_note_bytes, max_item_bytes, max_dim : int
    max_undo : int
        Changes that can be undone.
    max_undo_rows : int
        Examples that these may have touched, together; the last change can be undone, however large.
    max_history : int
        Changes that are told of.
    max_open_files : int
        Tasks of a store whose file is open, of three descriptors each. By default not half of what a process may
        have: where a thousand tasks take turns at 64 files, an add waits for the checkpoint of another one.
    """

    max_examples: int = 1_000_000
    max_labels: int = 100_000
    max_label_bytes: int = 1_000
    max_text_bytes: int = 4_000
    max_id_bytes: int = 200
    max_note_bytes: int = 4_000
    max_item_bytes: int = 32 << 20
    max_dim: int = 16_384
    max_undo: int = 100
    max_undo_rows: int = 200_000
    max_history: int = 10_000
    max_open_files: int = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)

    def check_settings(self, settings: Settings) -> None:
        """Raise LimitExceeded, or InvalidOption, where the texts of settings are more or longer than may be kept."""
        self.check_count("texts for labels", len(settings.texts), self.max_labels, "name fewer")
        for label, text in settings.texts.items():
            check_text("label", label, self.max_label_bytes)
            check_text("text", text, self.max_text_bytes)

    def check_count(self, what: str, n: int, limit: int, way_on: str) -> None:
        """Raise LimitExceeded where there would be more than the limit."""
        if n > limit:
            raise LimitExceeded(f"the task would have {n:,} {what}, the limit is {limit:,}; {way_on}")


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What a task is; all but its settings stay as they are.

    Parameters
    ----------
    name : str
    backbone, fingerprint : str
        Of the embeddings that it holds and may be given.
    dim : int
        Their length.
    settings : Settings
        How it classifies.
    keep_items : bool
        Whether the items themselves are kept beside their embeddings.
    created : str
        ISO 8601, UTC.
    """

    name: str
    backbone: str
    fingerprint: str
    dim: int
    settings: Settings = field(default_factory=Settings)
    keep_items: bool = False
    created: str = ""


@dataclass(frozen=True)
class Glance:
    """What a task is and how much it holds, at one version."""

    facts: TaskFacts
    version: int
    n_examples: int
    n_classes: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One example as it is kept.

    Parameters
    ----------
    embedding : ndarray of shape (dim,), float32
    item_key : bytes, optional
        Of the item that it was extracted from.
    item : bytes, optional
        The item, where the task keeps them.
    created : str
        ISO 8601, UTC.
    """

    id: str
    label: str
    embedding: NDArray[np.float32]
    note: str | None
    item_key: bytes | None
    item: bytes | None
    created: str


@dataclass(frozen=True)
class Added:
    """What an add has done: the version that has the examples, their ids in order, and how many were new."""

    version: int
    ids: tuple[str, ...]
    n_new: int


@dataclass(frozen=True)
class Change:
    """One change: its version, what it was, in words, and when; whether it can be undone, or was, and by which."""

    version: int
    kind: str
    detail: Mapping[str, Any]
    n_examples: int
    created: str
    can_be_undone: bool
    undone_by: int | None


def check_name(name: str) -> None:
    """Raise InvalidOption for what is no task's name."""
    if not _NAME.fullmatch(name):
        raise InvalidOption(
            f"{name[:100]!r} is no task's name: letters, digits, '.', '_' and '-', at most 100; choose another"
        )


def check_text(what: str, text: str, limit: int) -> None:
    """Raise LimitExceeded for a text that is empty or too long, InvalidOption for one that is no text."""
    if not isinstance(text, str):
        raise InvalidOption(f"a {what} is a str, not {type(text).__name__}; turn it into one")
    n = len(text.encode(errors="replace")) if len(text) <= limit else len(text)
    if not 0 < n <= limit:
        raise LimitExceeded(f"a {what} has {n:,} bytes ({text[:40]!r}); it may have 1 to {limit:,}; take another")
    if "\0" in text or (not text.isascii() and text != text.encode(errors="replace").decode()):
        raise InvalidOption(f"{what} {text[:40]!r} has NUL or half a character in it, and cannot be kept; take another")
