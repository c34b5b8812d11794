"""An array as it was sent -> the array that the graph takes: its dtype and shape are the spec's, its values finite."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.errors import UndecodableItem
from extractor.recipes import ArrayPreprocess


def fit_array(array: NDArray[Any], facts: ArrayPreprocess) -> NDArray[Any]:
    """Check an array against the spec, and cast it to its dtype.

    Returns
    -------
    ndarray of `facts.shape` and `facts.dtype`

    Raises
    ------
    UndecodableItem
        Another shape, a dtype that cannot be cast without a loss, or a value that is not finite.
    """
    _check_shape(array.shape, facts)
    dtype = np.dtype(facts.dtype)
    if not (np.can_cast(array.dtype, dtype, "safe") or (array.dtype.kind == dtype.kind == "f")):
        raise UndecodableItem(f"array is of {array.dtype}, the backbone takes {dtype}; cast it with astype")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise UndecodableItem(f"array has NaN, or values beyond what {dtype} holds; send finite numbers")
    return cast


def _check_shape(shape: tuple[int, ...], facts: ArrayPreprocess) -> None:
    first, *rest = facts.shape or (None,)
    if not isinstance(first, str):
        fits = shape == facts.shape
    else:
        fits = shape[1:] == tuple(rest) and len(shape) > 0 and facts.min_length <= shape[0] <= facts.max_length
    if not fits:
        bounds = f" with {first} from {facts.min_length:,} to {facts.max_length:,}" if isinstance(first, str) else ""
        raise UndecodableItem(
            f"array is {_text(shape)}, the backbone takes {_text(facts.shape)}{bounds}; send such a one"
        )


def _text(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
