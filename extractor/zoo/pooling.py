"""What a layer computes (n, …) -> (n, dim) in torch: means, maxima and single states, without what is padding."""

import torch

from extractor.errors import ExportError

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


def pool(values: torch.Tensor, pooling: str | None, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Turn what a layer computes into rows.

    Parameters
    ----------
    values : Tensor of shape (n, …)
        Rows are left as they are.
    pooling : str, optional
        One of `POOLINGS`; by default `mean` of states of tokens, with three axes, and `gap` of maps of features.
    mask : Tensor of shape (n, tokens), optional
        1 for states of tokens, 0 for padding.

    Returns
    -------
    Tensor of shape (n, dim), float32

    Raises
    ------
    ExportError
        The values cannot be pooled so.
    """
    _check(values, pooling, mask)
    values = values.to(torch.float32)
    if values.ndim == 2:
        return values
    chosen = pooling or ("mean" if values.ndim == 3 else "gap")
    if mask is not None:
        return _of_tokens(values, chosen, mask)
    if chosen == "gap":
        return values.flatten(2).mean(dim=2)
    if chosen == "max":
        return values.flatten(2).amax(dim=2)
    if chosen == "mean":
        return values.flatten(1, -2).mean(dim=1)
    if chosen == "flatten":
        return values.flatten(1)
    return values[:, 0 if chosen == "cls" else -1]


def _check(values: torch.Tensor, pooling: str | None, mask: torch.Tensor | None) -> None:
    shape = tuple(values.shape)
    if pooling is not None and pooling not in POOLINGS:
        raise ExportError(f"pooling is {pooling!r}, not one of {', '.join(POOLINGS)}")
    if len(shape) < 2:
        raise ExportError(f"a layer gives {shape} for one item; its first axis is to be the batch; choose another")
    if pooling in _TOKENS and len(shape) > 3:
        raise ExportError(f"a layer gives {shape} for one item; {pooling} takes {POOLINGS[pooling]}; take gap or max")
    if mask is None or len(shape) == 2:
        return
    if len(shape) != 3 or shape[1] != mask.shape[1]:
        raise ExportError(
            f"a layer gives {shape} for one item, no states of its {mask.shape[1]} places; choose another"
        )
    if pooling in _WHOLE:
        raise ExportError(f"pooling {pooling} would take padding in; states take mean, cls, max or last")


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
