"""Who asks: the name by which work is shared out fairly, and the weight of its share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """One party among those that share a backbone; all requests of one name stand in one line.

    Parameters
    ----------
    name : str
    weight : float
        Share of the work relative to the other callers that have work waiting, above 0.
    """

    name: str = ""
    weight: float = 1.0


ANYONE = Caller()
