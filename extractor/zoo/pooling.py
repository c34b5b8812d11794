"""What a layer computes (n, …) -> (n, dim) in torch: means, maxima and single states, without what is padding."""

import torch

from extractor.errors import ExportError
from extractor.zoo.axes import by_default, dim_is_last

# What each takes: how many axes, the batch's among them.
POOLINGS = {
    "gap": "maps of features (n, channels, …)",
    "max": "maps of features (n, channels, …), or states of tokens (n, tokens, dim)",
    "mean": "states of tokens (n, …, dim)",
    "cls": "states of tokens (n, tokens, dim)",
    "last": "states of tokens (n, tokens, dim)",
    "flatten": "anything of one shape",
}
_TOKENS = ("cls", "last")
_WHOLE = ("gap", "flatten")


def pool(
    values: torch.Tensor, pooling: str | None, mask: torch.Tensor | None = None, *, tokens: bool = False
) -> torch.Tensor:
    """Turn what a layer computes into rows.

    Parameters
    ----------
    values : Tensor of shape (n, …)
        Rows are left as they are.
    pooling : str, optional
        One of `POOLINGS`; by default `mean` of states of tokens, with three axes, and `gap` of maps of features.
    mask : Tensor of shape (n, tokens), optional
        1 for states of tokens, 0 for padding.
    tokens : bool
        Three axes are states of tokens (n, tokens, dim), and four may be maps (n, side, side, dim), as networks of
        images have them; otherwise `gap` and `max` take all as (n, channels, …).

    Returns
    -------
    Tensor of shape (n, dim), float32

    Raises
    ------
    ExportError
        The values cannot be pooled so.
    """
    _check(values, pooling, mask, tokens)
    values = values.to(torch.float32)
    if values.ndim == 2:
        return values
    chosen = pooling or by_default(values.ndim)
    if mask is not None:
        return _of_tokens(values, chosen, mask)
    if chosen in _TOKENS:
        return values[:, 0 if chosen == "cls" else -1]
    if chosen == "flatten":
        return values.flatten(1)
    last = chosen == "mean" or (tokens and dim_is_last(values.shape))
    places, axis = (values.flatten(1, -2), 1) if last else (values.flatten(2), 2)
    return places.amax(dim=axis) if chosen == "max" else places.mean(dim=axis)


def _check(values: torch.Tensor, pooling: str | None, mask: torch.Tensor | None, tokens: bool) -> None:
    shape = tuple(values.shape)
    if pooling is not None and pooling not in POOLINGS:
        raise ExportError(f"pooling is {pooling!r}, not one of {', '.join(POOLINGS)}")
    if len(shape) < 2:
        raise ExportError(f"a layer gives {shape} for one item; its first axis is to be the batch; choose another")
    if pooling is not None and (better := _instead(shape, pooling, tokens)):
        raise ExportError(f"a layer gives {shape} for one item; {pooling} takes {POOLINGS[pooling]}; take {better}")
    if mask is None or len(shape) == 2:
        return
    if len(shape) != 3 or shape[1] != mask.shape[1]:
        raise ExportError(
            f"a layer gives {shape} for one item, no states of its {mask.shape[1]} places; choose another"
        )
    if pooling in _WHOLE:
        raise ExportError(f"pooling {pooling} would take padding in; states take mean, cls, max or last")


def _instead(shape: tuple[int, ...], pooling: str, tokens: bool) -> str | None:
    """Return what to take where a pooling would run over other axes than the places; None where it fits."""
    if tokens and pooling == "gap" and len(shape) == 3:
        return "mean, max or cls"
    channels_first = tokens and len(shape) == 4 and shape[1] != shape[2]
    return "gap or max" if (pooling in _TOKENS and len(shape) > 3) or (pooling == "mean" and channels_first) else None


def _of_tokens(states: torch.Tensor, pooling: str, mask: torch.Tensor) -> torch.Tensor:
    """Pool states (n, tokens, dim) of which only those of the mask count."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (places == (mask.sum(dim=1, keepdim=True) - 1)).unsqueeze(-1)
        return (states * last.to(states.dtype)).sum(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return (states * weights + (weights - 1) * torch.finfo(torch.float32).max).amax(dim=1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)
