"""Golden embeddings: fixed items and what the reference framework made of them, by which a session proves itself.

`golden.npz` holds three arrays: `data` uint8 (total,), all items end to end; `offsets` int64 (n + 1,), where each
begins; `embeddings` float32 (n, dim), computed by the untouched reference module on the prepared items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.errors import BackboneInvalid
from extractor.outcome import Embedding
from extractor.spec import Spec


@dataclass(frozen=True)
class Tolerance:
    """How far a precision may stand from the reference: the least cosine, and the largest difference.

    A difference is relative to the largest value of its embedding where that is above 1, else absolute: a network whose
    values are in the thousands has rounding errors in the thousandths.
    """

    min_cosine: float
    max_difference: float


SLACK = 1e-4  # beside twice the distance that was measured: another processor rounds in another order

# Of precisions other than fp32 the angle alone is bound: their differences grow with the embedding's values. These are
# for specs without a report, as of a plan that is only tried. Measured in bf16 on the golden items, OpenVINO against
# torch: least cosine 0.99787 for EfficientNet-Lite0, 0.99997 for MiniLM.
TOLERANCES = {
    "fp32": Tolerance(min_cosine=0.99999, max_difference=1e-4),
    "fp16": Tolerance(min_cosine=0.999, max_difference=inf),
    "bf16": Tolerance(min_cosine=0.99, max_difference=inf),
    "int8": Tolerance(min_cosine=0.9, max_difference=inf),
}


@dataclass(frozen=True, eq=False)
class Golden:
    """Fixed items and their reference embeddings.

    Parameters
    ----------
    items : sequence of bytes
    embeddings : ndarray of shape (n, dim), float32
    """

    items: Sequence[bytes]
    embeddings: Embedding


def tolerance_of(spec: Spec) -> Tolerance:
    """Return how far a session of a backbone may stand from its golden embeddings.

    Where the spec has a report: twice as far as when the backbone was made, as 1 - cosine.
    """
    if spec.report is None:
        return TOLERANCES[spec.precision]
    return Tolerance(min_cosine=2 * spec.report.golden_cosine - 1 - SLACK, max_difference=inf)


def read_golden(path: Path) -> Golden:
    """Read `golden.npz`.

    Raises
    ------
    BackboneInvalid
        The file is not what this module writes.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            data, offsets = arrays["data"].tobytes(), arrays["offsets"].tolist()
            items = [data[start:end] for start, end in pairwise(offsets)]
            return Golden(items, arrays["embeddings"].astype(np.float32, copy=False))
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise BackboneInvalid(f"{path} cannot be read ({error}); export the backbone again") from None


def write_golden(path: Path, golden: Golden) -> None:
    """Write `golden.npz`."""
    offsets = np.cumsum([0, *map(len, golden.items)], dtype=np.int64)
    data = np.frombuffer(b"".join(golden.items), np.uint8)
    np.savez(path, data=data, offsets=offsets, embeddings=golden.embeddings.astype(np.float32))


def differences(found: Embedding, expected: Embedding) -> tuple[float, float]:
    """Return the least cosine between paired rows of two (n, dim) arrays, and the largest difference; see Tolerance.

    Two zeros point the same way, as what a rectifier gives may be.
    """
    a, b = found.astype(np.float64), expected.astype(np.float64)
    scale = np.maximum(1, np.abs(b).max(axis=1, keepdims=True))
    return float(cosines_of(a, b).min()), float((np.abs(a - b) / scale).max())


def cosines_of(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows (n,), at most 1; two rows of zeros are the same, so theirs is 1."""
    dots = (units_of(a) * units_of(b)).sum(axis=1)
    cosines: NDArray[np.float64] = np.where(a.any(axis=1) | b.any(axis=1), np.minimum(dots, 1), 1.0)
    return cosines


def units_of(embeddings: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows (n, dim) of length 1; those of zeros stay."""
    values = embeddings.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    with np.errstate(invalid="ignore"):  # of infinity, as fp16 gives where it overflows: NaN, which is near to nothing
        units: NDArray[np.float64] = values / lengths
    return units


def within(found: Embedding, expected: Embedding, tolerance: Tolerance) -> bool:
    """Tell whether (n, dim) embeddings stand within a tolerance of the reference; NaN never does."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False
    cosine, difference = differences(found, expected)
    return cosine >= tolerance.min_cosine and difference <= tolerance.max_difference
