"""The disk tier under what disks, processes and people do to it: right answers or honest misses, never another's."""

import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest

from extractor.cache import row
from extractor.cache.behind import WriteBehind
from extractor.cache.disk import MIN_BYTES, DiskStore
from extractor.cache.opened import open_cache
from extractor.cache.store import Checked
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded
from tests.extractor.known import FINGERPRINT, embedded, entries, is_right, key_of

MIB = 1 << 20
BOUND = 64 * MIB
WAIT_S = 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with closing(DiskStore.open(tmp_path / "cache", max_bytes=BOUND)) as one:
        yield one


def file_of(store: DiskStore) -> Path:
    return store.folder / "data.mdb"


def n_right(store: DiskStore | WriteBehind, numbers: range, dim: int | None = None) -> int:
    """Count what is found; what is found is right."""
    found = store.get_many([key_of(number) for number in numbers])
    hits = [(number, one) for number, one in zip(numbers, found, strict=True) if one is not None]
    assert all(is_right(number, one, dim) for number, one in hits)
    return len(hits)


def python(program: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


def output_of(process: "subprocess.Popen[str]") -> str:
    """Wait for a program that has to end well."""
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, f"ended with {process.returncode}: {err}"
    return out


# What is put comes back


def test_round_trip_bit_for_bit_also_in_another_opening(tmp_path: Path) -> None:
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert store.put_many(entries(*range(200))) == 200
        assert n_right(store, range(200)) == 200
        assert store.get_many([key_of(1000)]) == [None]
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(200)) == 200


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, np.finfo(np.float32).max, np.float32(1) / 3])
def test_every_finite_bit_pattern_survives(store: DiskStore, value: float) -> None:
    expected = np.array([value], np.float32)
    store.put_many([(key_of(0), Embedded(expected))])
    (found,) = store.get_many([key_of(0)])
    assert found is not None
    assert found.embedding.tobytes() == expected.tobytes()
    assert not found.embedding.flags.writeable


def test_no_key_finds_another_keys_row(store: DiskStore) -> None:
    raw = row.encode(key_of(1), embedded(1))
    assert row.decode(key_of(2), raw) is None
    with store._environment.begin(write=True) as transaction:
        transaction.put(key_of(2), raw, db=store._rows)
    assert store.get_many([key_of(2)]) == [None]
    assert store.facts().spoilt == 1


def test_the_same_bytes_under_two_fingerprints_are_two_entries(store: DiskStore) -> None:
    keys = [key_of(1, name) for name in (FINGERPRINT, "cd" * 16)]
    store.put_many([(keys[0], embedded(1))])
    assert store.get_many(keys)[1] is None
    store.put_many([(keys[1], embedded(2))])
    first, second = store.get_many(keys)
    assert first is not None and second is not None
    assert is_right(1, first) and is_right(2, second)
    assert store.purge(FINGERPRINT) == 1
    assert [one is None for one in store.get_many(keys)] == [True, False]


def test_an_entry_that_the_bound_has_no_room_for_is_dropped_and_counted(tmp_path: Path) -> None:
    with closing(DiskStore.open(tmp_path, max_bytes=MIN_BYTES)) as store:
        assert store.put_many([(key_of(1), embedded(1, MIN_BYTES // 2)), *entries(2)]) == 1
        assert n_right(store, range(2, 3)) == 1
        assert store.facts().dropped == {"too large": 1}


# The bound


def test_what_is_looked_up_outlives_what_is_not(tmp_path: Path) -> None:
    with closing(DiskStore.open(tmp_path, max_bytes=MIN_BYTES)) as store:
        loved, batch = range(50), 100
        store.put_many(entries(*loved))
        for first in range(1000, 4000, batch):
            assert n_right(store, loved) == 50
            store.put_many(entries(*range(first, first + batch)))
        assert n_right(store, loved) == 50
        assert n_right(store, range(1000, 2000)) == 0
        assert n_right(store, range(3950, 4000)) == 50


@pytest.mark.parametrize(("dim", "n_readers", "turnovers"), [(None, 0, 10), (None, 2, 10), (256, 2, 1)])
def test_the_file_keeps_its_bound_through_turnovers(
    tmp_path: Path, dim: int | None, n_readers: int, turnovers: float
) -> None:
    numbers, ended = [0], threading.Event()
    with closing(DiskStore.open(tmp_path, max_bytes=MIN_BYTES)) as store:

        def read() -> None:
            while not ended.wait(0.001):
                n_right(store, range(max(0, numbers[0] - 64), numbers[0]), dim)

        readers = [threading.Thread(target=read) for _ in range(n_readers)]
        for reader in readers:
            reader.start()
        written = largest = 0
        try:
            while written < turnovers * MIN_BYTES:
                bulk = entries(*range(numbers[0], numbers[0] + 256), dim=dim)
                store.put_many(bulk)
                numbers[0] += len(bulk)
                written += sum(entry.embedding.nbytes for _, entry in bulk)
                largest = max(largest, file_of(store).stat().st_size)
        finally:
            ended.set()
            for reader in readers:
                reader.join()
        assert largest <= MIN_BYTES
        assert n_right(store, range(numbers[0] - 20, numbers[0]), dim) == 20
        assert store.check().n_spoilt == 0


HOLDER = """
import sys, lmdb
environment = lmdb.open(sys.argv[1], map_size=1 << 40, max_dbs=4, max_readers=1024)
transaction = environment.begin()
print("holds", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that reads what is there now, and goes on reading it."""
    process = python(HOLDER, folder, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def turn_over(store: DiskStore, times: int = 3) -> None:
    for first in range(0, times * store.max_bytes // 4096, 250):
        store.put_many(entries(*range(first, first + 250), dim=1024))


def test_a_reader_that_never_ends_costs_writes_and_not_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extractor.cache.environment.HELD_S", 0.001)
    with closing(DiskStore.open(tmp_path, max_bytes=MIN_BYTES)) as store:
        turn_over(store, 1)
        with holding(tmp_path):
            turn_over(store)
            assert file_of(store).stat().st_size <= MIN_BYTES
            assert store.facts().dropped["held by a reader"] > 0
        dropped = store.facts().dropped
        turn_over(store)  # the reader was killed
        assert store.facts().dropped == dropped
        assert file_of(store).stat().st_size <= MIN_BYTES


# Several processes

WRITER = """
import sys
from extractor.cache.disk import DiskStore
from tests.extractor.known import entries, is_right, key_of
folder, first, others = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = DiskStore.open(folder, max_bytes=64 << 20)
seen = 0
for number in range(first, first + 1000, 20):
    store.put_many(entries(*range(number, number + 20)))
    theirs = range(others, others + 1000)
    for other, found in zip(theirs, store.get_many([key_of(one) for one in theirs])):
        assert found is None or is_right(other, found)
        seen += found is not None
print(seen)
store.close()
"""


def test_two_processes_write_and_read_one_folder_at_once(tmp_path: Path) -> None:
    both = [python(WRITER, tmp_path, *given) for given in ((0, 5000), (5000, 0))]
    assert sum(int(output_of(one)) for one in both) > 0
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(1000)) == n_right(store, range(5000, 6000)) == 1000
        assert store.check().n_spoilt == 0


# The writer behind


class Stuck(DiskStore):
    """Its writes wait until they may."""

    may = threading.Event()

    def put_many(self, entries: list) -> int:
        assert self.may.wait(WAIT_S)
        return super().put_many(entries)


def test_a_full_queue_drops_writes_and_requests_go_on(tmp_path: Path) -> None:
    Stuck.may.clear()
    cache = WriteBehind(Stuck.open(tmp_path, max_bytes=BOUND), max_pending_bytes=10 * 4096).start()
    cache.put_many(entries(*range(30), dim=1024))
    assert n_right(cache, range(30), 1024) == 10
    assert cache.facts()[0].dropped == {"queue full": 20}
    Stuck.may.set()
    assert cache.flush()
    cache.put_many(entries(*range(10, 20), dim=1024))
    cache.close()
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(30), 1024) == 20


def test_what_waits_at_the_close_is_stored_and_what_comes_after_it_is_dropped(tmp_path: Path) -> None:
    cache = WriteBehind(DiskStore.open(tmp_path, max_bytes=BOUND)).start()
    cache.put_many(entries(*range(100)))
    cache.close()
    cache.put_many(entries(*range(100, 110)))
    assert cache._dropped == {"closed": 10}
    assert cache.get_many([key_of(1)]) == [None]
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(110)) == 100


def test_closing_under_readers_ends_no_process(tmp_path: Path) -> None:
    for _ in range(5):
        cache = WriteBehind(DiskStore.open(tmp_path, max_bytes=BOUND)).start()
        cache.put_many(entries(*range(100), dim=64))
        ended, begun = threading.Event(), threading.Barrier(5)

        def read(cache: WriteBehind = cache, ended: threading.Event = ended, begun: threading.Barrier = begun) -> None:
            begun.wait()
            while not ended.is_set():
                n_right(cache, range(100), 64)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        begun.wait()
        cache.close()
        ended.set()
        for reader in readers:
            reader.join()


# What is spoilt


def test_a_flipped_bit_is_a_miss_that_is_counted_and_dropped(tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311  # no secret
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        store.put_many(entries(*range(20)))
        path = file_of(store)
    content = bytearray(path.read_bytes())
    for number in range(10):
        raw = row.encode(key_of(number), embedded(number))
        at = content.find(raw)
        assert at > 0
        bit = rng.randrange(8 * len(raw))
        content[at + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(20)) == 10
        assert store.facts().spoilt == 10
        store.put_many(entries(100))
        assert store.facts().n_entries == 11
        store.put_many(entries(*range(10)))
        assert n_right(store, range(20)) == 20


def test_every_single_bit_of_a_row_counts() -> None:
    raw = row.encode(key_of(1), embedded(1, 8))
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert row.decode(key_of(1), bytes(flipped)) is None


@pytest.mark.parametrize("dim", [1, 1276, 1277, 1280, 2556, 4096])
def test_a_flipped_bit_is_found_wherever_it_is_in_a_long_row(dim: int) -> None:
    raw = row.encode(key_of(1), embedded(1, dim))
    assert row.decode(key_of(1), raw) is not None
    assert row.decode(key_of(2), raw) is None
    for byte in {0, len(raw) // 3, len(raw) // 2, 5127, 5128, 5129, len(raw) - 1} & set(range(len(raw))):
        flipped = bytearray(raw)
        flipped[byte] ^= 4
        assert row.decode(key_of(1), bytes(flipped)) is None


def test_check_drops_what_is_spoilt_and_gives_every_row_an_age(store: DiskStore) -> None:
    store.put_many(entries(*range(20), dim=300))
    with store._environment.begin(write=True) as transaction:
        transaction.put(key_of(0), b"no row", db=store._rows)
        transaction.put(key_of(1), b"12345678", db=store._ages.ages)
        transaction.delete(key_of(2), db=store._ages.ages)
        transaction.drop(store._ages.order, delete=False)
    assert store.check() == Checked(20, 1, 19)
    assert store.check() == Checked(19, 0, 0)
    with store._environment.begin() as transaction:
        assert transaction.stat(store._ages.order)["entries"] == transaction.stat(store._rows)["entries"] == 19


@pytest.mark.timeout(WAIT_S)
def test_an_age_without_a_row_does_not_hold_eviction_up(tmp_path: Path) -> None:
    with closing(DiskStore.open(tmp_path, max_bytes=MIN_BYTES)) as store:
        with store._environment.begin(write=True) as transaction:
            transaction.put(bytes(8) + key_of(10**9), b"", db=store._ages.order)
        turn_over(store, 1)
        assert file_of(store).stat().st_size <= MIN_BYTES


def truncations() -> dict[str, int]:
    return {"half": -2, "last page": -4096, "last byte": -1, "empty": 0, "hundred": 100, "two pages": 8192}


@pytest.mark.parametrize("cut", truncations())
def test_a_truncated_file_is_set_aside(tmp_path: Path, cut: str) -> None:
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        store.put_many(entries(*range(300)))
        path = file_of(store)
    whole, where = path.stat().st_size, truncations()[cut]
    os.truncate(path, whole // 2 if cut == "half" else whole + where if where < 0 else where)
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(300)) == 0
        store.put_many(entries(*range(300)))
        assert n_right(store, range(300)) == 300
    assert bool(list(tmp_path.glob("data.mdb.broken*"))) == (cut != "empty")


@pytest.mark.parametrize("content", [b"garbage" * 10_000, bytes(100_000)], ids=["garbage", "zeros"])
def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        store.put_many(entries(1))
        assert n_right(store, range(1, 2)) == 1
    assert [path.read_bytes() for path in tmp_path.glob("data.mdb.broken*")] == [content]


def test_a_healthy_file_is_never_shorter_than_it_says(tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311  # no secret
    with closing(DiskStore.open(tmp_path, max_bytes=MIN_BYTES)) as store:
        for step in range(300):
            numbers = [rng.randrange(3000) for _ in range(rng.choice((1, 5, 100)))]
            store.put_many(entries(*numbers, dim=rng.choice((1, 96, 300, 1280, 4096))))
            if step % 50 == 49:
                store.purge()
            pages = store._environment.info()["last_pgno"] + 1
            assert file_of(store).stat().st_size >= pages * store._environment.stat()["psize"]


def test_a_file_with_unwritten_pages_at_its_end_is_made_long_enough(store: DiskStore) -> None:
    """LMDB does not write a page that one transaction takes and gives back, and counts it all the same."""
    with store._environment.begin(write=True) as transaction:
        transaction.put(key_of(0), bytes(1 << 20), db=store._rows)
        transaction.delete(key_of(0), db=store._rows)
    said = (store._environment.info()["last_pgno"] + 1) * store._environment.stat()["psize"]
    assert file_of(store).stat().st_size < said
    store.put_many(entries(1))
    assert file_of(store).stat().st_size >= said


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        store.put_many(entries(1))
        with store._environment.begin(write=True) as transaction:
            transaction.put(b"format", b"2", db=store._facts)
        before = file_of(store).read_bytes()
    with pytest.raises(CacheInvalid, match="format 2, this Headwater reads 1"):
        DiskStore.open(tmp_path, max_bytes=BOUND)
    assert (tmp_path / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("max_bytes", [0, MIN_BYTES - 1, 1 << 40])
def test_a_bound_out_of_range_is_refused(tmp_path: Path, max_bytes: int) -> None:
    with pytest.raises(CacheInvalid, match=f"{max_bytes:,} bytes"):
        DiskStore.open(tmp_path, max_bytes=max_bytes)


# Disks

FULL_DISK = """
import resource, sys
from pathlib import Path
from extractor.cache.opened import open_cache
from tests.extractor.known import entries, is_right, key_of
folder, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cache = open_cache(folder, max_mib=64, min_free_mib=0)
for first in range(0, 2000, 100):
    cache.put_many(entries(*range(first, first + 100), dim=1280))
cache.get_many.__self__.flush()
(facts,) = cache.facts()
found = cache.get_many([key_of(number) for number in range(2000)])
hits = [(number, one) for number, one in enumerate(found) if one is not None]
assert all(is_right(number, one, 1280) for number, one in hits)
assert len(hits) == facts.stored and facts.stored + facts.dropped["error"] >= 2000, facts
assert facts.degraded.startswith("writes fail"), facts
cache.close()
print(len(hits))
"""


def test_a_file_that_may_not_grow_costs_writes_only(tmp_path: Path) -> None:
    n_stored = int(output_of(python(FULL_DISK, tmp_path, 4 * MIB)))
    assert 0 < n_stored < 2000
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND)) as store:
        assert n_right(store, range(2000), 1280) == n_stored
        assert store.check().n_spoilt == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_costs_writes_only(small_disk: Path) -> None:
    n_stored = int(output_of(python(FULL_DISK, small_disk / "cache", 0)))
    assert 0 < n_stored < 2000
    with closing(DiskStore.open(small_disk / "cache", max_bytes=BOUND)) as store:
        assert n_right(store, range(2000), 1280) == n_stored


OPENING = """
import os, sys
import lmdb
from extractor.cache import behind, disk
from extractor.cache.opened import open_cache
from tests.extractor.known import entries, key_of
known = entries(1)
if "as nobody" in sys.argv and os.getuid() == 0:  # root may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
cache = open_cache(sys.argv[1])
cache.put_many(known)
assert cache.get_many([key_of(1)]) == [None]
(facts,) = cache.facts()
cache.close()
print(facts.degraded)
"""


def test_a_cache_on_a_full_disk_is_none_and_ends_no_process(small_disk: Path) -> None:
    (small_disk / "cache").mkdir()
    with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    assert "No space left" in output_of(python(OPENING, small_disk / "cache"))


def test_a_folder_that_cannot_be_written_is_no_cache() -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to other users
        Path(made).chmod(0o755)
        folder = Path(made) / "cache"
        DiskStore.open(folder, max_bytes=BOUND).close()
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        said = output_of(python(OPENING, folder, "as nobody"))
        folder.chmod(0o755)
    assert "cannot keep embeddings" in said
    assert "ermission denied" in said


def test_nothing_is_stored_below_the_floor_of_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [10 * MIB]
    monkeypatch.setattr("extractor.cache.disk.shutil.disk_usage", lambda _: SimpleNamespace(free=free[0]))
    with closing(DiskStore.open(tmp_path, max_bytes=BOUND, min_free_bytes=5 * MIB)) as store:
        store.put_many(entries(1))
        free[0] = 4 * MIB
        assert store.put_many(entries(2, 3)) == 0
        facts = store.facts()
        assert facts.dropped == {"no room on disk": 2}
        assert facts.degraded is not None and "5,242,880 bytes are free" in facts.degraded
        assert n_right(store, range(1, 4)) == 1
        free[0] = 10 * MIB
        store.put_many(entries(2, 3))
        assert n_right(store, range(1, 4)) == 3
        assert store.facts().degraded is None


def test_a_store_that_fails_is_a_miss_and_says_so(tmp_path: Path) -> None:
    cache = WriteBehind(DiskStore.open(tmp_path, max_bytes=BOUND)).start()

    def fails(*_: object) -> None:
        raise lmdb.DiskError("the disk is gone")

    cache.store.get_many = cache.store.put_many = fails  # type: ignore[method-assign, assignment]
    assert cache.get_many([key_of(1)]) == [None]
    cache.put_many(entries(1))
    assert cache.flush()
    (facts,) = cache.facts()
    assert facts.dropped == {"error": 1}
    assert facts.degraded is not None and "the disk is gone" in facts.degraded
    cache.close()


def test_one_folder_is_one_store_in_a_process(tmp_path: Path) -> None:
    first, second = open_cache(str(tmp_path), min_free_mib=0), open_cache(str(tmp_path), min_free_mib=0)
    assert first is not None and second is not None
    first.put_many(entries(1))
    first.close()
    (found,) = second.get_many([key_of(1)])
    assert found is not None and is_right(1, found)
    second.close()
