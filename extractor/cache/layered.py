"""Two tiers as one: what the slow one finds, the fast one keeps."""

from collections.abc import Sequence

from extractor.cache import Cache, CacheFacts, Entry
from extractor.outcome import Embedded


class Layered:
    """A fast tier in front of a slow one.

    Parameters
    ----------
    front, back : Cache
    """

    waits = True

    def __init__(self, front: Cache, back: Cache) -> None:
        self.front = front
        self.back = back

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what either tier has under each key, in order, None where none has."""
        found = self.front.get_many(keys)
        absent = [place for place, entry in enumerate(found) if entry is None]
        if absent:
            for place, entry in zip(absent, self.back.get_many([keys[place] for place in absent]), strict=True):
                found[place] = entry
            self.front.put_many([(keys[place], entry) for place in absent if (entry := found[place]) is not None])
        return found

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store entries in both."""
        self.front.put_many(entries)
        self.back.put_many(entries)

    def facts(self) -> list[CacheFacts]:
        """Return how each is."""
        return self.front.facts() + self.back.facts()

    def close(self) -> None:
        """Close both."""
        self.front.close()
        self.back.close()
