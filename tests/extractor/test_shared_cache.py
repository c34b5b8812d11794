"""The shared tier against a real Redis: right answers or honest misses, whatever happens to it."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from extractor import Extractor
from extractor.cache import Entry, item_key
from extractor.cache.behind import WriteBehind
from extractor.cache.breaker import Breaker
from extractor.cache.opened import open_cache
from extractor.cache.shared import BULK_TIMEOUT_S, TIMEOUT_S, SharedStore
from extractor.cache.store import Checked
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.inprocess import in_this_process
from tests.redis_server import WAIT_S, RedisServer
from tests.tiny import flat, png

ONE, OTHER = "1" * 32, "f" * 32  # fingerprints
CALLERS = 32
SLACK_S = 2.0  # of a busy machine, on top of a time-out: far below a wait without one, or 1,000 with one


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path_factory.mktemp("redis"))
    one.start()
    yield one
    one.stop()
    one.client.close()


@pytest.fixture
def store(server: RedisServer) -> Iterator[SharedStore]:
    with opened(server.url) as one:
        yield one


@contextmanager
def opened(url: str) -> Iterator[SharedStore]:
    one = SharedStore.open(url)
    try:
        yield one
    finally:
        one.close()


def entries(n: int, fingerprint: str = ONE, dim: int = 320, seed: int = 0) -> list[Entry]:
    values = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return [(item_key(fingerprint, f"{seed} {i}".encode()), Embedded(row, i % 2 == 1)) for i, row in enumerate(values)]


def keys_of(some: list[Entry]) -> list[bytes]:
    return [key for key, _ in some]


def assert_same_bits(found: list[Embedded | None], some: list[Entry]) -> None:
    assert len(found) == len(some)
    for got, (_, put) in zip(found, some, strict=True):
        assert got is not None
        assert got.embedding.dtype == np.float32
        assert got.embedding.tobytes() == put.embedding.tobytes()
        assert got.truncated == put.truncated


def becomes(state: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_S
    while not state():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def heals(store: SharedStore) -> bool:
    return becomes(lambda: store.facts().degraded is None)


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


@pytest.mark.parametrize("dim", [1, 384, 4096])
def test_what_was_put_comes_back_bit_for_bit_in_order(store: SharedStore, dim: int) -> None:
    some = entries(64, dim=dim)
    assert store.put_many(some) == 64
    assert_same_bits(store.get_many(keys_of(some)[::-1]), some[::-1])
    absent = item_key(ONE, b"absent")
    assert [found is None for found in store.get_many([absent, some[0][0], absent])] == [True, False, True]
    assert store.get_many([]) == []
    assert store.put_many([]) == 0
    assert (store.facts().stored, store.facts().degraded) == (64, None)


def test_odd_bits_survive(store: SharedStore) -> None:
    odd = np.array([0.0, -0.0, 1e-45, np.finfo(np.float32).max, np.finfo(np.float32).min], np.float32)
    some = [(item_key(ONE, b"odd"), Embedded(odd))]
    store.put_many(some)
    assert_same_bits(store.get_many(keys_of(some)), some)


def test_what_one_server_stores_another_finds(server: RedisServer, store: SharedStore) -> None:
    some = entries(10)
    store.put_many(some)
    with opened(f"unix://{server.socket}") as other:
        assert_same_bits(other.get_many(keys_of(some)), some)


def test_a_batch_is_one_question_and_its_keys_can_be_read(server: RedisServer, store: SharedStore) -> None:
    some = entries(64)
    store.put_many(some)
    before = server.client.info("commandstats")
    store.get_many(keys_of(some))
    after = server.client.info("commandstats")
    calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert {name: n for name, n in calls.items() if n and name != "cmdstat_info"} == {"cmdstat_mget": 1}
    digits = some[0][0].hex()
    assert server.client.exists(f"headwater:1:{digits[:32]}:{digits[32:]}")


def test_a_spoilt_row_is_a_miss_and_is_dropped_and_counted(server: RedisServer, store: SharedStore) -> None:
    some = entries(4)
    store.put_many(some)
    names = sorted(server.client.keys("headwater:*"))
    raw = bytearray(server.client.get(names[0]))
    raw[100] ^= 1
    server.client.set(names[0], bytes(raw))  # a bit has flipped
    server.client.set(names[1], server.client.get(names[2]))  # another key's row
    server.client.set(names[3], b"no row")
    found = store.get_many(keys_of(some))
    assert sum(one is None for one in found) == 3
    assert store.facts().spoilt == 3
    assert server.client.keys("headwater:*") == [names[2]]
    store.put_many(some)
    assert_same_bits(store.get_many(keys_of(some)), some)


def test_the_operator_looks_after_one_backbone_among_two(server: RedisServer, store: SharedStore) -> None:
    mine, others = entries(1500), entries(30, OTHER, dim=8)  # several pages
    store.put_many(mine + others)
    server.client.set("another:program", b"1")
    server.client.mset({f"headwater:1:{ONE}:no-key": b"1", f"headwater:1:{ONE}:ab": b"1"})
    server.client.lpush(f"headwater:1:{ONE}:{'0' * 64}", b"no string")
    held = {holding.fingerprint: (holding.n_entries, holding.n_bytes) for holding in store.holdings()}
    assert held == {ONE: (1500, 1500 * (16 + 4 * 320)), OTHER: (30, 30 * (16 + 4 * 8))}
    scanned = dict(store.scan(OTHER))
    assert_same_bits([scanned[key] for key in keys_of(others)], others)
    assert len(dict(store.scan())) == 1530

    digits = others[0][0].hex()
    server.client.set(f"headwater:1:{digits[:32]}:{digits[32:]}", b"spoilt")
    assert len(dict(store.scan(OTHER))) == 29
    assert store.check() == Checked(1530, 1)
    assert store.check() == Checked(1529, 0)

    server.client.delete(f"headwater:1:{ONE}:{'0' * 64}")
    assert store.purge(ONE) == 1500
    assert store.get_many(keys_of(mine)) == [None] * 1500
    assert_same_bits(store.get_many(keys_of(others[1:])), others[1:])
    assert store.purge() == 29
    assert server.client.get("another:program") == b"1"
    with pytest.raises(ValueError, match="hexadecimal"):
        store.purge("*")


def test_a_server_that_is_away_at_the_start_is_found_when_it_comes(server: RedisServer) -> None:
    server.stop()
    with opened(server.url) as store:
        assert timed(lambda: store.get_many([item_key(ONE, b"x")])) < TIMEOUT_S + SLACK_S
        assert f"127.0.0.1:{server.port}" in (store.facts().degraded or "")
        assert store.put_many(entries(3)) == 0
        assert store.facts().dropped == {"away": 3}
        with pytest.raises(CacheInvalid, match=f"127.0.0.1:{server.port}.*see that Redis runs"):
            store.holdings()
        server.start()
        assert heals(store)
        assert store.put_many(entries(3)) == 3


def test_opening_waits_for_nothing_and_the_first_look_up_for_the_first_answer(server: RedisServer) -> None:
    some = entries(1)
    with opened(server.url) as store:
        store.put_many(some)
    server.pause()
    paused = []
    assert timed(lambda: paused.append(SharedStore.open(server.url))) < TIMEOUT_S + SLACK_S
    assert timed(lambda: paused[0].get_many(keys_of(some))) < TIMEOUT_S + SLACK_S
    paused[0].close()
    server.resume()
    for _ in range(20):  # a look-up right after the start is not lost to the connection's being made
        with opened(server.url) as store:
            assert_same_bits(store.get_many(keys_of(some)), some)


def test_a_server_that_was_restarted_is_used_again(server: RedisServer, store: SharedStore) -> None:
    some = entries(8)
    store.put_many(some)
    with ThreadPoolExecutor(8) as callers:  # so that there are several connections
        list(callers.map(lambda _: store.get_many(keys_of(some)), range(64)))
    server.stop()
    assert store.get_many(keys_of(some)) == [None] * 8
    assert f"127.0.0.1:{server.port}" in (store.facts().degraded or "")
    server.start()
    assert heals(store)
    store.put_many(some)
    assert_same_bits(store.get_many(keys_of(some)), some)


def test_a_paused_server_costs_those_who_wait_one_time_out_and_others_nothing(
    server: RedisServer, store: SharedStore
) -> None:
    some = entries(8)
    store.put_many(some)

    def slowest_of_many() -> float:
        server.resume()
        assert heals(store)
        server.pause()
        together = threading.Barrier(CALLERS)

        def look_up(_: int) -> float:
            together.wait(WAIT_S)
            return timed(lambda: store.get_many(keys_of(some)))

        with ThreadPoolExecutor(CALLERS) as callers:
            return max(callers.map(look_up, range(CALLERS)))

    # Callers that queued for a few connections would never be done in two time-outs; a busy machine does not stay so.
    assert any(slowest_of_many() < 2 * TIMEOUT_S for _ in range(10))
    assert timed(lambda: [store.get_many(keys_of(some)) for _ in range(1000)]) < SLACK_S
    assert timed(lambda: [store.put_many(some) for _ in range(1000)]) < SLACK_S
    assert store.facts().dropped["away"] == 8000
    assert "Timeout" in (store.facts().degraded or "")
    server.resume()
    assert heals(store)
    assert_same_bits(store.get_many(keys_of(some)), some)


def test_after_a_failure_no_old_connection_is_used(server: RedisServer, store: SharedStore) -> None:
    together = threading.Barrier(8)

    def look_up(_: int) -> None:
        together.wait(WAIT_S)
        store.get_many([item_key(ONE, b"x")] * 64)

    def connections() -> set[str]:
        return {one["id"] for one in server.client.client_list()}

    own = connections()
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(look_up, range(8)))
    old = connections()
    assert len(old) > 2
    server.pause()
    store.get_many([item_key(ONE, b"x")])  # one connection is given up, the others idle
    server.resume()
    assert heals(store)
    assert connections() & old <= own


def test_a_full_server_stores_nothing_and_still_answers(server: RedisServer, store: SharedStore) -> None:
    old, new = entries(8), entries(8, seed=1)
    store.put_many(old)
    server.fill()
    assert store.put_many(new) == 0
    assert store.facts().dropped == {"full": 8}
    assert "allkeys-lru" in (store.facts().degraded or "")
    assert_same_bits(store.get_many(keys_of(old)), old)
    server.empty()
    assert store.put_many(new) == 8
    assert store.facts().degraded is None


def test_a_server_that_may_only_be_read_is_read(server: RedisServer, store: SharedStore) -> None:
    some = entries(3)
    store.put_many(some)
    spoilt = sorted(server.client.keys("headwater:*"))[0]
    server.client.set(spoilt, b"spoilt")
    server.client.replicaof("127.0.0.1", server.port)  # a replica whose master is away
    assert sum(found is not None for found in store.get_many(keys_of(some))) == 2
    assert store.put_many(some) == 0
    assert store.facts().dropped == {"refused": 3}
    assert "read only" in (store.facts().degraded or "")


def test_a_wrong_password_is_told_and_never_shown(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.configure(requirepass="right")
    with opened(f"redis://:wrong-secret@127.0.0.1:{server.port}/0") as store:
        assert store.get_many([item_key(ONE, b"x")]) == [None]
        told = store.facts().degraded or ""
        with pytest.raises(CacheInvalid) as raised:
            store.purge()
    assert "password" in told
    assert "secret" not in told + str(raised.value) + caplog.text
    with opened(f"redis://:right@127.0.0.1:{server.port}/0") as store:
        assert store.put_many(entries(1)) == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://:pa/secret@host:6379/0", "port"),
        ("redis://:pa#secret@host:6379/0", "port"),
        ("redis://user:pass@host:70000/0", "port"),
        ("redis://host:6379/zero", "database"),
        ("redis://host:6379/0?db=zero", "database"),
        ("redis://host/0?decode_responses=1", "query may have db"),
        ("redis://host/0?secret", "query"),
        ("redis://host/0#secret", "#"),
        ("rediss://host/0?ssl_secret=1", "ssl_secret"),
        ("unix://", "names no socket"),
    ],
)
def test_what_cannot_be_a_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(CacheInvalid, match=why) as raised:
        SharedStore.open(url)
    assert "pass@" not in str(raised.value)
    assert "secret@" not in str(raised.value)


def test_an_unknown_scheme_is_refused_without_its_password() -> None:
    with pytest.raises(CacheInvalid, match="reddis://…") as raised:
        open_cache("reddis://:secret@host:6379/0")
    assert "secret" not in str(raised.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "extractor.cache.shared")
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(CacheInvalid, match=r"pip install 'headwater\[redis\]'"):
        open_cache("redis://127.0.0.1:6379/0")


def test_the_writer_warns_once_of_a_server_that_is_full_and_waits_for_none(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    cache = WriteBehind(SharedStore.open(server.url)).start()
    server.fill()
    for i in range(5):
        cache.put_many(entries(10, seed=i))
        assert cache.flush(WAIT_S)
    (facts,) = cache.facts()
    assert facts.dropped == {"full": 50}
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"the cache is degraded: {facts.degraded}"
    ]
    server.pause()
    cache.put_many(entries(10, seed=9))
    assert timed(cache.close) < BULK_TIMEOUT_S + TIMEOUT_S + SLACK_S
    assert cache.get_many(keys_of(entries(10, seed=9))) == [None] * 10


def test_a_breaker_probes_in_the_background_and_ends() -> None:
    fails = threading.Event()
    fails.set()
    probed: list[threading.Thread] = []

    def probe() -> None:
        probed.append(threading.current_thread())
        if fails.is_set():
            raise OSError("away")

    breaker = Breaker("host:1", probe, patience_s=WAIT_S).start()
    assert not breaker.lets_through()
    assert breaker.reason == "host:1 fails: away"
    fails.clear()
    assert becomes(breaker.lets_through)
    breaker.trip(TimeoutError("slow"))
    assert not breaker.lets_through()
    assert breaker.reason == "host:1 fails: slow"
    assert becomes(breaker.lets_through)
    breaker.stop()
    assert not breaker.lets_through()
    assert threading.current_thread() not in probed
    assert not any(thread.is_alive() for thread in probed)


def test_a_host_whose_name_nobody_finds_costs_a_start_one_time_out() -> None:
    go = threading.Event()
    breaker = Breaker("host:1", lambda: go.wait(WAIT_S), patience_s=TIMEOUT_S).start()
    with ThreadPoolExecutor(CALLERS) as callers:
        assert max(callers.map(lambda _: timed(breaker.lets_through), range(CALLERS))) < TIMEOUT_S + SLACK_S
    assert timed(lambda: [breaker.lets_through() for _ in range(1000)]) < SLACK_S
    go.set()
    assert becomes(breaker.lets_through)
    breaker.stop()


class Load:
    """Threads that ask a server for new images and check what they get."""

    def __init__(self, stub: extractor_pb2_grpc.ExtractorServiceStub) -> None:
        self.stub = stub
        self.asked = 0

    def slowest(self, n: int, *, disturb: Callable[[], object] = lambda: None) -> float:
        """Send n requests from 32 threads, and disturb in the midst of it; return the slowest's latency in s."""
        first, self.asked = self.asked, self.asked + n
        with ThreadPoolExecutor(CALLERS) as callers:
            requests = [callers.submit(self.ask, i) for i in range(first, first + n)]
            assert becomes(requests[n // 4].done)
            disturb()
            return max(request.result(WAIT_S) for request in requests)

    def ask(self, i: int) -> float:
        colour = (i % 240, i // 240, 7)
        request = pb.ExtractRequest(items=[pb.Item(data=png(flat(*colour)))])
        begun = time.perf_counter()
        response = self.stub.Extract(request, timeout=WAIT_S)
        latency = time.perf_counter() - begun
        assert np.frombuffer(response.embeddings, "<f4").tolist() == list(colour)
        return latency


def test_no_caller_of_a_server_sees_what_happens_to_redis(server: RedisServer, tiny_image: Path) -> None:
    cache = open_cache(server.url)
    assert cache is not None
    extractor = Extractor.load(tiny_image, cache=cache)

    def degraded() -> str | None:
        return cache.facts()[1].degraded

    with (
        in_this_process({"tiny-image": extractor}) as one,
        grpc.insecure_channel(one.address, [("grpc.enable_retries", 0)]) as channel,
    ):
        load = Load(extractor_pb2_grpc.ExtractorServiceStub(channel))
        load.slowest(CALLERS)
        bound = load.slowest(640) + TIMEOUT_S + SLACK_S
        assert becomes(lambda: server.client.dbsize() >= 640)

        assert load.slowest(640, disturb=server.pause) < bound
        assert "Timeout" in (degraded() or "")
        server.resume()
        assert becomes(lambda: degraded() is None)

        assert load.slowest(640, disturb=server.fill) < bound
        assert becomes(lambda: "is full" in (degraded() or ""))
        server.empty()

        assert load.slowest(640, disturb=server.stop) < bound
        assert becomes(lambda: "fails" in (degraded() or ""))
        assert load.slowest(320) < bound  # all of it with no Redis at all
        server.start()
        assert becomes(lambda: degraded() is None)
        load.slowest(CALLERS)
        assert becomes(lambda: server.client.dbsize() > 0)
    cache.close()
