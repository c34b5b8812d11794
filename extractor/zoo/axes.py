"""The shape of what a layer computes (n, …) -> which axis is its dim, and how it is pooled where nobody says."""

from collections.abc import Sequence

from extractor.errors import ExportError

ROWS = "none"  # what a spec says of layers that are rows already
_OF_ROWS = ("flatten", "pooler")  # which rows satisfy: of any shape, and a layer by itself


def by_default(n_axes: int) -> str:
    """Return the pooling for values of so many axes: rows stay, states of tokens and maps of features are averaged."""
    return {2: ROWS, 3: "mean"}.get(n_axes, "gap")


def pooling_of(said: str | None, shapes: Sequence[Sequence[int]], otherwise: str | None = None) -> str:
    """Return what a spec says of how layers of these shapes were pooled.

    Parameters
    ----------
    said : str, optional
        By whoever chose the layers.
    shapes : sequence of shape
        Of the layers' values.
    otherwise : str, optional
        What was taken where nobody said; where that is nothing, `by_default` of the first that is not of rows.

    Raises
    ------
    ExportError
        Something was said, and all layers are rows, of which it would change nothing.
    """
    pooled = [len(shape) for shape in shapes if len(shape) > 2]
    if said and not pooled and said not in _OF_ROWS:
        raise ExportError(f"the layers give {shapes[0]} for one item, rows already; leave --pooling {said} away")
    if said or not pooled:
        return said or ROWS
    return otherwise if otherwise not in (None, ROWS) else by_default(pooled[0])


def dim_is_last(shape: Sequence[int]) -> bool:
    """Tell states of tokens (n, tokens, dim), and maps as Swin has them (n, side, side, dim), of square images."""
    return len(shape) == 3 or (len(shape) == 4 and shape[1] == shape[2] != shape[3])
