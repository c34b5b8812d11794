"""What a benchmark is asked to compare -> the names chosen, or what is wrong with them."""

import argparse
from collections.abc import Callable, Sequence


def some_of(known: Sequence[str]) -> Callable[[str], set[str]]:
    """Return how argparse reads names joined by commas, each of which is known."""

    def read(text: str) -> set[str]:
        chosen = set(text.split(","))
        if unknown := chosen - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose among {', '.join(known)}")
        return chosen

    return read
