"""The shared tier: rows in Redis or Valkey, one server of embeddings for several of ours.

An entry is a string under `headwater:1:<fingerprint>:<hash>`, both in hexadecimal digits, so that
`redis-cli --scan --pattern 'headwater:1:*'` lists them; the 1 is the format. What leaves when is for the operator: give
that Redis a `maxmemory` and the policy `allkeys-lru`. One that is away or slow costs a caller one time-out at most, and
those who come after nothing (see `breaker`); one that is full stores nothing, and answers look-ups. Not for Redis
Cluster, which refuses a question about keys of several slots.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

from extractor.cache import CacheFacts, Entry, fingerprint_of, row
from extractor.cache.breaker import Breaker
from extractor.cache.store import Checked, Holding
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import InvalidResponse, OutOfMemoryError, RedisError, ResponseError
    from redis.retry import Retry
except ImportError:
    raise CacheInvalid(
        "a shared cache needs the package redis, which is not installed: pip install 'headwater[redis]'"
    ) from None

PREFIX = "headwater:1"
KEY_BYTES = 48
TIMEOUT_S = 0.05  # of silence, in a look-up: more than a cache is worth
BULK_TIMEOUT_S = 1.0  # for the writer and the operator, whom no caller waits for
PAGE_OF_KEYS = 512  # that the operator's commands ask for at once, so that others are answered in between
PORT = 6379
OPTIONS = ("db", "username", "password")  # that a URL may name, and those that begin with `ssl_`
_FAILURES = (redis.ConnectionError, redis.TimeoutError, InvalidResponse, OSError)


class SharedStore:
    """Keeps embeddings in a Redis or Valkey; opened by `SharedStore.open`.

    Parameters
    ----------
    where : str
        `host:port` or a socket's path.
    hasty, patient : redis.Redis
        For look-ups, and for all else.
    """

    def __init__(self, where: str, hasty: redis.Redis, patient: redis.Redis) -> None:
        self.where = where
        self._hasty = hasty
        self._patient = patient
        self._breaker = Breaker(where, self._probe, patience_s=TIMEOUT_S)
        self._refusal: str | None = None  # of the last bulk
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._lock = threading.Lock()  # of the counts

    @classmethod
    def open(cls, url: str) -> Self:
        """Name a server and begin to connect, in the background: one that is away is found again when it is back.

        Parameters
        ----------
        url : str
            `redis://[[user]:password@]host[:port][/db]`, `rediss://…` for TLS, or `unix:///path`.

        Raises
        ------
        CacheInvalid
            It cannot be such a URL.
        """
        where = _where(url)
        store = cls(where, _client(url, TIMEOUT_S), _client(url, BULK_TIMEOUT_S))
        store._breaker.start()
        return store

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored under each key, in order, None where nothing is or its checksum fails; one MGET."""
        nothing: list[Embedded | None] = [None] * len(keys)
        if not keys or not self._breaker.lets_through():
            return nothing
        try:
            rows: list[Any] = self._hasty.mget([_name(key) for key in keys])
        except _FAILURES as error:
            self._breaker.trip(error)
            return nothing
        found = [None if raw is None else row.decode(key, raw) for key, raw in zip(keys, rows, strict=True)]
        spoilt = [key for key, raw, entry in zip(keys, rows, found, strict=True) if raw is not None and entry is None]
        if spoilt:
            self._forget(spoilt)
        return found

    def put_many(self, entries: Sequence[Entry]) -> int:
        """Store entries, in one pipeline; return how many were: none while the server is away, few while it is full."""
        if not self._breaker.lets_through():
            return self._drop(away=len(entries))
        with self._patient.pipeline(transaction=False) as pipeline:
            for key, entry in entries:
                pipeline.set(_name(key), row.encode(key, entry))
            try:
                replies = pipeline.execute(raise_on_error=False)
            except _FAILURES as error:
                self._breaker.trip(error)
                return self._drop(away=len(entries))
        refusals = [reply for reply in replies if isinstance(reply, Exception)]
        n_full = sum(isinstance(refusal, OutOfMemoryError) for refusal in refusals)
        self._refusal = self._explained(refusals[0]) if refusals else None
        self._drop(full=n_full, refused=len(refusals) - n_full)
        n_stored = len(entries) - len(refusals)
        with self._lock:
            self._counts["stored"] += n_stored
        return n_stored

    def facts(self) -> CacheFacts:
        """Return how the store is; asks the server nothing."""
        with self._lock:
            return CacheFacts(
                tier="shared",
                stored=self._counts["stored"],
                dropped=dict(self._dropped),
                spoilt=self._counts["spoilt"],
                degraded=self._breaker.reason or self._refusal,
            )

    def close(self) -> None:
        """Close the connections; look-ups find nothing any more."""
        self._breaker.stop()
        self._hasty.close()
        self._patient.close()

    def holdings(self) -> list[Holding]:
        """Count entries and bytes by backbone; goes through every key of the server."""
        entries, sizes = Counter[str](), Counter[str]()
        for page in self._pages(None):
            for key, n_bytes in zip(page, self._sizes(page), strict=True):
                if n_bytes:  # else it has gone since
                    entries[fingerprint_of(key)] += 1
                    sizes[fingerprint_of(key)] += n_bytes
        return [Holding(name, entries[name], sizes[name]) for name in sorted(entries)]

    def scan(self, fingerprint: str | None = None) -> Iterator[Entry]:
        """Yield every entry, or those of one backbone; rows whose checksum fails are left out.

        As SCAN has it, an entry may come twice while the server's table grows or shrinks.
        """
        for page in self._pages(fingerprint):
            for key, raw in self._rows(page):
                entry = row.decode(key, raw)
                if entry is not None:
                    yield key, entry

    def purge(self, fingerprint: str | None = None) -> int:
        """Drop every entry, or those of one backbone; return how many. What others keep on that server stays."""
        return sum(self._unlink(page) for page in self._pages(fingerprint))

    def check(self) -> Checked:
        """Read every row, and drop those whose checksum fails."""
        n_rows = n_spoilt = 0
        for page in self._pages(None):
            rows = self._rows(page)
            n_rows += len(rows)
            spoilt = [key for key, raw in rows if row.decode(key, raw) is None]
            if spoilt:
                n_spoilt += self._unlink(spoilt)
        return Checked(n_rows, n_spoilt)

    def _probe(self) -> None:
        """Ask whether it answers, on a new connection: old ones to a server that is gone would fail one by one."""
        for client in (self._hasty, self._patient):
            client.connection_pool.disconnect(inuse_connections=False)
        self._hasty.ping()

    def _forget(self, spoilt: Sequence[bytes]) -> None:
        with self._lock:
            self._counts["spoilt"] += len(spoilt)
        try:
            with suppress(ResponseError):  # a replica, or a user who may only read: what is stored next replaces them
                self._hasty.unlink(*map(_name, spoilt))
        except _FAILURES as error:
            self._breaker.trip(error)

    def _drop(self, **reasons: int) -> int:
        with self._lock:
            self._dropped.update({reason: n for reason, n in reasons.items() if n})
        return 0

    def _explained(self, refusal: Exception) -> str:
        if isinstance(refusal, OutOfMemoryError):
            return f"{self.where} is full and stores nothing: give it more maxmemory, or the policy allkeys-lru"
        return f"{self.where} stores nothing: {refusal}"

    def _pages(self, fingerprint: str | None) -> Iterator[list[bytes]]:
        """Go through the keys of all backbones, or of one."""
        backbone = "*" if fingerprint is None else bytes.fromhex(fingerprint).hex()
        cursor = 0
        while True:
            with self._asking():
                cursor, names = self._patient.scan(cursor, match=f"{PREFIX}:{backbone}:*", count=PAGE_OF_KEYS)
            keys = [key for name in dict.fromkeys(names) if (key := _key(name)) is not None]
            if keys:
                yield keys
            if cursor == 0:
                return

    def _rows(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        with self._asking():
            rows: list[Any] = self._patient.mget([_name(key) for key in keys])
        return [(key, raw) for key, raw in zip(keys, rows, strict=True) if raw is not None]

    def _sizes(self, keys: Sequence[bytes]) -> list[int]:
        with self._patient.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.strlen(_name(key))
            with self._asking():
                replies = pipeline.execute(raise_on_error=False)
        return [reply if isinstance(reply, int) else 0 for reply in replies]

    def _unlink(self, keys: Sequence[bytes]) -> int:
        with self._asking():
            return self._patient.unlink(*map(_name, keys))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell the operator, who waits for the answer, where a command fails."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise CacheInvalid(f"cache at {self.where} fails: {error}; see that Redis runs there and answers") from None


def _name(key: bytes) -> str:
    digits = key.hex()
    return f"{PREFIX}:{digits[:32]}:{digits[32:]}"


def _key(name: bytes | str) -> bytes | None:
    """Return the key of an entry's name; None where the name is not one of ours."""
    text = name if isinstance(name, str) else name.decode(errors="replace")
    try:
        key = bytes.fromhex(text.removeprefix(PREFIX).replace(":", ""))
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _client(url: str, timeout_s: float) -> redis.Redis:
    """Make a client that has not connected yet; one connection for each thread that is asking at once."""
    client = redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=1 << 16,
        protocol=2,  # and no driver: no greetings, each of which could cost a time-out
        driver_info=None,
    )
    pool = client.connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)  # does not connect; options that it has not, show now
    except (TypeError, ValueError, RedisError) as error:
        raise _invalid(url, str(error)) from None
    return client


def _where(url: str) -> str:
    """Return `host:port` or a socket's path, after a look at the whole URL: redis-py skips what it cannot read."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:  # its message may have a piece of the password
        raise _invalid(url, "its port or its query cannot be read") from None
    why = _path_fault(parts) or next(filter(None, (_option_fault(name, value) for name, value in query)), None)
    if why or parts.fragment:
        raise _invalid(url, why or "there is a # in it")
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{port}"


def _path_fault(parts: SplitResult) -> str | None:
    if parts.scheme == "unix":
        return None if parts.path else "it names no socket"
    if not parts.hostname:
        return "it names no host"
    return None if re.fullmatch(r"/?\d*", parts.path) else "its database is not a number"


def _option_fault(name: str, value: str) -> str | None:
    if name not in OPTIONS and not name.startswith("ssl_"):
        return f"its query may have {', '.join(OPTIONS)} and ssl_…"
    return "its database is not a number" if name == "db" and not value.isdecimal() else None


def _invalid(url: str, why: str) -> CacheInvalid:
    scheme = url.partition("://")[0]
    return CacheInvalid(
        f"cache {scheme}://…: {why}; say redis://:password@host:{PORT}/0, rediss://… for TLS, or unix:///path, "
        "with %2F and the like for what is not a letter or a digit in a password"
    )
