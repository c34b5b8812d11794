"""What is served: a name -> its extractor, with its users, so that one can come and go without dropping a request."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

from extractor.errors import BackboneNotFound, BackboneNotNamed, BackboneServed, Closed
from extractor.pipeline import Extractor

SHOWN_CHARACTERS = 100  # of a caller's name in a message
LAST_BATCH_S = 30.0  # for what an extractor has in hand when its last user has left


@dataclass(eq=False)
class ServedBackbone:
    """One extractor while it is served.

    Parameters
    ----------
    extractor : Extractor
    loaded_at : float
        Unix time, in seconds.
    leaving : asyncio.Event
        Set when it was replaced or removed: streams then go on elsewhere.
    users : dict of object to float
        When each request that runs on it came, on the clock of `time.monotonic`; the oldest first.
    """

    extractor: Extractor
    loaded_at: float = field(default_factory=time.time)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    users: dict[object, float] = field(default_factory=dict)

    @property
    def longest_s(self) -> float:
        """How long the oldest request has run; 0 without one."""
        return time.monotonic() - next(iter(self.users.values())) if self.users else 0.0


class Served:
    """The backbones of a server; used on its event loop alone, but for `extractors` and `close`.

    An extractor that is replaced or removed goes on for its present users, and is closed, in a thread, when the last
    one has left.

    Parameters
    ----------
    extractors : mapping of str to Extractor
        By the names of their backbones.
    """

    def __init__(self, extractors: Mapping[str, Extractor]) -> None:
        self._serving = {name: ServedBackbone(extractor) for name, extractor in extractors.items()}
        self._leaving: set[ServedBackbone] = set()
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._serving)

    @property
    def n_leaving(self) -> int:
        """How many extractors were replaced or removed and have users left."""
        return len(self._leaving)

    def extractors(self) -> dict[str, Extractor]:
        """Return what is served now, by name; a copy, which any thread may ask for."""
        return {name: one.extractor for name, one in dict(self._serving).items()}

    @contextmanager
    def using(self, name: str) -> Iterator[Extractor]:
        """Use the extractor of a name for one request, whatever is loaded or unloaded meanwhile.

        Parameters
        ----------
        name : str
            May be empty where a single backbone is served.

        Raises
        ------
        BackboneNotFound, BackboneNotNamed
        """
        one = self.named(name)
        user = object()
        one.users[user] = time.monotonic()
        try:
            yield one.extractor
        finally:
            del one.users[user]
            self._close_when_left(one)

    def named(self, name: str) -> ServedBackbone:
        """Return what is served under a name; raises BackboneNotFound or BackboneNotNamed."""
        if name in self._serving:
            return self._serving[name]
        if not self._serving:
            raise BackboneNotFound("no backbone is served here now; load one: headwater admin load NAME")
        if name:
            raise BackboneNotFound(f"no backbone {shown(name)} is served here; there are: {', '.join(self.names)}")
        if len(self._serving) > 1:
            raise BackboneNotNamed(
                f"the request names no backbone, and several are served: {', '.join(self.names)}; name one"
            )
        return next(iter(self._serving.values()))

    def add(self, name: str, extractor: Extractor) -> None:
        """Serve one more; raises BackboneServed when the name is taken, Closed when the server is stopping."""
        self._check_open(extractor)
        if name in self._serving:
            _close_in_thread(extractor, LAST_BATCH_S)
            raise BackboneServed(f"backbone {name!r} is served; to load it anew: headwater admin replace {name}")
        self._serving[name] = ServedBackbone(extractor)

    def replace(self, name: str, extractor: Extractor) -> None:
        """Give new requests another extractor; raises BackboneNotFound, or Closed when the server is stopping."""
        self._check_open(extractor)
        old = self.named(name)
        self._serving[name] = ServedBackbone(extractor)
        self._leave(old)

    def remove(self, name: str) -> None:
        """Take a backbone off; raises BackboneNotFound."""
        old = self.named(name)
        del self._serving[name]
        self._leave(old)

    def close(self, timeout_s: float) -> None:
        """Close all at once, within one timeout however many hang; from any thread, and once."""
        if self._closed:
            return
        self._closed = True
        closing = [_close_in_thread(one.extractor, timeout_s) for one in (*self._serving.values(), *self._leaving)]
        for thread in closing:
            thread.join()

    def _check_open(self, extractor: Extractor) -> None:
        if self._closed:
            _close_in_thread(extractor, LAST_BATCH_S)
            raise Closed("the server is stopping and loads nothing more; ask it once it is back")

    def _leave(self, one: ServedBackbone) -> None:
        self._leaving.add(one)
        one.leaving.set()
        self._close_when_left(one)

    def _close_when_left(self, one: ServedBackbone) -> None:
        if one in self._leaving and not one.users:
            self._leaving.remove(one)
            _close_in_thread(one.extractor, LAST_BATCH_S)


def shown(name: str) -> str:
    """Return a caller's name as a message shows it: quoted, and cut where it is long."""
    return repr(name) if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]!r}…"


def _close_in_thread(extractor: Extractor, timeout_s: float) -> Thread:
    thread = Thread(target=extractor.close, args=(timeout_s,), name="closing", daemon=True)
    thread.start()
    return thread
