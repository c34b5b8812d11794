"""The file of API keys: who may call a server, stored as hashes -> `Key`s; `add` and `revoke` change it.

A key is `hw_<id>_<secret>`. The file holds the id and the SHA-256 of the secret, never the secret. A hash made slow on
purpose (bcrypt, scrypt) protects secrets that people choose; ours are 256 random bits, which no one can try out, and
so a fast hash is as good and costs a call nothing.

The file is written under a temporary name and renamed, so that a reader sees the old one or the new one, and under a
lock, so that of two commands at once neither undoes the other.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from headwater.errors import KeyFileInvalid, KeyNotFound, KeyNotMade

FORMAT = 1
PREFIX = "hw"
ID_BYTES = 4
SECRET_BYTES = 32
MIN_DEFAULT_BURST = 64  # items: what our own client puts into one request


class Role(StrEnum):
    """What a key is for."""

    EXTRACT = "extract"
    CLASSIFY = "classify"
    TEACH = "teach"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known of an API key; the key itself is not.

    Parameters
    ----------
    id : str
        The middle part of the key.
    name : str
        Who holds it; of the keys that are good at one time, no two have the same.
    digest : str
        SHA-256 of the secret, in hexadecimal.
    roles : frozenset of Role
    weight : float
        Share of the server beside the other keys that have work waiting, above 0.
    items_per_s : float, optional
        How many items a second it may send in the long run; by default as many as there is room for.
    burst : int, optional
        How many items it may send at once after a rest; by default one second's worth, and at least 64.
    max_calls : int, optional
        How many calls it may have running.
    created, expires, revoked : datetime, optional
        In UTC.
    """

    id: str
    name: str
    digest: str
    roles: frozenset[Role]
    weight: float = 1.0
    items_per_s: float | None = None
    burst: int | None = None
    max_calls: int | None = None
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    @property
    def bucket_size(self) -> int:
        """Items that it may send at once after a rest; of no meaning where there is no `items_per_s`."""
        return self.burst or max(MIN_DEFAULT_BURST, int(self.items_per_s or 0))

    def opens_with(self, secret: str) -> bool:
        """Tell whether a secret is this key's, in a time that does not depend on where they differ."""
        return hmac.compare_digest(_digest(secret), self.digest)

    def state(self, now: datetime) -> str:
        """Return "good", "revoked" or "expired"."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "good"


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys.

    Raises
    ------
    KeyFileInvalid
        It is not there, cannot be read, is of a newer format, or holds what is no key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise KeyFileInvalid(f"there is no key file {path}; make one: headwater keys add NAME --file {path}") from None
    except OSError as error:
        raise KeyFileInvalid(f"cannot read the key file {path}: {error.strerror}") from None
    return _parse(content, path)


def add(path: Path, name: str, roles: Sequence[Role], *, expires_in: timedelta | None = None, **bounds: Any) -> str:
    """Make a key and put it into the file, which need not exist yet.

    Parameters
    ----------
    path : Path
    name : str
    roles : sequence of Role
    expires_in : timedelta, optional
    bounds
        `weight`, `items_per_s`, `burst` and `max_calls` of the Key.

    Returns
    -------
    str
        The key, `hw_<id>_<secret>`: it is nowhere else.

    Raises
    ------
    KeyNotMade
        The name is taken by a key that is good, or has characters that a log line would not bear; or a bound is not
        above zero.
    KeyFileInvalid
    """
    now = _now()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with _changing(path) as keys:
        key = Key(
            id=_new_id(keys),
            name=name,
            digest=_digest(secret),
            roles=frozenset(roles),
            created=now,
            expires=now + expires_in if expires_in is not None else None,
            **bounds,
        )
        _check(key, [one for one in keys if one.state(now) == "good"], path)
        keys.append(key)
    return f"{PREFIX}_{key.id}_{secret}"


def revoke(path: Path, name_or_id: str) -> Key:
    """Mark a key as revoked, by its id or by the name of a key that is good; raises KeyNotFound, KeyFileInvalid."""
    now = _now()
    read_keys(path)  # one that is not there is not made
    with _changing(path) as keys:
        for index, key in enumerate(keys):
            if key.revoked is None and (key.id == name_or_id or (key.name == name_or_id and key.state(now) == "good")):
                keys[index] = replace(key, revoked=now)
                return keys[index]
    names = ", ".join(sorted(key.name for key in keys if key.state(now) == "good")) or "none"
    raise KeyNotFound(f"no key in {path} that could be revoked has the name or id {name_or_id!r}; there are: {names}")


def _check(key: Key, good: list[Key], path: Path) -> None:
    if not key.name.isprintable() or not key.name.strip() or len(key.name) > 128:
        raise KeyNotMade(f"{key.name!r} cannot name a key: 1 to 128 printable characters can")
    if not key.roles:
        raise KeyNotMade(f"a key without a role opens nothing; give it one of {', '.join(Role)}: --role extract")
    if any(one.name == key.name for one in good):
        raise KeyNotMade(f"{path} has a key {key.name!r} already; choose another name, or revoke that one first")
    for bound in ("weight", "items_per_s", "burst", "max_calls"):
        value = getattr(key, bound)
        if value is not None and not 0 < value < float("inf"):
            raise KeyNotMade(f"{bound} of a key is above 0, not {value:g}; leave it out for none")
    if key.burst is not None and key.items_per_s is None:
        raise KeyNotMade(f"a burst of {key.burst} means something only beside a rate; give --items-per-s")


def _new_id(keys: list[Key]) -> str:
    taken = {key.id for key in keys}
    return next(one for one in iter(lambda: secrets.token_hex(ID_BYTES), None) if one not in taken)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@contextmanager
def _changing(path: Path) -> Iterator[list[Key]]:
    """Yield the keys of a file to be changed, alone; they are written when the block ends without an error."""
    path = path.resolve()  # a link stays a link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(read_keys(path)) if path.exists() else []
            before = list(keys)
            yield keys
            if keys != before:
                _write(path, keys)
    except OSError as error:
        raise KeyFileInvalid(f"cannot write the key file {path}: {error.strerror}; choose another --file") from None


def _write(path: Path, keys: list[Key]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # left by a command that was killed: the lock is ours
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        _keep_owner_and_mode(path, file.fileno())
        json.dump({"format": FORMAT, "keys": [_to_json(key) for key in keys]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_owner_and_mode(path: Path, new: int) -> None:
    """Let a new file be read by whoever reads the one that it replaces: a server of another user, say."""
    if not path.exists():
        return
    old, mine = path.stat(), os.fstat(new)
    if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(new, old.st_uid, old.st_gid)
    os.fchmod(new, stat.S_IMODE(old.st_mode))


def _to_json(key: Key) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(key).items() if value is not None}
    dates = {name: value.isoformat() for name, value in fields.items() if isinstance(value, datetime)}
    return {**fields, **dates, "roles": sorted(key.roles)}


def _parse(content: bytes, path: Path) -> tuple[Key, ...]:
    try:
        document = json.loads(content)
        number = document["format"]
        if not isinstance(number, int) or number > FORMAT:
            raise KeyFileInvalid(
                f"{path} has format {number}, this Headwater reads up to {FORMAT}; it was written by a newer one"
            )
        return tuple(_from_json(entry) for entry in document["keys"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeyFileInvalid(
            f"{path} is no file of keys ({type(error).__name__}: {error}); "
            "put back the former one, or begin anew with headwater keys add"
        ) from None


def _from_json(entry: dict[str, Any]) -> Key:
    dates: dict[str, Any] = {
        name: datetime.fromisoformat(entry[name]) for name in ("created", "expires", "revoked") if name in entry
    }
    key = Key(**{**entry, **dates, "roles": frozenset(Role(role) for role in entry["roles"])})
    if any(not isinstance(text, str) for text in (key.id, key.name, key.digest)):
        raise TypeError(f"id, name and digest of a key are texts, not {key.id!r}, {key.name!r}, {key.digest!r}")
    if len(bytes.fromhex(key.digest)) != hashlib.sha256().digest_size:
        raise ValueError(f"the digest of key {key.id} is no SHA-256")
    if any(date.tzinfo is None for date in dates.values()):
        raise ValueError(f"the dates of key {key.id} have no time zone")
    for bound in (key.weight, *(one for one in (key.items_per_s, key.burst, key.max_calls) if one is not None)):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < float("inf"):
            raise ValueError(f"a bound of key {key.id} is {bound!r}, and no number above 0")
    return key
