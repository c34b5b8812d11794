"""A store that no request waits for: look-ups see what is to be written, and one thread writes it in bulk."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Self

from extractor.cache import CacheFacts, Entry
from extractor.cache.store import Store
from extractor.outcome import Embedded

log = logging.getLogger(__name__)

MAX_PENDING_BYTES = 64 << 20
BULK = 1024  # entries a commit
GATHER_S = 0.25  # so that a trickle of entries shares a commit; look-ups find them meanwhile
CLOSE_S = 10.0
LOOK_S = 0.005  # between two looks at whether the store is still used
QUIET_S = 60.0  # between two warnings


class WriteBehind:
    """Puts a queue and a writer in front of a store, and makes misses and drops of its errors.

    Parameters
    ----------
    store : Store
    max_pending_bytes : int
        Bound on the embeddings that wait to be written; beyond it they are dropped, and counted.
    """

    waits = True

    def __init__(self, store: Store, *, max_pending_bytes: int = MAX_PENDING_BYTES) -> None:
        self.store = store
        self.max_pending_bytes = max_pending_bytes
        self._pending: dict[bytes, Embedded] = {}  # until they are stored: a look-up finds them here or there
        self._pending_bytes = 0
        self._known = CacheFacts("store")  # as the store told it last
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._trouble: dict[str, str] = {}  # what the last look-up and the last write failed of
        self._warned_at = -QUIET_S
        self._stopping = False
        self._inside: list[None] = []  # one for each thread that uses the store, which is not closed under them
        self._changed = threading.Condition()
        self._writer = threading.Thread(target=self._write, name="cache-writer", daemon=True)

    def start(self) -> Self:
        """Start the writer."""
        self._writer.start()
        return self

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        """Return what is stored, or waits to be, under each key, in order, None where nothing is."""
        found = [self._pending.get(key) for key in keys]
        absent = [place for place, entry in enumerate(found) if entry is None]
        if absent and self._enter():
            try:
                for place, entry in zip(absent, self._look_up([keys[place] for place in absent]), strict=True):
                    found[place] = entry
            finally:
                self._leave()
        hits = len(found) - found.count(None)
        with self._changed:
            self._counts["hits"] += hits
            self._counts["misses"] += len(found) - hits
        return found

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Have entries stored soon; those that the queue has no room for are dropped."""
        with self._changed:
            was_empty = not self._pending
            for key, entry in entries:
                if self._stopping or self._pending_bytes + entry.embedding.nbytes > self.max_pending_bytes:
                    self._dropped["closed" if self._stopping else "queue full"] += 1
                elif key not in self._pending:
                    self._pending[key] = entry
                    self._pending_bytes += entry.embedding.nbytes
            if was_empty and self._pending:
                self._changed.notify_all()

    def facts(self) -> list[CacheFacts]:
        """Return how the store is, with what was looked up and dropped here."""
        facts = self._store_facts()
        with self._changed:
            dropped = dict(Counter(facts.dropped) + self._dropped)
            trouble = self._trouble.get("look-ups") or self._trouble.get("writes")
            return [
                replace(
                    facts,
                    hits=self._counts["hits"],
                    misses=self._counts["misses"],
                    dropped=dropped,
                    degraded=facts.degraded or trouble,
                )
            ]

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until nothing waits any more; False where that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout_s)

    def close(self) -> None:
        """Store what waits, end the writer and close the store."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._writer.join(CLOSE_S)
        if self._writer.is_alive():  # a disk or a server that hangs: its thread ends with the process
            log.warning("the cache did not store %d embeddings within %g s", len(self._pending), CLOSE_S)
            return
        if self._is_left():
            self.store.close()

    def _enter(self) -> bool:
        """Keep the store open until `_leave`; False where it is being closed.

        Without a lock, for which many threads would queue: adding to a list and taking from it are atomic.
        """
        self._inside.append(None)
        if self._stopping:
            self._leave()
        return not self._stopping

    def _leave(self) -> None:
        self._inside.pop()

    def _is_left(self) -> bool:
        """Wait until nobody uses the store any more."""
        until = time.monotonic() + CLOSE_S
        while self._inside and time.monotonic() < until:
            time.sleep(LOOK_S)
        return not self._inside

    def _store_facts(self) -> CacheFacts:
        if not self._enter():
            return replace(self._known, degraded="it is closed")
        try:
            return self._ask()
        finally:
            self._leave()

    def _ask(self) -> CacheFacts:
        try:
            self._known = self.store.facts()
        except Exception as error:
            return replace(self._known, degraded=f"it cannot tell how it is: {error}")
        return self._known

    def _look_up(self, keys: Sequence[bytes]) -> Sequence[Embedded | None]:
        try:
            found = self.store.get_many(keys)
        except Exception as error:
            self._failed("look-ups", error)
            return [None] * len(keys)
        self._trouble.pop("look-ups", None)
        return found

    def _write(self) -> None:
        while self._await_entries():
            with self._changed:
                bulk = list(islice(self._pending.items(), BULK))
            self._store(bulk)
            with self._changed:
                for key, entry in bulk:
                    del self._pending[key]
                    self._pending_bytes -= entry.embedding.nbytes
                self._changed.notify_all()

    def _await_entries(self) -> bool:
        """Wait for entries and then a moment for more; False once there are none and there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._stopping)
            if len(self._pending) < BULK:
                self._changed.wait_for(lambda: len(self._pending) >= BULK or self._stopping, GATHER_S)
            return bool(self._pending)

    def _store(self, bulk: list[Entry]) -> None:
        try:
            n_stored = self.store.put_many(bulk)
        except Exception as error:
            with self._changed:
                self._dropped["error"] += len(bulk)
            self._failed("writes", error)
            return
        self._trouble.pop("writes", None)
        if n_stored < len(bulk):  # the store has counted them
            self._warn(self._ask().degraded or f"{len(bulk) - n_stored} embeddings were not stored")

    def _failed(self, what: str, error: Exception) -> None:
        self._trouble[what] = f"{what} fail: {error}"
        self._warn(self._trouble[what])

    def _warn(self, reason: str) -> None:
        if time.monotonic() - self._warned_at > QUIET_S:
            self._warned_at = time.monotonic()
            log.warning("the cache is degraded: %s", reason)
