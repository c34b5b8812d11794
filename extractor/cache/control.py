"""What one request asks of the cache; none of it changes an embedding."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class CacheControl:
    """Directives of a request, named as HTTP names them (RFC 9111, section 5.2.1).

    Parameters
    ----------
    no_cache : bool
        Nothing is answered from what is stored: what is not being computed already is computed.
    no_store : bool
        What is computed is not stored, unless another request that waits for the same item wants it.
    """

    no_cache: bool = False
    no_store: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read directives that are joined by commas: `no-cache, no-store`; others are ignored, as the RFC has it."""
        names = {name.strip().lower() for name in text.split(",")}
        return cls(no_cache="no-cache" in names, no_store="no-store" in names)


PLAIN = CacheControl()
