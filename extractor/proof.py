"""A session proves itself: its embeddings of the golden items -> nothing, or an error that says how far they stand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from extractor.backbone import Backbone
from extractor.errors import BackboneInvalid
from extractor.golden import differences, read_golden, tolerance_of, within
from extractor.outcome import Embedding
from extractor.prepare import load_prepare
from extractor.spec import GOLDEN_FILE, Spec


class Proof:
    """The golden items of a backbone, prepared, and the reference framework's embeddings of them.

    Parameters
    ----------
    arrays : sequence of ndarray
    expected : ndarray of shape (n, dim), float32
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], expected: Embedding) -> None:
        self.arrays = arrays
        self.expected = expected

    @classmethod
    def load(cls, spec: Spec, folder: Path) -> Self:
        """Read and prepare the golden items, whatever the limits for other people's items are."""
        golden = read_golden(folder / GOLDEN_FILE)
        prepare = load_prepare(spec, folder)
        if golden.embeddings.shape != (len(golden.items), spec.dim):
            raise BackboneInvalid(
                f"{folder / GOLDEN_FILE} holds embeddings {golden.embeddings.shape} of {len(golden.items)} items, the "
                f"spec's dim is {spec.dim}; export the backbone again"
            )
        return cls([prepare(item).array for item in golden.items], golden.embeddings)

    def check(self, backbone: Backbone) -> None:
        """Let a session run the golden items, one by one and together; raise BackboneInvalid beyond the tolerance."""
        tolerance = tolerance_of(backbone.spec)
        for batches in ([[array] for array in self.arrays], [self.arrays]):
            found = np.concatenate([backbone.forward(batch) for batch in batches])
            if not within(found, self.expected, tolerance):
                cosine, difference = differences(found, self.expected)
                raise BackboneInvalid(
                    f"backbone {backbone.spec.name!r} on {backbone.plan.runtime}, provider "
                    f"{backbone.provider!r}, misses its golden embeddings: "
                    f"least cosine {cosine:.6f} (at least {tolerance.min_cosine}), largest difference {difference:.1e} "
                    f"(at most {tolerance.max_difference:.0e}); it is not served; export it again, or use another "
                    "provider"
                )
