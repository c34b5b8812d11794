"""A disk store looks after itself: checks, counts and purges, also while others write."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from extractor.cache import Entry, facts_of, item_key
from extractor.cache.behind import WriteBehind
from extractor.cache.disk import MIN_BYTES, DiskStore
from extractor.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryCache
from extractor.cache.opened import open_cache
from extractor.cache.store import Checked, Holding
from extractor.outcome import Embedded

ONE, OTHER = "1" * 32, "f" * 32  # fingerprints; the latter ends the order of keys


def entries(fingerprint: str, numbers: range, dim: int = 4) -> list[Entry]:
    return [(item_key(fingerprint, str(i).encode()), Embedded(np.full(dim, i, np.float32), False)) for i in numbers]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    one = DiskStore.open(tmp_path / "cache", max_bytes=MIN_BYTES)
    yield one
    one.close()


def test_a_check_finds_nothing_wrong_while_others_store_and_evict(store: DiskStore) -> None:
    done = threading.Event()

    def write() -> None:
        for start in range(0, 12_000, 100):
            store.put_many(entries(ONE, range(start, start + 100), dim=512))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        found = store.check()
        assert (found.n_spoilt, found.n_astray) == (0, 0)
    writer.join()
    assert store.facts().evicted > 1000
    assert store.check() == Checked(store.facts().n_entries, 0, 0)


def test_holdings_and_purges_go_by_backbone(store: DiskStore) -> None:
    store.put_many(entries(ONE, range(700)) + entries(OTHER, range(600), dim=5))  # several pages of each
    assert store.holdings() == [Holding(ONE, 700, 700 * 32), Holding(OTHER, 600, 600 * 36)]
    assert len(list(store.scan(OTHER))) == store.purge(OTHER) == 600
    assert store.holdings() == [Holding(ONE, 700, 700 * 32)]
    assert store.purge() == 700
    assert store.check() == Checked(0, 0, 0)


def test_evictions_are_counted() -> None:
    cache = MemoryCache(max_bytes=3 * (16 + ENTRY_OVERHEAD_BYTES))
    cache.put_many(entries(ONE, range(5)))
    (facts,) = cache.facts()
    assert (facts.stored, facts.evicted, facts.n_entries) == (5, 2, 3)


def test_a_cache_that_several_share_is_asked_once(tmp_path: Path) -> None:
    one, two, other = (open_cache(str(tmp_path / name)) for name in ("one", "one", "other"))
    memory = MemoryCache(max_bytes=1000)
    tiers = facts_of([one, memory, two, None, other, memory])
    assert [tier.tier for tier in tiers] == ["disk", "memory", "disk"]
    for cache in (one, two, other):
        assert cache is not None
        cache.close()


def test_a_store_that_cannot_tell_how_it_is_is_degraded(store: DiskStore) -> None:
    behind = WriteBehind(store)
    (before,) = behind.facts()
    store.close()
    (after,) = behind.facts()
    assert (before.tier, before.degraded) == ("disk", None)
    assert after.tier == "disk"
    assert "it cannot tell how it is" in str(after.degraded)
