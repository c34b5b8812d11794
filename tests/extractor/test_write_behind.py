import threading
from collections.abc import Sequence

import numpy as np

from extractor.cache import CacheFacts, Entry
from extractor.cache.behind import WriteBehind
from extractor.outcome import Embedded

WAIT_S = 20
ENTRY = (b"key", Embedded(np.ones(4, np.float32)))


class Slow:
    """A store whose look-ups and writes wait until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.entries: dict[bytes, Embedded] = {}
        self.is_closed = False

    def get_many(self, keys: Sequence[bytes]) -> list[Embedded | None]:
        self._wait()
        return [self.entries.get(key) for key in keys]

    def put_many(self, entries: Sequence[Entry]) -> int:
        self._wait()
        self.entries.update(entries)
        return len(entries)

    def facts(self) -> CacheFacts:
        self._wait()
        return CacheFacts("disk", n_entries=len(self.entries))

    def close(self) -> None:
        self.is_closed = True

    def _wait(self) -> None:
        assert not self.is_closed
        self.entered.set()
        assert self.go.wait(WAIT_S)


def test_what_waits_to_be_written_is_found_and_nobody_waits_for_the_write() -> None:
    store = Slow()
    cache = WriteBehind(store).start()
    cache.put_many([ENTRY])
    assert store.entered.wait(WAIT_S)  # the writer is held
    assert cache.get_many([b"key"]) == [ENTRY[1]]
    store.go.set()
    assert cache.flush(WAIT_S)
    assert cache.get_many([b"key", b"other"]) == [ENTRY[1], None]
    cache.close()


def test_a_store_is_not_closed_under_a_look_up_and_later_ones_find_nothing() -> None:
    store = Slow()
    cache = WriteBehind(store).start()
    found: list[list[Embedded | None]] = []
    reader = threading.Thread(target=lambda: found.append(cache.get_many([b"key"])))
    reader.start()
    assert store.entered.wait(WAIT_S)
    closer = threading.Thread(target=cache.close)
    closer.start()
    closer.join(0.1)
    assert not store.is_closed
    store.go.set()
    for thread in (reader, closer):
        thread.join(WAIT_S)
    assert store.is_closed
    assert found == [[None]]
    assert cache.get_many([b"key"]) == [None]
    cache.put_many([ENTRY])
    (facts,) = cache.facts()
    assert facts.dropped == {"closed": 1}
    assert facts.degraded


def test_what_the_queue_has_no_room_for_is_dropped_and_counted() -> None:
    store = Slow()
    cache = WriteBehind(store, max_pending_bytes=2 * ENTRY[1].embedding.nbytes).start()
    cache.put_many([(bytes([i]), ENTRY[1]) for i in range(5)])
    store.go.set()
    assert cache.flush(WAIT_S)
    (facts,) = cache.facts()
    assert facts.n_entries == 2
    assert facts.dropped == {"queue full": 3}
    cache.close()


def test_a_store_that_cannot_say_why_it_has_no_room_does_not_end_the_writer() -> None:
    store, writes = Slow(), []

    def refuses(entries: Sequence[Entry]) -> int:
        writes.append(len(entries))
        return 0

    def fails() -> CacheFacts:
        raise OSError("the disk is gone")

    store.put_many, store.facts = refuses, fails
    cache = WriteBehind(store).start()
    for _ in range(2):
        cache.put_many([ENTRY])
        assert cache.flush(WAIT_S)
    assert writes == [1, 1]
    cache.close()
