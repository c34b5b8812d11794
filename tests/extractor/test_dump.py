"""Dumps: what is in OUT, that nothing is done twice or lost, and that what fails says so."""

import glob
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image

from extractor import Extractor
from extractor.cache.memory import MemoryCache
from extractor.dump import check, dump, retry_errors
from extractor.dump.counts import Counts
from extractor.dump.flow import Flow
from extractor.dump.manifest import read_manifest
from extractor.dump.npy import write_npy
from extractor.dump.reader import LIST_S
from extractor.dump.verb import SLICE_S, LocalVerb
from extractor.dump.writer import COMMIT_S
from extractor.errors import (
    DumpNotWritten,
    DumpRefused,
    DumpSpoilt,
    InferenceFailed,
    NotServing,
    SourceInvalid,
    UnreadableItem,
)
from extractor.limits import Limits
from extractor.outcome import Outcome
from extractor.sources import Entry, Options, open_source
from extractor.stages import StageTimes
from tests.tiny import TABLE, encoded, flat, png


@pytest.fixture(scope="module")
def images(tiny_image: Path) -> Iterator[Extractor]:
    with Extractor.load(tiny_image, cache="off", limits=Limits(max_pixels=10_000, max_item_bytes=100_000)) as one:
        yield one


@pytest.fixture(scope="module")
def texts(tiny_text: Path) -> Iterator[Extractor]:
    with Extractor.load(tiny_text, cache="off") as one:
        yield one


def photos(folder: Path, n: int = 30) -> Path:
    for i in range(n):
        path = folder / "src" / ("even" if i % 2 == 0 else "odd") / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(flat(i % 256, 2, 3)))
    return folder / "src"


def table(out: Path) -> pa.Table:
    return pq.read_table(sorted(glob.glob(f"{out}/part-*.parquet")))


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*.parquet")}


def sentences(path: Path, n: int, *, start: int = 0) -> Path:
    rows = [f"{'red dog' if i % 2 else 'blue cat'} {i},{'d' if i % 2 else 'c'},{i}" for i in range(start, n)]
    path.write_text("\n".join(["text,label,n", *rows, ""]))
    return path


# -- what is in OUT


def test_rows_are_the_items_in_order_with_their_embeddings(tmp_path: Path, images: Extractor) -> None:
    counts = dump(photos(tmp_path), tmp_path / "out", images, max_shard_rows=8)
    rows = table(tmp_path / "out").to_pylist()
    assert [row["key"] for row in rows] == [entry.key for entry in open_source(tmp_path / "src").entries()]
    assert all(row["embedding"] == [int(row["key"][-8:-4]), 2, 3] for row in rows)
    assert {row["label"] for row in rows} == {"even", "odd"}
    assert (counts.done, counts.committed, counts.errors, counts.skipped) == (30, 30, 0, 0)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.complete and counts.shards == len(manifest.shards) > 1
    assert check(tmp_path / "out").problems == ()


def test_the_schema_says_what_the_embeddings_are(tmp_path: Path, images: Extractor) -> None:
    dump(photos(tmp_path, 3), tmp_path / "out", images)
    schema = pq.read_schema(tmp_path / "out/part-00000.parquet")
    assert schema.names == ["key", "embedding", "label", "error"]
    assert schema.field("embedding").type == pa.list_(pa.float32(), 3)
    assert schema.metadata[b"headwater.fingerprint"].decode() == images.fingerprint
    assert schema.metadata[b"headwater.backbone"] == b"tiny-image"
    assert (schema.metadata[b"headwater.dim"], schema.metadata[b"headwater.format"]) == (b"3", b"1")
    found = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (found["format"], found["rows"], found["errors"], found["complete"]) == (1, 3, 0, True)
    assert found["source"] == {"kind": "folder", "place": f"{tmp_path}/src", "pattern": "*"}


def test_other_programs_open_it_as_it_is(tmp_path: Path, images: Extractor) -> None:
    (photos(tmp_path, 20) / "odd/broken.png").write_bytes(b"broken")
    dump(tmp_path / "src", tmp_path / "out", images, max_shard_rows=6)
    files = sorted((tmp_path / "out").glob("part-*.parquet"))
    frame = pd.read_parquet(files)
    assert len(frame) == 21
    assert frame.embedding.notna().sum() == 20
    assert pa.dataset.dataset([str(file) for file in files]).count_rows() == 21


def test_tables_carry_their_columns_and_keep_their_types(tmp_path: Path, texts: Extractor) -> None:
    source = pa.table({"text": ["red", "", "cat"], "n": [1, 2, 3], "tags": [["x"], [], None]})
    pq.write_table(source, tmp_path / "t.parquet")
    dump(tmp_path / "t.parquet", tmp_path / "out", texts)
    found = table(tmp_path / "out")
    assert found.select(["n", "tags"]).equals(source.select(["n", "tags"]))
    assert found.column("key").to_pylist() == ["0", "1", "2"]
    assert np.allclose(found.column("embedding")[0].as_py(), TABLE[1])
    assert found.column("error")[1].as_py() == "row 1 has nothing in its column 'text'"


def test_half_precision_and_what_it_cannot_hold(tmp_path: Path, texts: Extractor) -> None:
    class Large(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            for place, outcome in super().outcomes(items):
                yield place, Outcome(outcome.embedding * np.float32(1e6)) if place == 1 else outcome

    counts = dump(sentences(tmp_path / "t.csv", 3), tmp_path / "out", Large(texts), dtype="float16")
    assert (counts.done, counts.errors, counts.overflowed) == (3, 0, 1)
    found = table(tmp_path / "out")
    assert found.schema.field("embedding").type == pa.list_(pa.float16(), 4)
    assert found.column("error").to_pylist()[::2] == [None, None]
    assert "float16) cannot hold" in found.column("error")[1].as_py() or "halffloat" in found.column("error")[1].as_py()
    assert check(tmp_path / "out").problems == ()
    with pytest.raises(DumpRefused, match="has the precision float16, this one float32"):
        dump(tmp_path / "t.csv", tmp_path / "out", texts, dtype="float32")
    assert dump(tmp_path / "t.csv", tmp_path / "out", texts).skipped == 3
    with pytest.raises(DumpRefused, match="float32 or float16, not 'int8'"):
        dump(tmp_path / "t.csv", tmp_path / "out8", texts, dtype="int8")


def test_what_half_precision_cannot_hold_is_not_mended_by_asking_again(tmp_path: Path, texts: Extractor) -> None:
    class Large(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            for place, outcome in super().outcomes(items):
                yield place, Outcome(outcome.embedding * np.float32(1e6))

    out = tmp_path / "out"
    dump(sentences(tmp_path / "t.csv", 2), out, Large(texts), dtype="float16")
    before = shard_bytes(out)
    counts = retry_errors(tmp_path / "t.csv", out, Large(texts))
    assert (counts.done, counts.errors, counts.overflowed, counts.committed) == (2, 0, 2, 0)
    assert shard_bytes(out) == before
    counts = retry_errors(tmp_path / "t.csv", out, texts)
    assert (counts.done, counts.overflowed, counts.committed) == (2, 0, 2)
    assert list(shard_bytes(out)) == ["part-00000-r1.parquet"]


def test_npy_has_the_rows_without_errors_and_their_keys(tmp_path: Path, images: Extractor) -> None:
    (photos(tmp_path, 9) / "odd/0000.png").write_bytes(b"")
    dump(tmp_path / "src", tmp_path / "out", images, max_shard_rows=4)
    array, keys = write_npy(tmp_path / "out")
    X = np.load(array, mmap_mode="r")
    said = [json.loads(line) for line in keys.read_text().splitlines()]
    assert X.shape == (9, 3) and X.dtype == np.float32
    assert [one["key"] for one in said][5:] == ["odd/0001.png", "odd/0003.png", "odd/0005.png", "odd/0007.png"]
    assert [one["label"] for one in said] == 5 * ["even"] + 4 * ["odd"]
    assert np.array_equal(X[:, 0], [int(one["key"][-8:-4]) for one in said])


# -- items that fail


def test_a_thousand_files_with_thirty_broken_ones_of_ten_kinds(tmp_path: Path, images: Extractor) -> None:
    source = photos(tmp_path, 970)
    whole = png(flat(1))
    large = png(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
    pixels = encoded(Image.new("1", (101, 100)), "PNG")
    for i in range(3):
        here = source / "odd"
        (here / f"empty-{i}.png").write_bytes(b"")
        (here / f"truncated-{i}.png").write_bytes(large[: len(large) // 2])
        (here / f"words-{i}.png").write_text("these are words")
        (here / f"pixels-{i}.png").write_bytes(pixels)
        (here / f"folder-{i}.png").mkdir()
        (here / f"link-{i}.png").symlink_to(here / "lost.png")
        (here / f"circle-{i}.png").symlink_to(here / f"circle-{i}.png")
        os.mkfifo(here / f"pipe-{i}.png")
        (here / f"bytes-{i}.png").write_bytes(whole + bytes(100_000))
        if os.geteuid():
            (here / f"sealed-{i}.png").write_bytes(whole)
            (here / f"sealed-{i}.png").chmod(0)
        else:
            (here / f"sealed-{i}.png").write_bytes(encoded(Image.new("F", (8, 8)), "TIFF"))
    counts = dump(source, tmp_path / "out", images)
    assert (counts.done, counts.errors) == (1000, 30)
    rows = table(tmp_path / "out").to_pylist()
    assert sum(row["embedding"] is not None for row in rows) == 970
    told = {row["key"].partition("/")[2].partition("-")[0]: row["error"] for row in rows if row["error"]}
    for kind, words in {
        "empty": "0 bytes",
        "truncated": "PNG image of 80×80 is damaged or cut short",
        "words": "begin with b'these ar'",
        "pixels": "10,100 pixels, the limit is 10,000",
        "folder": "is a folder, not a file",
        "link": "lost.png, which is not there",
        "circle": "Too many levels of symbolic links",
        "pipe": "is a named pipe, not a file",
        "bytes": "the limit is 100,000",
        "sealed": "Permission denied" if os.geteuid() else "32-bit float pixels",
    }.items():
        assert words in told[kind], (kind, told[kind])
    assert sum(row["error"] is not None for row in rows) == sum(counts.kinds.values()) == 30
    assert check(tmp_path / "out").problems == ()


def test_an_extractor_that_stops_serving_ends_the_dump(tmp_path: Path, texts: Extractor) -> None:
    class Hangs(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            for place, outcome in super().outcomes(items):
                yield place, outcome if place < 10 else Outcome(error=NotServing("the session hangs"))

    with pytest.raises(NotServing):
        dump(sentences(tmp_path / "t.csv", 20), tmp_path / "out", Hangs(texts))
    assert read_manifest(tmp_path / "out").rows == 10
    counts = dump(tmp_path / "t.csv", tmp_path / "out", texts)
    assert (counts.skipped, counts.done) == (10, 10)


def test_a_session_that_fails_on_everything_ends_the_dump(tmp_path: Path, texts: Extractor) -> None:
    class Fails(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            for place, outcome in super().outcomes(items):
                yield place, outcome if place < 10 else Outcome(error=InferenceFailed("the session failed"))

    with pytest.raises(InferenceFailed):
        dump(sentences(tmp_path / "t.csv", 2000), tmp_path / "out", Fails(texts))
    assert 0 < read_manifest(tmp_path / "out").errors < 512  # 256 in a row, beside those that came before a good one


def test_what_no_parquet_file_holds_is_written_as_it_can_be(tmp_path: Path, texts: Extractor) -> None:
    row = {"path": "lost \ud800.txt", "label": "a \udfff", "more": "b \ud800"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    dump(tmp_path / "t.jsonl", tmp_path / "out", texts)
    (found,) = table(tmp_path / "out").to_pylist()
    assert (found["key"], found["label"], found["more"]) == ("lost ?.txt", "a ?", "b ?")
    assert "cannot read" in found["error"]


def test_what_a_slow_source_gives_is_not_kept_waiting(tmp_path: Path, texts: Extractor) -> None:
    released = Event()

    def items() -> Iterator[bytes]:
        yield b"red"
        Event().wait(0.6)
        yield b"blue"
        assert released.wait(20)
        yield b"green"

    outcomes = LocalVerb(texts).outcomes(items())
    first = []
    for place, _ in outcomes:
        first.append(place)
        released.set()
    assert first == [0, 1, 2]


def test_what_a_slow_list_names_is_committed_while_it_goes_on(tmp_path: Path, texts: Extractor) -> None:
    out = tmp_path / "out"
    (tmp_path / "red").write_text("red")
    n_listed = 0

    def paths() -> Iterator[str]:
        nonlocal n_listed
        while n_listed < 200 and not list(out.glob("part-*.parquet")):
            n_listed += 1
            yield str(tmp_path / "red")
            time.sleep(0.2)

    assert LIST_S + SLICE_S + COMMIT_S <= 5 - 0.5  # what is left is for the work
    assert dump(open_source("-", stdin=paths()), out, texts, commit_s=0.1).errors == 0
    assert table(out).num_rows == n_listed < 200


def test_a_small_queue_is_waited_for(tmp_path: Path, tiny_text: Path) -> None:
    with Extractor.load(tiny_text, cache="off", limits=Limits(max_queue_size=20)) as extractor:
        assert dump(sentences(tmp_path / "t.csv", 300), tmp_path / "out", extractor).done == 300
    assert [row["n"] for row in table(tmp_path / "out").to_pylist()] == [str(i) for i in range(300)]


def test_a_source_that_breaks_off_ends_the_dump_after_what_it_gave(tmp_path: Path, texts: Extractor) -> None:
    source = tmp_path / "t.jsonl"
    lines = [json.dumps({"text": f"red {i}"}) for i in range(1200)]
    source.write_text("\n".join([*lines, "{"]))
    with pytest.raises(SourceInvalid, match="line 1201 is not JSON"):
        dump(source, tmp_path / "out", texts)
    assert not read_manifest(tmp_path / "out").complete
    source.write_text("\n".join([*lines, json.dumps({"text": "mended"})]))
    counts = dump(source, tmp_path / "out", texts)
    assert (counts.skipped, counts.done) == (1200, 1)
    assert check(tmp_path / "out").problems == ()


# -- again


def test_a_second_run_does_only_what_is_new_and_leaves_shards_as_they_were(tmp_path: Path, images: Extractor) -> None:
    source = photos(tmp_path, 20)
    dump(source, tmp_path / "out", images, max_shard_rows=7)
    before = shard_bytes(tmp_path / "out")
    (source / "even/0001-new.png").write_bytes(png(flat(201)))
    (source / "zebra").mkdir()
    (source / "zebra/last.png").write_bytes(png(flat(202)))
    (source / "odd/0003.png").unlink()
    counts = dump(source, tmp_path / "out", images)
    assert (counts.skipped, counts.done, counts.vanished) == (19, 2, 1)
    after = shard_bytes(tmp_path / "out")
    assert before.items() <= after.items() and len(after) == len(before) + 1
    assert [row["embedding"][0] for row in table(tmp_path / "out").to_pylist()[-2:]] == [201, 202]
    assert check(tmp_path / "out").problems == ()
    counts = dump(source, tmp_path / "out", images)
    assert (counts.skipped, counts.done, counts.shards) == (21, 0, 0)


def test_a_file_that_has_changed_since_is_told_of_and_stays_as_it_was(
    tmp_path: Path, images: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extractor.dump.row.LISTED_S", 0.0)  # all of this takes less
    source, out = photos(tmp_path, 9), tmp_path / "out"
    (source / "odd/0005.png").write_bytes(b"broken")
    for path in source.rglob("*.png"):
        os.utime(path, (1, 1))
    dump(source, out, images, max_shard_rows=3)
    assert dump(source, out, images).changed == 0
    for name in ("even/0008.png", "odd/0001.png", "odd/0005.png"):
        (source / name).write_bytes(png(flat(99)))
    (source / "even/0000.png").unlink()  # what is held side by side, and what is remembered
    before = table(out)
    Event().wait(0.02)  # longer than a file's time may be behind
    counts = dump(source, out, images)
    assert (counts.skipped, counts.changed, counts.first_changed, counts.vanished) == (8, 2, "even/0008.png", 1)
    assert table(out).equals(before)
    assert retry_errors(source, out, images).errors == 0
    assert dump(source, out, images).changed == 2, "what was asked for again is as it is now"
    assert check(out).problems == ()


def test_rows_that_were_added_to_a_table_are_done_and_changed_ones_refused(tmp_path: Path, texts: Extractor) -> None:
    dump(sentences(tmp_path / "t.csv", 30), tmp_path / "out", texts, max_shard_rows=10)
    counts = dump(sentences(tmp_path / "t.csv", 35), tmp_path / "out", texts)
    assert (counts.skipped, counts.done) == (30, 5)
    assert table(tmp_path / "out").column("n").to_pylist() == [str(i) for i in range(35)]
    with pytest.raises(DumpRefused, match=r"is not what .* has as rows 0 to \d+: it was changed within"):
        dump(sentences(tmp_path / "t.csv", 36, start=1), tmp_path / "out", texts)
    with pytest.raises(DumpRefused, match="it was changed within"):  # a row of the first shard may be what is gone
        dump(sentences(tmp_path / "t.csv", 29), tmp_path / "out", texts)
    counts = dump(sentences(tmp_path / "t.csv", 30), tmp_path / "out", texts)
    assert (counts.done, counts.vanished) == (0, 5)


def test_a_table_that_lost_a_row_is_refused(tmp_path: Path, texts: Extractor) -> None:
    lines = ["text,label", *(f"red {i},{i}" if i != 5 else ",5" for i in range(8))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    assert dump(tmp_path / "t.csv", tmp_path / "out", texts).errors == 1
    before = shard_bytes(tmp_path / "out")
    (tmp_path / "t.csv").write_text("\n".join(line for line in lines if line != ",5") + "\n")
    for again in (retry_errors, dump):
        with pytest.raises(DumpRefused, match=r"the source is not what .* has as rows 0 to 7"):
            again(tmp_path / "t.csv", tmp_path / "out", texts)
    assert shard_bytes(tmp_path / "out") == before


def test_another_backbone_source_or_folder_is_refused(tmp_path: Path, images: Extractor, texts: Extractor) -> None:
    source = photos(tmp_path, 4)
    dump(source, tmp_path / "out", images)
    with pytest.raises(DumpRefused, match=r"has the backbone tiny-image \w+, this one tiny-text"):
        dump(source, tmp_path / "out", texts)
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(DumpRefused, match="if it only moved, say --moved"):
        dump(tmp_path / "elsewhere", tmp_path / "out", images)
    assert dump(tmp_path / "elsewhere", tmp_path / "out", images, moved=True).skipped == 4
    with pytest.raises(DumpRefused, match=r"a source with pattern '\*', not '\*\.png'"):
        dump(open_source(tmp_path / "elsewhere", pattern="*.png"), tmp_path / "out", images)
    with pytest.raises(DumpRefused, match="is no dump: it holds even, odd; choose another folder"):
        dump(sentences(tmp_path / "t.csv", 2), tmp_path / "elsewhere", texts)
    with pytest.raises(DumpRefused, match="choose a folder beside it"):
        dump(tmp_path / "elsewhere", tmp_path / "elsewhere/even/out", images)
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": ["red"]}), tmp_path / "data/0.parquet")
    with pytest.raises(DumpRefused, match="choose a folder beside it"):
        dump(tmp_path / "data", tmp_path / "data/out", texts)


@pytest.mark.parametrize("name", ["letter.txt", ".lock"])
def test_what_is_no_dump_is_left_as_it_is(tmp_path: Path, texts: Extractor, name: str) -> None:
    (tmp_path / "home").mkdir()
    for file in {name, ".part-1.parquet.tmp", ".other.tmp"}:
        (tmp_path / "home" / file).write_text("mine")
    with pytest.raises(DumpRefused, match=f"is no dump: it holds {name}; choose another folder"):
        dump(sentences(tmp_path / "t.csv", 2), tmp_path / "home", texts)
    found = {path.name: path.read_text() for path in (tmp_path / "home").iterdir()}
    assert found == dict.fromkeys({name, ".part-1.parquet.tmp", ".other.tmp"}, "mine")


@pytest.mark.parametrize("said", ['{"name": "an app"}', "[]", "no JSON", '{"format": "2"}'])
def test_a_manifest_of_something_else_is_not_to_be_removed(tmp_path: Path, texts: Extractor, said: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/manifest.json").write_text(said)
    (tmp_path / "app/part-of-it.parquet").write_text("mine")
    for attempt in (
        lambda: dump(sentences(tmp_path / "t.csv", 2), tmp_path / "app", texts),
        lambda: check(tmp_path / "app"),
    ):
        with pytest.raises(
            DumpSpoilt, match=r"manifest\.json is no manifest of a dump .*; name another folder"
        ) as told:
            attempt()
        assert "remove" not in str(told.value)
    assert (tmp_path / "app/manifest.json").read_text() == said


def test_no_array_is_written_of_what_is_no_dump(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_npy(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_dump_at_once_is_refused(tmp_path: Path, texts: Extractor) -> None:
    refused = []

    def again(_: Counts) -> None:
        with pytest.raises(DumpRefused, match=rf"another dump \(process {os.getpid()}\) is at work in"):
            dump(tmp_path / "t.csv", tmp_path / "out", texts)
        with pytest.raises(DumpRefused, match="is at work in"):
            write_npy(tmp_path / "out")
        refused.append(check(tmp_path / "out").at_work)

    dump(sentences(tmp_path / "t.csv", 10), tmp_path / "out", texts, told=again)
    assert refused and all(refused)
    assert dump(tmp_path / "t.csv", tmp_path / "out", texts).skipped == 10


def test_it_goes_through_the_cache_both_ways(tmp_path: Path, tiny_text: Path) -> None:
    cache = MemoryCache(max_bytes=1 << 20)
    sentences(tmp_path / "t.csv", 40)
    with Extractor.load(tiny_text, cache=cache) as extractor:
        (known,) = extractor.extract(["blue cat 0"])
        first = dump(tmp_path / "t.csv", tmp_path / "one", extractor)
        again = dump(tmp_path / "t.csv", tmp_path / "two", extractor)
    assert (first.cached, again.cached) == (1, 40)
    assert np.array_equal(table(tmp_path / "one").column("embedding")[0].as_py(), known)
    assert table(tmp_path / "one").equals(table(tmp_path / "two"))


def test_files_that_come_to_a_data_set_or_to_archives_are_done(
    tmp_path: Path, images: Extractor, texts: Extractor
) -> None:
    for folder in ("data", "tars"):
        (tmp_path / folder).mkdir()
    for i in range(2):
        pq.write_table(pa.table({"text": ["red", "cat"]}), tmp_path / f"data/{i}.parquet")
        (tmp_path / "1.png").write_bytes(png(flat(i)))
        with tarfile.open(tmp_path / f"tars/{i}.tar", "w") as archive:
            archive.add(tmp_path / "1.png", "1.png")
        first = dump(tmp_path / "data", tmp_path / "out", texts)
        second = dump(tmp_path / "tars", tmp_path / "out2", images)
        assert (first.skipped, first.done, second.skipped, second.done) == (2 * i, 2, i, 1)
    assert table(tmp_path / "out2").column("key").to_pylist() == ["0.tar/1.png", "1.tar/1.png"]


def test_what_is_told_to_stop_commits_what_is_done(tmp_path: Path, texts: Extractor) -> None:
    stop = Event()

    class Stops(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            for place, outcome in super().outcomes(items):
                if place == 500:
                    stop.set()
                    stop.wait()
                    Event().wait(0.5)  # until it is seen
                yield place, outcome

    counts = dump(sentences(tmp_path / "t.csv", 3000), tmp_path / "out", Stops(texts), stop=stop)
    manifest = read_manifest(tmp_path / "out")
    assert 0 < counts.done == counts.committed == manifest.rows < 3000
    assert not manifest.complete
    counts = dump(tmp_path / "t.csv", tmp_path / "out", texts)
    assert counts.skipped + counts.done == table(tmp_path / "out").num_rows == 3000


# -- disks


def test_a_full_disk_is_told_and_the_rest_is_done_when_there_is_room(tmp_path: Path, tiny_text: Path) -> None:
    sentences(tmp_path / "t.csv", 2000)
    code = f"""
import resource
from extractor import Extractor
from extractor.dump import dump
from extractor.errors import DumpNotWritten
with Extractor.load({str(tiny_text)!r}, cache="off") as extractor:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
    try:
        dump("t.csv", "out", extractor, max_shard_rows=10_000)
    except DumpNotWritten as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment())
    assert "part-00000.parquet: File too large; what was committed stays: make room" in done.stdout, done.stderr
    assert [path.name for path in (tmp_path / "out").glob("*part*")] == []
    with Extractor.load(tiny_text, cache="off") as extractor:
        assert dump(tmp_path / "t.csv", tmp_path / "out", extractor).done == 2000


def test_a_shard_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, texts: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no kill of a process shows: the machine may lose its power between any two of these steps."""
    steps: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append(("rename", f"{path.name} to {target.name}"))
        return replace(path, target)

    dump(sentences(tmp_path / "t.csv", 4), tmp_path / "out", texts)
    monkeypatch.setattr("extractor.dump.folder.os.fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    dump(sentences(tmp_path / "t.csv", 9), tmp_path / "out", texts)
    shard = steps.index(("sync", ".part-00001.parquet.tmp"))
    assert steps[shard : shard + 6] == [
        ("sync", ".part-00001.parquet.tmp"),
        ("rename", ".part-00001.parquet.tmp to part-00001.parquet"),
        ("sync", "out"),
        ("sync", ".manifest.json.tmp"),
        ("rename", ".manifest.json.tmp to manifest.json"),
        ("sync", "out"),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_out_that_cannot_be_made_is_told(tmp_path: Path, texts: Extractor) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DumpNotWritten, match=r"cannot write .*file/out: Not a directory"):
        dump(sentences(tmp_path / "t.csv", 2), tmp_path / "file/out", texts)


def test_a_shard_that_the_manifest_does_not_know_is_taken_up(tmp_path: Path, texts: Extractor) -> None:
    dump(sentences(tmp_path / "t.csv", 50), tmp_path / "out", texts, max_shard_rows=20)
    before, manifest = shard_bytes(tmp_path / "out"), (tmp_path / "out/manifest.json").read_text()
    found = json.loads(manifest)
    shards = found["shards"][:-1]
    edited = {**found, "rows": sum(one["rows"] for one in shards), "shards": shards}
    (tmp_path / "out/manifest.json").write_text(json.dumps(edited))
    (tmp_path / "out/.part-00009.parquet.tmp").write_bytes(b"half")
    assert len(check(tmp_path / "out").problems) == 2
    assert dump(tmp_path / "t.csv", tmp_path / "out", texts).skipped == 50
    (tmp_path / "out/manifest.json").unlink()
    (tmp_path / "out/index.faiss").write_bytes(b"what was made of the shards is no other folder's")
    assert dump(tmp_path / "t.csv", tmp_path / "out", texts).skipped == 50
    assert shard_bytes(tmp_path / "out") == before
    assert (tmp_path / "out/manifest.json").read_text() == manifest
    assert check(tmp_path / "out").problems == ()


def test_a_dump_that_lost_something_is_not_gone_on_with(tmp_path: Path, texts: Extractor) -> None:
    dump(sentences(tmp_path / "t.csv", 50), tmp_path / "out", texts, max_shard_rows=20)
    (tmp_path / "out/part-00000.parquet").rename(tmp_path / "kept")
    with pytest.raises(DumpSpoilt, match=r"part-00000\.parquet is missing; bring it back"):
        dump(tmp_path / "t.csv", tmp_path / "out", texts)
    (tmp_path / "kept").rename(tmp_path / "out/part-00000.parquet")
    (tmp_path / "out/manifest.json").write_text('{"format": 2}')
    with pytest.raises(DumpSpoilt, match="has format 2, this Headwater reads 1; upgrade"):
        dump(tmp_path / "t.csv", tmp_path / "out", texts)
    (tmp_path / "out/manifest.json").write_text("{")
    with pytest.raises(DumpSpoilt, match=r"is no manifest of a dump .* it is made anew from the shards"):
        dump(tmp_path / "t.csv", tmp_path / "out", texts)


# -- check


def test_a_check_finds_what_is_spoilt(tmp_path: Path, images: Extractor) -> None:
    out = tmp_path / "out"
    dump(photos(tmp_path, 20), out, images, max_shard_rows=5)
    data = bytearray((out / "part-00001.parquet").read_bytes())
    data[len(data) // 3] ^= 1
    (out / "part-00001.parquet").write_bytes(data)
    first, *rest = (file for file in sorted(out.glob("part-*.parquet")) if "00001" not in file.name)
    again = pq.read_table(first).replace_schema_metadata({"headwater.fingerprint": "another"})
    pq.write_table(pa.concat_tables([again, again.slice(0, 1)]), first)
    rest[-1].unlink()
    (out / "part-00077.parquet").write_bytes(b"stranger")
    told = "\n".join(check(out).problems)
    assert "part-00001.parquet: bytes: " in told and "another checksum" in told
    assert "part-00000.parquet: is of the fingerprint 'another'" in told
    assert "part-00000.parquet: rows: 6, not 5" in told or "rows: " in told
    assert f"{rest[-1].name}: cannot be read: No such file" in told
    assert "part-00077.parquet: is not in the manifest" in told
    assert "keys that stand more than once: 1, as 'even/0000.png'" in told
    with pytest.raises(DumpSpoilt, match=r"has no manifest\.json"):
        check(tmp_path)


def test_a_check_sees_any_byte_of_a_shard_and_any_number_of_the_manifest(tmp_path: Path, texts: Extractor) -> None:
    out = tmp_path / "out"
    dump(sentences(tmp_path / "t.csv", 20), out, texts, max_shard_rows=8)
    file = sorted(out.glob("part-*.parquet"))[1]
    data = file.read_bytes()
    for place in range(0, len(data), 97):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert any(problem.startswith(f"{file.name}: ") for problem in check(out).problems), place
    file.write_bytes(data)
    manifest = json.loads((out / "manifest.json").read_text())
    edits: list[dict[str, Any]] = [{"rows": 21}, {"errors": 1}, {"dim": 5}, {"dtype": "float16"}]
    edits += [{"backbone": "another"}, {"fingerprint": "another"}, {"shards": manifest["shards"][:-1]}]
    first, *rest = manifest["shards"]
    for name, value in first.items():
        another = f"{value}0" if isinstance(value, str) else value + 1 if isinstance(value, int) else []
        edits.append({"shards": [{**first, name: another}, *rest]})
    for edit in edits:
        (out / "manifest.json").write_text(json.dumps({**manifest, **edit}))
        assert check(out).problems, edit
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert check(out).problems == ()


def test_a_shard_of_another_backbone_is_not_taken_up(tmp_path: Path, texts: Extractor, tiny_array: Path) -> None:
    dump(sentences(tmp_path / "t.csv", 9), tmp_path / "out", texts)
    (file,) = (tmp_path / "out").glob("part-*.parquet")
    found = pq.read_table(file)
    said = json.loads(found.schema.metadata[b"headwater.shard"])
    metadata = {
        **found.schema.metadata,
        b"headwater.shard": json.dumps({**said, "start": 9}),
        b"headwater.fingerprint": "another",
    }
    pq.write_table(found.replace_schema_metadata(metadata), tmp_path / "out/part-00001.parquet")
    with pytest.raises(DumpSpoilt, match="is of the backbone another, not"):
        dump(tmp_path / "t.csv", tmp_path / "out", texts)


# -- retries


def test_a_retry_puts_a_whole_shard_in_the_place_of_one_with_errors(tmp_path: Path, images: Extractor) -> None:
    source, out = photos(tmp_path, 24), tmp_path / "out"
    for i in (1, 3, 21):
        (source / f"odd/{i:04}.png").rename(tmp_path / f"{i}.png")
        (source / f"odd/{i:04}.png").write_bytes(b"broken")
    dump(source, out, images, max_shard_rows=5)
    n_shards, before = len(read_manifest(out).shards), shard_bytes(out)
    keys = table(out).column("key")
    counts = retry_errors(source, out, images)
    assert (counts.done, counts.errors, counts.shards, shard_bytes(out)) == (3, 3, 0, before)
    for i in (1, 21):
        (tmp_path / f"{i}.png").replace(source / f"odd/{i:04}.png")
    (source / "odd/0003.png").unlink()
    counts = retry_errors(source, out, images)
    assert (counts.done, counts.errors, counts.committed, counts.vanished) == (2, 0, 2, 1)
    after = shard_bytes(out)
    gone, new = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    assert new == [name.replace(".parquet", "-r1.parquet") for name in gone]
    assert {name: (out / ".superseded" / name).read_bytes() for name in gone} == {name: before[name] for name in gone}
    assert all(after[name] == before[name] for name in before.keys() & after.keys())
    rows = table(out)
    assert rows.column("key").equals(keys) and len(read_manifest(out).shards) == n_shards
    assert [row["key"] for row in rows.to_pylist() if row["error"]] == ["odd/0003.png"]
    assert all(row["embedding"][0] == int(row["key"][-8:-4]) for row in rows.to_pylist() if not row["error"])
    assert read_manifest(out).errors == 1 and read_manifest(out).complete
    assert check(out).problems == ()
    assert dump(source, out, images).done == 0


def test_a_retry_that_was_killed_between_two_names_is_ended(tmp_path: Path, images: Extractor) -> None:
    source, out = photos(tmp_path, 6), tmp_path / "out"
    (source / "odd/0001.png").write_bytes(b"broken")
    dump(source, out, images)
    manifest = (out / "manifest.json").read_bytes()
    (source / "odd/0001.png").write_bytes(png(flat(1, 2, 3)))
    retry_errors(source, out, images)
    (out / "manifest.json").write_bytes(manifest)
    (out / ".superseded/part-00000.parquet").rename(out / "part-00000.parquet")
    assert dump(source, out, images).skipped == 6
    assert [path.name for path in out.glob("part*")] == ["part-00000-r1.parquet"]
    assert read_manifest(out).errors == 0
    assert check(out).problems == ()


def test_rows_of_a_table_are_asked_for_again_only_if_it_is_the_same(tmp_path: Path, texts: Extractor) -> None:
    class Fails(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            for place, outcome in super().outcomes(items):
                yield place, Outcome(error=UnreadableItem("away")) if place % 5 == 3 else outcome

    dump(sentences(tmp_path / "t.csv", 20), tmp_path / "out", Fails(texts), max_shard_rows=6)
    sentences(tmp_path / "t.csv", 21, start=1)
    with pytest.raises(DumpRefused, match="it was changed within"):
        retry_errors(tmp_path / "t.csv", tmp_path / "out", texts)
    counts = retry_errors(sentences(tmp_path / "t.csv", 20), tmp_path / "out", texts)
    assert (counts.done, counts.errors) == (4, 0)
    dump(tmp_path / "t.csv", tmp_path / "whole", texts)
    assert table(tmp_path / "out").equals(table(tmp_path / "whole"))


# -- the flow alone


def test_rows_come_in_order_whatever_the_order_of_the_outcomes(texts: Extractor) -> None:
    class Shuffled(LocalVerb):
        def outcomes(self, items: Iterator[Any]) -> Generator[tuple[int, Outcome], None, None]:
            found = list(super().outcomes(items))
            yield from [found[i] for i in np.random.default_rng(0).permutation(len(found))]

    class Sink:
        keys: list[str] = []  # noqa: RUF012

        def put(self, rows: list[Any]) -> None:
            self.keys.extend(row.key for row in rows)

    entries = [Entry(str(i), f"red {i}") for i in range(200)]
    assert Flow(entries, Shuffled(texts), Sink(), Counts(), numbered=True).run(Event(), bool)
    assert Sink.keys == [str(i) for i in range(200)]


def test_a_socket_is_no_item(tmp_path: Path, images: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photos(tmp_path, 2)
    monkeypatch.chdir(source)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s.png")
        assert dump(source, tmp_path / "out", images).errors == 1
    assert table(tmp_path / "out").column("error")[-1].as_py()


def test_options_are_part_of_what_a_source_is(tmp_path: Path, texts: Extractor) -> None:
    sentences(tmp_path / "t.csv", 3)
    dump(open_source(tmp_path / "t.csv", options=Options(label="n")), tmp_path / "out", texts)
    with pytest.raises(DumpRefused, match="a source with label 'n', not 'label'"):
        dump(tmp_path / "t.csv", tmp_path / "out", texts)


def test_a_dump_of_nothing_may_become_one_of_something_else(images: Extractor, tmp_path: Path) -> None:
    source = photos(tmp_path, 2)
    assert dump(open_source(source, pattern="*.jpeg"), tmp_path / "out", images).done == 0
    assert dump(open_source(source, pattern="*.png"), tmp_path / "out", images).committed == 2
    assert read_manifest(tmp_path / "out").source["pattern"] == "*.png"
    with pytest.raises(DumpRefused, match="of a source with pattern"):
        dump(source, tmp_path / "out", images)


def test_what_cannot_be_gone_on_with_is_told_before_anything_is_made(images: Extractor, tmp_path: Path) -> None:
    source = photos(tmp_path, 1)
    with pytest.raises(DumpRefused, match="holds no dump yet whose source could have moved; leave --moved away"):
        dump(source, tmp_path / "out", images, moved=True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DumpRefused, match="is a file, and a dump is a folder"):
        dump(source, tmp_path / "file", images)
    (tmp_path / "dump/manifest.json").mkdir(parents=True)
    with pytest.raises(DumpSpoilt, match=r"manifest\.json cannot be read: Is a directory"):
        check(tmp_path / "dump")
    for path, told in ((tmp_path / "file", "is a file"), (tmp_path / "gone", "is not there"), (source, "has no man")):
        with pytest.raises(DumpSpoilt, match=told):
            check(path)


def test_a_verb_that_served_a_dump_begins_another_with_no_time_spent(tmp_path: Path, texts: Extractor) -> None:
    verb = LocalVerb(texts)
    first = dump(sentences(tmp_path / "t.csv", 9), tmp_path / "out", verb)
    spent = first.stages.inference_ms
    assert spent > 0
    for again in (dump, retry_errors):
        assert again(tmp_path / "t.csv", tmp_path / "out", verb).stages == StageTimes()
    assert first.stages.inference_ms == spent


def test_the_first_error_is_counted_with_its_key(images: Extractor, tmp_path: Path) -> None:
    source = photos(tmp_path, 4)
    for name in ("even/0002.png", "odd/0001.png"):
        (source / name).write_bytes(b"broken")
    key, said = dump(source, tmp_path / "out", images).first_error or ("", "")
    assert (key, said[:7]) == ("even/0002.png", "no JPEG")
