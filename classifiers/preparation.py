"""Embeddings as a backbone gives them -> as estimators take them: of unit length, centred, of one scale."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import BLOCK_ROWS, check_finite, unit_length
from classifiers.errors import HeadInvalid, InvalidOption

TRANSFORMATIONS = ("UN", "L2N", "CL2N", "SCALED")


@dataclass(frozen=True, eq=False)
class Preparation:
    """What is done to embeddings before an estimator sees them; it is learnt from them alone, without labels.

    Parameters
    ----------
    transformation : {'UN', 'L2N', 'CL2N', 'SCALED'}
        Nothing; unit length; unit length, centred, and unit length again (SimpleShot: Wang, Chao, Weinberger and van
        der Maaten, 2019, which centres first); unit length, centred, and divided by `scale`, so that one grid of
        C or gamma suits every backbone. An embedding of zeros has no direction and stays zeros until it is centred.
    center : ndarray of shape (dim,), float64
        Mean of the unit-length embeddings; zeros for `UN` and `L2N`.
    scale : float
        Root of their mean squared distance from it; 1 except for `SCALED`.

    Raises
    ------
    HeadInvalid
        An unknown transformation, or values that are not finite.
    """

    transformation: str
    center: NDArray[np.float64]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.transformation not in TRANSFORMATIONS:
            raise HeadInvalid(f"preparation is {self.transformation!r}, not one of {', '.join(TRANSFORMATIONS)}")
        if self.center.ndim != 1 or not len(self.center) or not np.isfinite(self.center).all():
            raise HeadInvalid(f"the center is {self.center.shape}, and must be (dim,), finite; train the head again")
        if not 0 < self.scale < np.inf:
            raise HeadInvalid(f"the scale is {self.scale!r}, and must be positive and finite; train the head again")

    @classmethod
    def fit(cls, X: NDArray[Any], transformation: str = "SCALED") -> Self:
        """Learn center and scale from embeddings X (n, dim), float.

        Raises
        ------
        InvalidOption
            An unknown transformation.
        NotFinite
            NaN or infinity in X.
        """
        if transformation not in TRANSFORMATIONS:
            raise InvalidOption(f"transformation is {transformation!r}, not one of {', '.join(TRANSFORMATIONS)}")
        check_finite(X)
        if transformation in ("UN", "L2N"):
            return cls(transformation, np.zeros(X.shape[1]))
        center = np.sum([unit.sum(axis=0, dtype=np.float64) for unit in _units(X)], axis=0) / len(X)
        squared = np.concatenate([((unit - center) ** 2).sum(axis=1) for unit in _units(X)])
        spread = float(np.sqrt(squared.mean()))
        # Embeddings that are all alike differ by rounding alone, which is not to be blown up.
        alike = spread <= 100 * np.finfo(np.result_type(X.dtype, 1.0)).eps
        return cls(transformation, center, 1.0 if alike or transformation == "CL2N" else spread)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return len(self.center)

    def __call__(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return prepared embeddings of X (n, dim), (n, dim), float32 or float64 as X is.

        Raises
        ------
        NotFinite
            NaN or infinity in X.
        ValueError
            Embeddings of another length.
        """
        embeddings = np.asarray(X)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise ValueError(f"X is {embeddings.shape}, the head takes (n, {self.dim}); extract with its own backbone")
        if embeddings.dtype not in (np.float32, np.float64):
            embeddings = embeddings.astype(np.float64)
        check_finite(embeddings)
        if self.transformation == "UN":
            return embeddings
        unit = unit_length(embeddings)
        if self.transformation == "L2N":
            return unit
        unit -= self.center.astype(unit.dtype)  # in place, for it may be gigabytes
        unit /= unit.dtype.type(self.scale)
        if self.transformation == "SCALED":
            return unit
        # What centring leaves of a row at the centre is rounding, and has no direction.
        return unit_length(unit, least=16 * float(np.finfo(unit.dtype).eps) * float(np.abs(self.center).max()))


def _units(X: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield embeddings X (n, dim) of unit length, block by block: float64 of very many would not fit into memory."""
    for start in range(0, len(X), BLOCK_ROWS):
        yield unit_length(X[start : start + BLOCK_ROWS])
