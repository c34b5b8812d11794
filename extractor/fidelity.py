"""How near one precision stands to fp32: the facts that a spec holds, and the floor below which it is refused."""

import math
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

MIN_GOLDEN = 0.6  # a session may stand twice as far: with less, next to anything would pass for proved
BATCH_COSINE = 0.99999  # one item alone and among any mates; else the same bytes would have two embeddings


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How near a session's embeddings stand to the reference in fp32.

    Parameters
    ----------
    n_items : int
        That were compared.
    mean_cosine, min_cosine : float
        Between an item's two embeddings.
    neighbours : float
        Share of the items whose nearest neighbour, by cosine, is the same item.
    neighbours_10 : float
        Share of the ten nearest that are the same, whatever their order.
    batch_cosine : float
        The least between an item's embedding alone and in a batch.
    """

    n_items: int
    mean_cosine: float
    min_cosine: float
    neighbours: float
    neighbours_10: float
    batch_cosine: float


@dataclass(frozen=True, kw_only=True)
class HeadAccuracy:
    """Cross-validated accuracy of a head on labelled items: learnt and judged in fp32, and in the other precision."""

    n_items: int
    fp32: float
    own: float


_Numbers = TypeVar("_Numbers", Fidelity, HeadAccuracy)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured when a backbone was made in another precision; takes no part in the fingerprint.

    Parameters
    ----------
    fidelity : Fidelity
        Against fp32, on items that it was not calibrated on.
    floor : float
        The mean cosine that was asked for.
    golden_cosine : float
        The least to the golden embeddings, which are the reference framework's.
    n_calibrated : int
        Items that the ranges of int8 were taken from.
    kept_fp32 : tuple of str
        The layers that stay in fp32, the worst first.
    head : HeadAccuracy, optional
    """

    fidelity: Fidelity
    floor: float
    golden_cosine: float
    n_calibrated: int = 0
    kept_fp32: tuple[str, ...] = ()
    head: HeadAccuracy | None = None

    @classmethod
    def parse(cls, facts: dict[str, Any]) -> Self:
        """Read what `spec.json` holds; raises KeyError, TypeError or ValueError."""
        head = facts.get("head")
        return cls(
            **{
                **facts,
                "fidelity": _numbers(Fidelity, facts["fidelity"]),
                "floor": _cosine("floor", facts["floor"]),
                "golden_cosine": _golden(_cosine("golden_cosine", facts["golden_cosine"])),
                "n_calibrated": _count("n_calibrated", facts.get("n_calibrated", 0)),
                "kept_fp32": tuple(map(str, facts.get("kept_fp32", ()))),
                "head": None if head is None else _numbers(HeadAccuracy, head),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The least fidelity of a plan that is offered; fields as in `Fidelity`."""

    mean_cosine: float = 0.998
    min_cosine: float = 0.99
    neighbours: float = 0.90

    def misses(self, fidelity: Fidelity) -> str:
        """Return in words what misses the floor; empty if nothing does."""
        if not fidelity.batch_cosine >= BATCH_COSINE:
            return f"its embeddings depend on batch-mates (cosine {fidelity.batch_cosine:.5f})"
        for name in ("mean_cosine", "min_cosine", "neighbours"):
            found, least = getattr(fidelity, name), getattr(self, name)
            if not found >= least:
                return f"{name.replace('_', ' ')} {found:.6f}, below {least}"
        return ""


def _numbers(kind: type[_Numbers], facts: dict[str, Any]) -> _Numbers:
    for field in fields(kind):
        if not isinstance(facts[field.name], int | float) or not math.isfinite(facts[field.name]):
            raise ValueError(f"{field.name} is {facts[field.name]!r}, not a number")
    return kind(**facts)


def _golden(cosine: float) -> float:
    if cosine < MIN_GOLDEN:
        raise ValueError(f"golden_cosine is {cosine}, below {MIN_GOLDEN}: it would prove nothing")
    return cosine


def _count(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}, not a count")
    return value


def _cosine(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not -1 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, not between -1 and 1")
    return value
