"""A value inside a network, as `headwater layers` lists it: its name, what computes it, its shape."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A value inside a network.

    Parameters
    ----------
    name : str
        Which `--layer` takes.
    node, operator : str
        Of what computes it.
    shape : tuple of int or str, optional
        Of a batch, with a name where an axis is free; None where it is not known before the network runs.
    """

    name: str
    node: str
    operator: str
    shape: tuple[int | str, ...] | None
