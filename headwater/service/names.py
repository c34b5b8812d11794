"""The labels of a zero-shot task -> vectors of what stands for their names, remembered; for any thread."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from classifiers.tasks.settings import Settings

MAX_NAMES = 200_000  # twice what a task may have
MAX_TASKS = 256  # whose vectors are kept together


class Names:
    """Vectors of names, by fingerprint and text; the least recently used are forgotten, and extracted again."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._together: OrderedDict[str, tuple[object, object, Mapping[str, NDArray[np.float32]]]] = OrderedDict()
        self._lock = Lock()

    def of(
        self, task: str, fingerprint: str, labels: Mapping[int, str], settings: "Settings"
    ) -> Mapping[str, NDArray[np.float32]] | None:
        """Return the vector (dim,) of each label's name, or None where some must be extracted first."""
        known = self._together.get(task)
        if known is not None and known[0] is labels and known[1] is settings:
            return known[2]
        with self._lock:
            keys = {label: (fingerprint, settings.texts.get(label, label)) for label in labels.values()}
            if not all(key in self._vectors for key in keys.values()):
                return None
            found = {label: self._vectors[key] for label, key in keys.items()}
            for key in keys.values():
                self._vectors.move_to_end(key)
            self._together[task] = (labels, settings, found)
            self._together.move_to_end(task)
            if len(self._together) > MAX_TASKS:
                self._together.popitem(last=False)
        return found

    def missing(self, fingerprint: str, labels: Mapping[int, str], settings: "Settings") -> list[str]:
        """Return the texts that must be extracted, each once."""
        texts = {settings.texts.get(label, label) for label in labels.values()}
        return sorted(text for text in texts if (fingerprint, text) not in self._vectors)

    def remember(self, fingerprint: str, texts: Sequence[str], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Keep the vectors of texts."""
        with self._lock:
            for text, vector in zip(texts, vectors, strict=True):
                self._vectors[fingerprint, text] = vector
            while len(self._vectors) > MAX_NAMES:
                self._vectors.popitem(last=False)
