"""A session proves itself: its embeddings of the golden items -> nothing, or an error that says how far they stand."""

from pathlib import Path

import numpy as np

from extractor.backbone import Backbone
from extractor.errors import BackboneInvalid
from extractor.golden import TOLERANCES, differences, read_golden, within
from extractor.prepare import Prepare
from extractor.spec import GOLDEN_FILE


def prove(backbone: Backbone, prepare: Prepare, folder: Path) -> None:
    """Let a session run the golden items, one by one and together; raise BackboneInvalid beyond the tolerance."""
    golden = read_golden(folder / GOLDEN_FILE)
    arrays = [prepare(item).array for item in golden.items]
    tolerance = TOLERANCES[backbone.spec.precision]
    for batches in ([[array] for array in arrays], [arrays]):
        found = np.concatenate([backbone.forward(batch) for batch in batches])
        if not within(found, golden.embeddings, tolerance):
            cosine, difference = differences(found, golden.embeddings)
            raise BackboneInvalid(
                f"backbone {backbone.spec.name!r} on provider {backbone.provider!r} misses its golden embeddings: "
                f"least cosine {cosine:.6f} (at least {tolerance.min_cosine}), largest difference {difference:.1e} "
                f"(at most {tolerance.max_difference:.0e}); it is not served; export it again, or use another provider"
            )
