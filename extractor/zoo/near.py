"""A name that is not known, and those that are -> the few that may be meant, as an error says it."""

from collections.abc import Collection
from difflib import get_close_matches

SHOWN = 5
_ALIKE = 0.5  # as difflib measures it


def near(name: str, known: Collection[str]) -> str:
    """Return `near it are a, b`; or where none is, how many there are, and the first."""
    if found := get_close_matches(name.lower(), known, n=SHOWN, cutoff=_ALIKE):
        return f"near it are {', '.join(found)}"
    return f"there are {len(known)}: {', '.join([*known][:SHOWN])}{', …' if len(known) > SHOWN else ''}"
