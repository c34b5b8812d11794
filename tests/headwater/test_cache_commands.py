"""`headwater cache`, beside a server that uses the same folder, and on folders in every state."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from extractor import Extractor
from extractor.cache import Entry, item_key
from extractor.cache.disk import DiskStore
from extractor.cache.opened import open_cache, open_store, shown
from extractor.errors import BackboneNotFound, CacheInvalid
from extractor.outcome import Embedded
from headwater import Client
from headwater.admin_client import AdminClient
from headwater.cli import app
from headwater.process import serving
from tests.headwater.test_admin import settles
from tests.redis_server import RedisServer
from tests.tiny import flat, png, write_tiny_image

ONE, OTHER = "1" * 32, "2" * 32
MAX_BYTES = 64 << 20


def entries(fingerprint: str, n: int, dim: int = 4) -> list[Entry]:
    return [(item_key(fingerprint, str(i).encode()), Embedded(np.full(dim, i, np.float32), False)) for i in range(n)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache of 30 and 20 entries."""
    store = DiskStore.open(tmp_path / "cache", max_bytes=MAX_BYTES)
    store.put_many(entries(ONE, 30) + entries(OTHER, 20))
    store.close()
    return tmp_path / "cache"


@pytest.fixture
def installed(home: Path) -> Iterator[Extractor]:
    """An installed backbone."""
    path = write_tiny_image(home / "backbones" / "known")
    with Extractor.load(path) as extractor:
        yield extractor
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def cache(verb: str, *arguments: object, folder: Path | str, reply: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["cache", verb, *map(str, arguments), "--cache", str(folder)], input=reply
    )


def test_stats_tell_size_bound_and_backbones(folder: Path, installed: Extractor) -> None:
    store = open_store(str(folder))
    store.put_many(entries(installed.fingerprint, 7, dim=3))
    store.close()
    done = cache("stats", "--cache-mib", 16, folder=folder)
    assert done.exit_code == 0, done.output
    rows = {line.split()[3]: line.split() for line in done.output.splitlines() if line.startswith("│")}
    assert (rows[ONE][1], rows[ONE][5]) == ("–", "30")
    assert (rows[installed.fingerprint][1], rows[installed.fingerprint][5]) == ("known", "7")
    assert f"{folder}: 57 entries, 0." in done.output
    assert "MiB of 16.0 MiB (" in done.output


def test_beside_a_running_server(tiny_image: Path, tmp_path: Path) -> None:
    folder, items = tmp_path / "shared", [png(flat(i)) for i in range(5)]
    with (
        serving(str(tiny_image), "--cache", str(folder)) as server,
        AdminClient(server.target) as admin,
        Client(server.target) as client,
    ):
        first = client.extract(items)
        assert settles(lambda: admin.status().cache_tiers[0].stored == 5)
        assert "5 entries" in cache("stats", folder=folder).output
        assert "5 entries read, 0 spoilt" in cache("check", folder=folder).output
        assert "5 entries in" in cache("export", tmp_path / "warm.parquet", folder=folder).output
        assert "5 entries dropped" in cache("purge", "--all", "--yes", folder=folder).output
        assert not any(one.cached for one in client.extract_each(items[:2]))
        assert settles(lambda: admin.status().cache_tiers[0].stored == 7)
        assert "5 of 5 entries taken in" in cache("import", tmp_path / "warm.parquet", folder=folder).output
        again = client.extract_each(items)
        assert all(one.cached for one in again)
        assert np.stack([one.embedding for one in again]).tobytes() == first.tobytes()


def test_a_server_with_its_cache_in_memory_has_one(tiny_image: Path) -> None:
    with (
        serving(str(tiny_image), "--cache", "memory", "--cache-mib", "3") as server,
        AdminClient(server.target) as admin,
        Client(server.target) as client,
    ):
        assert not any(one.cached for one in client.extract_each([png(flat(1))]))
        assert all(one.cached for one in client.extract_each([png(flat(1))]))
        (tier,) = admin.status().cache_tiers
    assert (tier.tier, tier.entries, tier.hits, tier.max_bytes) == ("memory", 1, 1, 3 << 20)


def test_check_drops_what_is_spoilt_and_ends_with_one(folder: Path) -> None:
    key = entries(ONE, 1)[0][0]
    with lmdb.open(str(folder), max_dbs=4) as environment:
        rows = environment.open_db(b"rows")
        with environment.begin(write=True) as transaction:
            raw = bytearray(transaction.get(key, db=rows))
            raw[-1] ^= 1
            transaction.put(key, bytes(raw), db=rows)
    done = cache("check", folder=folder)
    assert (done.exit_code, "50 entries read, 1 spoilt and dropped" in done.output) == (1, True), done.output
    done = cache("check", folder=folder)
    assert (done.exit_code, "49 entries read, 0 spoilt and dropped" in done.output) == (0, True), done.output


def test_check_mends_the_order_of_age(folder: Path) -> None:
    (gone, _), (ageless, _), (placeless, _), (twice, _), *_ = entries(ONE, 4)
    with lmdb.open(str(folder), max_dbs=4) as environment:
        rows, ages, order = (environment.open_db(name) for name in (b"rows", b"ages", b"order"))
        with environment.begin(write=True) as transaction:
            transaction.delete(gone, db=rows)  # an age without a row
            generation = transaction.pop(ageless, db=ages)  # a row without an age
            transaction.delete(generation + ageless, db=order)
            transaction.delete(generation + placeless, db=order)  # a row without a place in the order
            transaction.put(b"\0" * 7 + b"\x09" + twice, b"", db=order)  # a place that no age points to
    done = cache("check", folder=folder)
    assert done.exit_code == 1
    assert "49 entries read, 0 spoilt" in done.output
    assert "4 entries that the order of age did not have" in done.output
    done = cache("check", folder=folder)
    assert (done.exit_code, "order of age" in done.output) == (0, False), done.output
    with lmdb.open(str(folder), max_dbs=4) as environment:
        tables = [environment.open_db(name) for name in (b"rows", b"ages", b"order")]
        with environment.begin() as transaction:
            assert [transaction.stat(table)["entries"] for table in tables] == [49] * 3


def test_purge_drops_one_backbone_or_all_and_asks_before(folder: Path, installed: Extractor) -> None:
    store = open_store(str(folder))
    store.put_many(entries(installed.fingerprint, 7, dim=3))
    store.close()
    assert "7 entries dropped" in cache("purge", "known", "--yes", folder=folder).output
    refused = cache("purge", ONE, folder=folder, reply="n\n")
    assert (refused.exit_code, f"Drop the entries of {ONE} in {folder}?" in refused.output) == (1, True)
    assert "30 entries dropped" in cache("purge", ONE.upper(), folder=folder, reply="y\n").output
    for wrong in ([], ["known", "--all"]):
        done = cache("purge", *wrong, "--yes", folder=folder)
        assert (done.exit_code, "--all" in done.output) == (2, True)
    assert isinstance(cache("purge", "nobody", "--yes", folder=folder).exception, BackboneNotFound)
    assert "20 entries dropped" in cache("purge", "--all", "--yes", folder=folder).output
    assert "0 entries" in cache("stats", folder=folder).output


def test_a_warm_cache_goes_to_another_folder(folder: Path, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "warm.parquet", tmp_path / "elsewhere"
    assert f"20 entries in {file}" in cache("export", file, "--backbone", OTHER, folder=folder).output
    done = cache("import", file, folder=elsewhere)
    assert (done.exit_code, f"{elsewhere}: 20 of 20 entries taken in" in done.output) == (0, True), done.output
    store = open_store(str(elsewhere))
    assert {key: one.embedding.tolist() for key, one in store.scan()} == {
        key: one.embedding.tolist() for key, one in entries(OTHER, 20)
    }
    store.close()


def test_a_redis_is_looked_after_in_the_same_way(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "warm.parquet"
    assert cache("export", file, folder=folder).exit_code == 0
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        assert "50 of 50 entries taken in" in cache("import", file, folder=redis.url).output
        stats = cache("stats", folder=redis.url).output
        assert f"{redis.url}: 50 entries, 0.0 MiB" in stats
        assert ONE in stats
        assert "30 entries dropped" in cache("purge", ONE, "--yes", folder=redis.url).output
        assert "20 entries read, 0 spoilt" in cache("check", folder=redis.url).output
        assert "20 entries in" in cache("export", tmp_path / "back.parquet", folder=redis.url).output
    finally:
        redis.stop()
        redis.client.close()
    done = cache("stats", folder=redis.url)
    with pytest.raises(CacheInvalid, match="see that Redis runs there"):
        raise done.exception or AssertionError(done.output)


def test_import_says_what_it_left_out(folder: Path, installed: Extractor, tmp_path: Path) -> None:
    file = tmp_path / "warm.parquet"
    store = open_store(str(folder))
    store.put_many(entries(installed.fingerprint, 7, dim=5))  # its embeddings have 3 numbers
    store.close()
    assert cache("export", file, folder=folder).exit_code == 0
    done = cache("import", file, folder=tmp_path / "elsewhere")
    assert (done.exit_code, "50 of 57 entries taken in" in done.output) == (1, True), done.output
    assert "7 entries were malformed" in done.output


def test_import_says_what_there_was_no_room_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "warm.parquet"
    assert cache("export", file, folder=folder).exit_code == 0
    monkeypatch.setattr("extractor.cache.opened.MIN_FREE_MIB", 1 << 40)
    done = cache("import", file, folder=tmp_path / "elsewhere")
    assert (done.exit_code, "0 of 50 entries taken in" in done.output) == (1, True), done.output
    assert "50 entries were refused: nothing is stored: less than" in done.output


def test_import_and_the_library_keep_as_much_room_free_as_a_server(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "warm.parquet"
    assert cache("export", file, folder=folder).exit_code == 0
    monkeypatch.setenv("HEADWATER_CACHE_MIN_FREE_MIB", str(1 << 40))
    assert "50 entries were refused" in cache("import", file, folder=tmp_path / "elsewhere").output
    library = open_cache(str(tmp_path / "library"))
    assert library is not None
    library.put_many(entries(ONE, 1))
    library.close()
    assert "0 entries" in cache("stats", folder=tmp_path / "library").output
    monkeypatch.setenv("HEADWATER_CACHE_MIN_FREE_MIB", "plenty")
    with pytest.raises(CacheInvalid, match="HEADWATER_CACHE_MIN_FREE_MIB is 'plenty'"):
        open_cache(str(tmp_path / "library"))


@pytest.mark.parametrize("verb", ["stats", "check", "purge --all --yes", "export x", "import x"])
def test_what_is_no_store_is_said_and_nothing_is_made(verb: str, folder: Path, tmp_path: Path) -> None:
    warm = tmp_path / "x"
    assert cache("export", warm, folder=folder).exit_code == 0
    words = [str(warm) if word == "x" else word for word in verb.split()]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for where, why in (
        ("off", "nothing of it outlives its process"),
        ("memory", "nothing of it outlives its process"),
        ("ftp://x", "it may be off, memory"),
        ("redis:/:s3cret@host", "cache redis:…: it may be off, memory"),
        ("OFF", "nothing of it outlives its process"),
        ("x" * 300, " fails: .*[Tt]oo long"),
        ("~nobody-is-called-this/cache", "cannot be a folder"),
        (loop, "cannot be a folder|too many levels"),
        (warm, " fails: |there is no cache in"),
        *(() if verb == "import x" else ((tmp_path / "nowhere", "there is no cache in"),)),
    ):
        done = cache(*words, folder=where)
        with pytest.raises(CacheInvalid, match=why) as raised:
            raise done.exception or AssertionError(done.output)
        assert "s3cret" not in str(raised.value)
    assert not (tmp_path / "nowhere").exists()


def test_what_is_missing_is_said_with_the_line_that_brings_it(folder: Path, tmp_path: Path) -> None:
    for module, extra, arguments in (
        ("pyarrow", "dump", ["export", tmp_path / "x", "--cache", folder]),
        ("lmdb", "cpu", ["stats", "--cache", folder]),
    ):
        code = f"import sys; sys.modules[{module!r}] = None; from headwater.cli import main; main()"
        command = [sys.executable, "-c", code, "cache", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, done.stderr
        assert f"error: {module} is not installed: pip install 'headwater[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_password_is_not_shown() -> None:
    assert shown("redis://alice:s3cret@host:1/0") == "redis://host:1/0"
    assert shown("rediss://:p@ss@host:1/0?password=s3cret") == "rediss://host:1/0"
    assert shown("/a/folder@home") == "/a/folder@home"
