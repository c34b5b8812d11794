"""A store to Parquet and back: what arrives is bit for bit what was stored, or is left out and counted."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from extractor.cache import Entry, item_key, parquet
from extractor.cache.disk import DiskStore
from extractor.errors import CacheInvalid
from extractor.outcome import Embedded

ONE, OTHER = "1" * 32, "2" * 32
MAX_BYTES = 64 << 20


def entries(fingerprint: str, n: int, dim: int) -> list[Entry]:
    rows = np.random.default_rng(n).normal(size=(n, dim)).astype(np.float32)
    return [(item_key(fingerprint, str(i).encode()), Embedded(rows[i], i % 3 == 0)) for i in range(n)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    one = DiskStore.open(tmp_path / "one", max_bytes=MAX_BYTES)
    one.put_many(entries(ONE, 40, 4) + entries(OTHER, 20, 7))
    yield one
    one.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[DiskStore]:
    one = DiskStore.open(tmp_path / "empty", max_bytes=MAX_BYTES)
    yield one
    one.close()


def content(store: DiskStore) -> dict[bytes, tuple[bytes, bool]]:
    return {key: (embedded.embedding.tobytes(), embedded.truncated) for key, embedded in store.scan()}


def rewritten(file: Path, **columns: object) -> Path:
    """Write the file anew with some columns replaced."""
    table = pq.read_table(file)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(values, parquet.SCHEMA.field(name).type))
    pq.write_table(table.replace_schema_metadata(parquet.SCHEMA.metadata), file)
    return file


def test_what_arrives_is_what_was_stored(store: DiskStore, empty: DiskStore, tmp_path: Path) -> None:
    told: list[int] = []
    assert parquet.write(store, tmp_path / "all.parquet", told=told.append) == sum(told) == 60
    assert parquet.n_rows(tmp_path / "all.parquet") == 60
    done = parquet.read(empty, tmp_path / "all.parquet", told=told.append)
    assert (done.n_rows, done.n_stored, done.n_malformed, done.n_refused) == (60, 60, 0, 0)
    assert sum(told) == 120
    assert content(empty) == content(store)
    assert empty.check() == store.check()


def test_one_backbone_goes_alone_and_others_can_read_the_columns(store: DiskStore, tmp_path: Path) -> None:
    assert parquet.write(store, tmp_path / "one.parquet", fingerprint=OTHER) == 20
    table = pq.read_table(tmp_path / "one.parquet")
    assert table.schema.names == ["fingerprint", "key", "truncated", "checksum", "embedding"]
    assert set(table["fingerprint"].to_pylist()) == {OTHER}
    first = min(entries(OTHER, 20, 7))[1]
    assert table["embedding"][0].as_py() == first.embedding.tolist()
    assert list(tmp_path.glob(".*")) == []  # no temporary file is left


def test_an_empty_store_is_an_empty_file(empty: DiskStore, tmp_path: Path) -> None:
    assert parquet.write(empty, tmp_path / "none.parquet") == 0
    assert parquet.read(empty, tmp_path / "none.parquet") == parquet.Imported(0, 0, 0)


def test_malformed_rows_are_left_out_and_the_others_taken(store: DiskStore, empty: DiskStore, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    parquet.write(store, file)
    table = pq.read_table(file)
    rows, checksums, keys = (table[name].to_pylist() for name in ("embedding", "checksum", "key"))
    fingerprints, marks = table["fingerprint"].to_pylist(), table["truncated"].to_pylist()
    rows[0][1] += 1.0
    rows[1][0] = float("nan")
    rows[2] = rows[2][:2]
    rows[3] = None
    rows[4][0] = None
    rows[5] = []
    checksums[6] = bytes(8)
    keys[7] = bytes(32)
    marks[8] = not marks[8]
    fingerprints[9:13] = [None, "a" * 31, "é" * 32, OTHER]
    keys[13] = marks[14] = checksums[15] = None
    done = parquet.read(
        empty,
        rewritten(
            file, embedding=rows, checksum=checksums, key=keys, truncated=marks, fingerprint=pa.array(fingerprints)
        ),
    )
    assert (done.n_malformed, done.n_stored, done.n_refused) == (16, 44, 0)
    expected = dict(list(content(store).items())[16:])
    assert content(empty) == expected


def test_a_row_with_a_true_checksum_and_a_value_that_is_not_finite_is_malformed(
    empty: DiskStore, tmp_path: Path
) -> None:
    bad = [(item_key(ONE, b"x"), Embedded(np.array([1, np.inf], np.float32), False))]
    with pq.ParquetWriter(tmp_path / "bad.parquet", parquet.SCHEMA) as file:
        file.write_table(parquet._table(bad))
    assert parquet.read(empty, tmp_path / "bad.parquet").n_malformed == 1


def test_a_dimension_that_is_not_the_backbones_is_malformed(store: DiskStore, empty: DiskStore, tmp_path: Path) -> None:
    parquet.write(store, tmp_path / "all.parquet")
    done = parquet.read(empty, tmp_path / "all.parquet", dims={ONE: 5})
    assert (done.n_malformed, done.n_stored) == (40, 20)
    empty.purge()
    with pq.ParquetWriter(tmp_path / "mixed.parquet", parquet.SCHEMA) as file:  # of an unknown one, the first row tells
        file.write_table(parquet._table(entries(ONE, 3, 4) + entries(ONE, 9, 5)[5:]))
    done = parquet.read(empty, tmp_path / "mixed.parquet")
    assert (done.n_malformed, done.n_stored) == (4, 3)


def test_what_is_no_dump_is_refused_with_what_to_do(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no Parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign")
    parquet.write(store, tmp_path / "all")
    table = pq.read_table(tmp_path / "all")
    pq.write_table(table.replace_schema_metadata({parquet.FORMAT_KEY: b"2"}), tmp_path / "newer")
    pq.write_table(table.drop_columns("key").replace_schema_metadata(parquet.SCHEMA.metadata), tmp_path / "less")
    whole = (tmp_path / "all").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    for name, why in (
        ("nowhere", "cannot read"),
        ("text", "cannot read"),
        ("cut", "cannot read"),
        ("foreign", "is no dump of a cache"),
        ("less", "is no dump of a cache"),
        ("newer", "has format 2, this Headwater reads 1; upgrade"),
    ):
        with pytest.raises(CacheInvalid, match=why):
            parquet.n_rows(tmp_path / name)
        with pytest.raises(CacheInvalid, match=why):
            parquet.read(store, tmp_path / name)
    with pytest.raises(CacheInvalid, match="choose another file"):
        parquet.write(store, tmp_path / "text" / "x")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_bytes_are_flipped_nothing_false_arrives(
    store: DiskStore, empty: DiskStore, tmp_path: Path, seed: int
) -> None:
    parquet.write(store, tmp_path / "all")
    whole, truth = (tmp_path / "all").read_bytes(), content(store)
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(whole) - 8, 60).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            done = parquet.read(empty, tmp_path / "damaged")
        except CacheInvalid:
            continue
        found = content(empty)
        assert len(found) == done.n_stored == done.n_rows - done.n_malformed
        assert found.items() <= truth.items()
        empty.purge()


def test_a_file_that_is_not_finished_leaves_the_old_one(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write(store, tmp_path / "all")
    before = (tmp_path / "all").read_bytes()

    def failing(fingerprint: str | None) -> Iterator[Entry]:
        yield from entries(ONE, 3, 4)
        raise RuntimeError("the store fails")

    monkeypatch.setattr(store, "scan", failing)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    with pytest.raises(RuntimeError):
        parquet.write(store, tmp_path / "all")
    assert (tmp_path / "all").read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


class Endless:
    """A store of many entries, none of which is kept."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_put = 0

    def scan(self, fingerprint: str | None = None) -> Iterator[Entry]:
        for i in range(self.n):
            yield item_key(ONE, str(i).encode()), Embedded(np.full(1024, i, np.float32), False)

    def put_many(self, some: list[Entry]) -> int:
        self.n_put += len(some)
        return len(some)


def test_memory_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1 << 20)
    store = Endless(8192)  # 32 MiB
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    highest = 0

    def told(n: int) -> None:
        nonlocal highest
        highest = max(highest, pool.bytes_allocated() - before)

    parquet.write(store, tmp_path / "much", told=told)
    parquet.read(store, tmp_path / "much", told=told)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.n_put == 8192
    assert max(highest, peak) < 12 << 20
