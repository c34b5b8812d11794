"""The keys that a server knows right now: a key as it was sent -> its `Key`; the file is re-read when it changes."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from headwater.errors import KeyFileInvalid, Unauthenticated
from headwater.keys import PREFIX, Key, read_keys

log = logging.getLogger(__name__)

CHECK_S = 1.0  # between two looks at the file: how long a revoked key may still work

_Stamp = tuple[int, int, int, int]


class KeyRing:
    """Keeps to a file of keys while it changes.

    A file that is broken leaves the former keys in force; a file that is gone leaves none. Not for several threads.

    Parameters
    ----------
    path : Path
    clock : callable
        Monotonic, in seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._stamp: _Stamp | None = None
        self._checked = clock()

    def load(self) -> None:
        """Read the file for the first time; raises KeyFileInvalid."""
        self._stamp = _stamp(self.path)
        self._take(read_keys(self.path))

    def find(self, text: str) -> Key:
        """Return the good key that was sent as `hw_<id>_<secret>`; raises Unauthenticated."""
        self._refresh()
        prefix, _, rest = text.partition("_")
        number, _, secret = rest.partition("_")
        if prefix != PREFIX or not secret:
            raise Unauthenticated(f"the key that was sent is not of the form {PREFIX}_<id>_<secret>; send it whole")
        key = self._keys.get(number)
        if key is None or not key.opens_with(secret):
            raise Unauthenticated("the key that was sent is not known here; ask this server's operator for one")
        return _good(key)

    def named(self, name: str) -> Key:
        """Return the good key of a name, of which a client certificate was verified; raises Unauthenticated."""
        self._refresh()
        keys = [key for key in self._keys.values() if key.name == name]
        if not keys:
            raise Unauthenticated(
                f"no key stands for the certificate's name {name!r}; add one: headwater keys add NAME"
            )
        return _good(max(keys, key=lambda key: (key.revoked is None, key.created)))

    def again(self, key: Key) -> Key:
        """Return a key that was found before, as it is now; raises Unauthenticated when it is good no more."""
        self._refresh()
        if key.id not in self._keys:
            raise Unauthenticated(f"the key {key.name!r} has been taken away; ask this server's operator for another")
        return _good(self._keys[key.id])

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._checked < CHECK_S:
            return
        self._checked = now
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # before the file is read: what is written meanwhile is seen at the next look
        if stamp is None:
            log.error("the key file %s is gone: every key is refused until it is back", self.path)
            self._keys = {}
            return
        try:
            self._take(read_keys(self.path))
        except KeyFileInvalid as error:
            log.error("the former keys stay in force: %s", error)
        else:
            log.info("%d keys read from %s", len(self._keys), self.path)

    def _take(self, keys: tuple[Key, ...]) -> None:
        self._keys = {key.id: key for key in keys}


def _good(key: Key) -> Key:
    state = key.state(datetime.now(UTC))
    if state == "good":
        return key
    date = key.revoked or key.expires
    raise Unauthenticated(f"the key {key.name!r} ({key.id}) {state} on {date}; ask this server's operator for another")


def _stamp(path: Path) -> _Stamp | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:  # its folder cannot be read, say: no reason to shut everyone out
        log.error("cannot look at the key file %s: %s", path, error.strerror)
        return (0, 0, 0, 0)
    # The ctime, for a file that could not be read is another one once its mode is mended.
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino
