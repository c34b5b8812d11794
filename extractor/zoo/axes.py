"""The shape of what a layer computes (n, …) -> which axis is its dim, and how it is pooled where nobody says."""

from collections.abc import Sequence

ROWS = "none"  # what a spec says of layers that are rows already


def by_default(n_axes: int) -> str:
    """Return the pooling for values of so many axes: rows stay, states of tokens and maps of features are averaged."""
    return {2: ROWS, 3: "mean"}.get(n_axes, "gap")


def dim_is_last(shape: Sequence[int]) -> bool:
    """Tell states of tokens (n, tokens, dim), and maps as Swin has them (n, side, side, dim), of square images."""
    return len(shape) == 3 or (len(shape) == 4 and shape[1] == shape[2] != shape[3])
