import threading
import tracemalloc

import numpy as np

from extractor.cache import item_key
from extractor.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryCache
from extractor.outcome import Embedded


def embedded(value: float, dim: int = 4, truncated: bool = False) -> Embedded:
    return Embedded(np.full(dim, value, np.float32), truncated)


def test_the_key_covers_the_fingerprint_and_the_whole_content() -> None:
    keys = {
        item_key("a" * 32, b"x" * 1000),
        item_key("b" * 32, b"x" * 1000),
        item_key("a" * 32, b"x" * 999 + b"y"),
        item_key("a" * 32, b"y" + b"x" * 999),
        item_key("a" * 32, b"x" * 1001),
        item_key("a" * 32, b""),
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {48}
    assert {key[:16] for key in keys} == {bytes.fromhex("a" * 32), bytes.fromhex("b" * 32)}
    assert len({key[16:] for key in keys}) == 6  # by themselves too
    assert item_key("a" * 32, b"x") == item_key("a" * 32, b"x")


def test_what_was_put_comes_back_in_order() -> None:
    cache = MemoryCache(max_bytes=1 << 20)
    one, two = embedded(1), embedded(2, truncated=True)
    cache.put_many([(b"1", one), (b"2", two)])
    assert cache.get_many([b"2", b"missing", b"1"]) == [two, None, one]


def test_the_least_recently_used_leaves_first() -> None:
    size = 16 + ENTRY_OVERHEAD_BYTES
    cache = MemoryCache(max_bytes=3 * size)
    cache.put_many([(bytes([i]), embedded(i)) for i in range(3)])
    cache.get_many([b"\0"])
    cache.put_many([(b"\3", embedded(3))])
    kept = [entry is not None for entry in cache.get_many([b"\0", b"\1", b"\2", b"\3"])]
    assert kept == [True, False, True, True]
    assert cache.n_bytes == 3 * size


def test_putting_again_replaces_and_counts_once() -> None:
    cache = MemoryCache(max_bytes=1 << 20)
    cache.put_many([(b"1", embedded(1)), (b"1", embedded(2))])
    assert len(cache) == 1
    assert cache.n_bytes == 16 + ENTRY_OVERHEAD_BYTES
    (found,) = cache.get_many([b"1"])
    assert found is not None
    assert found.embedding[0] == 2


def test_an_entry_larger_than_the_bound_is_not_kept() -> None:
    cache = MemoryCache(max_bytes=100)
    cache.put_many([(b"1", embedded(1, dim=1000))])
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_the_bound_is_about_what_memory_is_taken() -> None:
    tracemalloc.start()
    cache = MemoryCache(max_bytes=4 << 20)
    before = tracemalloc.get_traced_memory()[0]
    for i in range(20_000):
        cache.put_many([(i.to_bytes(32, "little"), embedded(i, dim=96))])
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cache.n_bytes <= cache.max_bytes
    assert 0.75 * cache.n_bytes < taken < 1.25 * cache.n_bytes


def test_many_threads_keep_the_count_right() -> None:
    cache = MemoryCache(max_bytes=50 * (16 + ENTRY_OVERHEAD_BYTES))

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 100, 2000).tolist():
            cache.put_many([(bytes([i]), embedded(i))])
            for found in cache.get_many([bytes([i])]):
                assert found is None or found.embedding[0] == i

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 50
    assert cache.n_bytes == 50 * (16 + ENTRY_OVERHEAD_BYTES)
