"""Sources: each kind lists its items in one order, with keys, labels and what is carried along."""

import decimal
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from extractor import Extractor
from extractor.dump import dump
from extractor.errors import ItemError, ItemTooLarge, RuntimeMissing, SourceInvalid, UnreadableItem
from extractor.sources import Entry, Options, Source, open_source
from extractor.sources.table import TableSource
from tests.tiny import flat, png

MAX_BYTES = 1000


def content(entry: Entry) -> bytes:
    if isinstance(entry.content, ItemError):
        raise entry.content
    if isinstance(entry.content, bytes | str):
        return entry.content if isinstance(entry.content, bytes) else entry.content.encode()
    return entry.content.read(MAX_BYTES)


def listed(source: Source) -> list[tuple[str, str | None]]:
    first, again = list(source.entries()), list(source.entries())
    assert [one.key for one in first] == [one.key for one in again]
    return [(one.key, one.label) for one in first]


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


# -- folders


def test_a_folder_is_listed_in_order_with_the_folders_for_labels(tmp_path: Path) -> None:
    written(tmp_path, "top.jpg", "dress/b.jpg", "dress/a.jpg", "hat/old/c.jpg", ".hidden/x.jpg", "hat/.y.jpg")
    source = open_source(tmp_path)
    assert listed(source) == [
        ("dress/a.jpg", "dress"),
        ("dress/b.jpg", "dress"),
        ("hat/old/c.jpg", "old"),
        ("top.jpg", None),
    ]
    assert [content(one) for one in source.entries()] == [one.key.encode() for one in source.entries()]
    assert source.count() == 4
    assert listed(open_source(tmp_path, pattern="a*")) == [("dress/a.jpg", "dress")]


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    written(tmp_path, "outside/a.jpg", "src/b/b.jpg")
    (tmp_path / "src/link").symlink_to(tmp_path / "outside")
    (tmp_path / "src/b/up").symlink_to(tmp_path / "src")
    entries = {one.key: one for one in open_source(tmp_path / "src").entries()}
    assert list(entries) == ["b/b.jpg", "b/up", "link/a.jpg"]
    with pytest.raises(UnreadableItem, match="a link to a folder that it stands in"):
        content(entries["b/up"])


def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    written(tmp_path, "large.jpg")
    (tmp_path / "large.jpg").write_bytes(bytes(MAX_BYTES + 1))
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "itself.jpg").symlink_to(tmp_path / "itself.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    told = {}
    for entry in open_source(tmp_path).entries():
        with pytest.raises(ItemError) as caught:
            content(entry)
        told[entry.key] = str(caught.value)
    assert "it is a named pipe, not a file" in told["pipe.jpg"]
    assert f"it links to {tmp_path}/nowhere.jpg, which is not there" in told["lost.jpg"]
    assert "Too many levels of symbolic links" in told["itself.jpg"]
    assert told["folder.jpg"] == "folder.jpg is a folder, not a file"
    assert "the limit is 1,000" in told["large.jpg"]


def test_a_file_that_is_gone_or_grows_is_an_error_of_its_own(tmp_path: Path) -> None:
    written(tmp_path, "gone.jpg")
    (entry,) = open_source(tmp_path).entries()
    (tmp_path / "gone.jpg").unlink()
    with pytest.raises(UnreadableItem, match="it is not there; it was moved or removed"):
        content(entry)


def test_a_file_that_is_written_while_it_is_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "grows.jpg")
    (entry,) = open_source(tmp_path).entries()

    def fstat(descriptor: int) -> os.stat_result:
        facts = os.stat(descriptor)
        with (tmp_path / "grows.jpg").open("ab") as file:
            file.write(b"more")
        return facts

    monkeypatch.setattr("extractor.sources.places.os.fstat", fstat)
    with pytest.raises(UnreadableItem, match=r"grows\.jpg was changed while it was read; try it again"):
        content(entry)


READ = """
import sys
from extractor.errors import UnreadableItem
from extractor.sources import open_source
for entry in open_source(sys.argv[1]).entries():
    try:
        if isinstance(entry.content, Exception):
            raise entry.content
        entry.content.read(1 << 20)
    except UnreadableItem as error:
        print(error)
"""


def test_what_may_not_be_read_says_so(tmp_path: Path) -> None:
    written(tmp_path, "a/secret.jpg", "b/c.jpg")
    (tmp_path / "a/secret.jpg").chmod(0)
    (tmp_path / "b").chmod(0)
    without_powers = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*without_powers, sys.executable, "-c", READ, tmp_path]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    finally:
        (tmp_path / "b").chmod(0o700)
    first, second = told
    assert "Permission denied" in first
    assert "cannot list the folder b, nothing in it is here" in second


def test_names_that_are_no_utf8_are_listed_and_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"coffee")
    (entry,) = open_source(tmp_path).entries()
    assert (entry.key, content(entry)) == (r"caf\xe9.jpg", b"coffee")


def test_whatever_a_file_is_called_it_has_a_key_of_its_own(tmp_path: Path) -> None:
    names = [
        b"caf\xe9",
        b"caf\\xe9",
        b"caf\\x5cxe9",
        b"\xe9\\",
        b"a\\b",
        b"new\nline",
        b" ",
        b"#1",
        b"a" * 255,
        "é😀".encode(),
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    entries = list(open_source(tmp_path).entries())
    assert len({entry.key for entry in entries}) == len(names)
    assert {content(entry) for entry in entries} == set(names)
    assert {r"caf\xe9", r"caf\x5cxe9", r"caf\x5cx5cxe9", r"\xe9\x5c", r"a\b", "new\nline"} < {
        one.key for one in entries
    }


# -- tables


def test_a_csv_of_texts_has_row_numbers_for_keys(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'text,label,group,key\nred cat,a,1,x\n"two\nlines",b,2,y\n,c,3,z\n', encoding="utf-8-sig"
    )
    source = open_source(tmp_path / "t.csv")
    entries = list(source.entries())
    assert listed(source) == [("0", "a"), ("1", "b"), ("2", "c")]
    assert source.numbered
    assert list(source.columns) == ["group", "source_key"]
    assert [one.columns for one in entries] == [("1", "x"), ("2", "y"), ("3", "z")]
    assert content(entries[1]) == b"two\nlines"
    with pytest.raises(ItemError, match="row 2 has nothing in its column 'text'"):
        content(entries[2])


def test_a_jsonl_of_paths_starts_at_its_folder_and_keys_are_told_apart(tmp_path: Path) -> None:
    written(tmp_path, "in/a.jpg", "in/b.jpg")
    rows = [{"path": "a.jpg", "label": ["x", "y"], "n": 3}, {"path": "b.jpg", "label": 7, "n": None}, {"path": "a.jpg"}]
    (tmp_path / "in/t.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    source = open_source(tmp_path / "in/t.jsonl")
    assert listed(source) == [("a.jpg", "x|y"), ("b.jpg", "7"), ("a.jpg#2", None)]
    assert not source.numbered
    assert [content(one) for one in source.entries()] == [b"in/a.jpg", b"in/b.jpg", b"in/a.jpg"]
    assert [one.columns for one in source.entries()] == [("3",), (None,), (None,)]


def test_other_columns_are_named_and_texts_may_be_carried_along(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sentence,intent\nhello,greet\n")
    options = Options(item="sentence", label="intent", carry_text=True)
    source = open_source(tmp_path / "t.csv", options=options)
    assert [(one.key, one.content, one.label, one.columns) for one in source.entries()] == [
        ("0", "hello", "greet", ("hello",))
    ]
    assert list(source.columns) == ["text"]
    with pytest.raises(SourceInvalid, match="neither a column 'text' nor 'path', only 'sentence', 'intent'"):
        open_source(tmp_path / "t.csv")
    with pytest.raises(SourceInvalid, match="no column 'class'"):
        open_source(tmp_path / "t.csv", options=Options(item="sentence", label="class"))


def test_columns_that_would_have_one_name_keep_their_own_values(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sentence,text,key,source_key\nhello,T,K,S\n")
    for options, expected in (
        (Options(), {"sentence": "hello", "source_source_key": "K", "source_key": "S"}),
        (
            Options(item="sentence", carry_text=True),
            {"text": "hello", "source_text": "T", "source_source_key": "K", "source_key": "S"},
        ),
    ):
        source = open_source(tmp_path / "t.csv", options=options)
        (entry,) = source.entries()
        assert dict(zip(source.columns, entry.columns, strict=True)) == expected


@pytest.mark.parametrize(
    ("name", "start", "half"),
    [("t.csv", "text\nred\nblue\n", "gre"), ("t.jsonl", '{"text": "red"}\n{"text": "blue"}\n', '{"text": "gre')],
)
def test_a_table_that_is_written_while_it_is_read_gives_no_half_row(
    tmp_path: Path, name: str, start: str, half: str
) -> None:
    (tmp_path / name).write_text(start)
    entries = open_source(tmp_path / name).entries()
    assert next(entries).content == "red"
    with (tmp_path / name).open("a") as file:
        file.write(half)
    with pytest.raises(SourceInvalid, match="was changed while it was read; run it again"):
        assert "gre" not in [entry.content for entry in entries]
    with (tmp_path / name).open("a") as file:
        file.write({"t.csv": "en\n", "t.jsonl": 'en"}\n'}[name])
    assert [entry.content for entry in open_source(tmp_path / name).entries()] == ["red", "blue", "green"]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("t.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("t.jsonl", b'{"text": "a"}\n[1]\n', "line 2 is no object"),
        ("t.csv", b"text\na\nb\xff\n", "is not UTF-8"),
        ("t.csv", b'text,label\na,b\n"c,d\ne,f\n', "line 3: nothing closes a quote"),
        ("t.csv", b"x" * ((16 << 20) + 1), "line [01]: field larger than field limit"),
    ],
)
def test_a_table_that_breaks_tells_where_after_what_came_before(
    tmp_path: Path, name: str, data: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceInvalid, match=told):
        list(open_source(tmp_path / name).entries())


def test_paths_stand_in_another_column(tmp_path: Path) -> None:
    written(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text("file,text\na.jpg,words\n")
    source = open_source(tmp_path / "t.csv", options=Options(path="file"))
    assert listed(source) == [("a.jpg", None)]
    assert [(content(one), one.columns) for one in source.entries()] == [(b"a.jpg", ("words",))]
    with pytest.raises(SourceInvalid, match="has no column 'files'"):
        open_source(tmp_path / "t.csv", options=Options(path="files"))


def test_urls_in_a_table_are_read_only_where_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path\nmemory://one/a.jpg\n")
    fsspec.filesystem("memory").pipe("/one/a.jpg", b"far")
    (entry,) = open_source(tmp_path / "t.csv").entries()
    with pytest.raises(UnreadableItem, match="read them with --urls"):
        content(entry)
    (entry,) = open_source(tmp_path / "t.csv", options=Options(urls=True)).entries()
    assert content(entry) == b"far"


# -- Parquet and Arrow


def test_parquet_of_images_as_datasets_keeps_them(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("width", pa.int32()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    for i in range(2):
        rows = [
            {"image": {"bytes": b"%d-%d" % (i, j), "path": "x"}, "label": j % 2, "width": 10 * i + j} for j in range(3)
        ]
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / f"data/train-{i:05}-of-00002.parquet")
    (tmp_path / "README.md").write_text("a data set")
    source = open_source(tmp_path)
    assert listed(source) == [("0", "cat"), ("1", "dog"), ("2", "cat"), ("3", "cat"), ("4", "dog"), ("5", "cat")]
    assert [content(one) for one in source.entries()] == [b"0-0", b"0-1", b"0-2", b"1-0", b"1-1", b"1-2"]
    assert source.columns == {"width": pa.int32()}
    assert [one.columns for one in source.entries()][-1] == (12,)
    assert (source.numbered, source.count()) == (True, 6)


def test_arrow_files_that_datasets_saved(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": ["x", None, "y"], "tags": [[1], [], None]})
    for i in range(2):
        with pa.ipc.new_stream(tmp_path / f"data-{i:05}-of-00002.arrow", table.schema) as file:
            file.write_table(table)
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    source = open_source(tmp_path)
    assert listed(source)[1:4] == [("1", None), ("2", "y"), ("3", "x")]
    assert [one.columns for one in source.entries()][:3] == [([1],), ([],), (None,)]


def test_a_dict_of_data_sets_asks_for_a_split(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]})
    for split in ("test", "train"):
        (tmp_path / split).mkdir()
        with pa.ipc.new_stream(tmp_path / split / "data-00000-of-00001.arrow", table.schema) as file:
            file.write_table(table)
    with pytest.raises(SourceInvalid, match=r"holds the splits test, train; name one: .*/test"):
        open_source(tmp_path)


def test_every_type_of_a_parquet_file_is_carried_along(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["red", None, "cat"],
            "time": pa.array([1, 2, None], pa.timestamp("ns", "Europe/Berlin")),
            "price": pa.array([decimal.Decimal("1.20"), None, None]),
            "kind": pa.array(["a", "b", None]).dictionary_encode(),
            "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
            "nested": [{"a": [1]}, None, {"a": None}],
            "half": pa.array(np.array([1, 2, 3], np.float16)),
            "bytes": pa.array([b"a", b"\xff", None]),
            "large": pa.array(["a", "b", "c"], pa.large_string()),
            "unsigned": pa.array([2**63 + 1, 2, 3], pa.uint64()),
            "nothing": pa.nulls(3),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", options=Options(item="text"))
    columns = zip(*(entry.columns for entry in source.entries()), strict=True)
    for (name, kind), values in zip(source.columns.items(), columns, strict=True):
        assert pa.chunked_array([pa.array(values, kind)]).equals(table[name]), name
    (entry, _, empty) = open_source(tmp_path / "t.parquet", options=Options(item="time")).entries()
    assert entry.content == '"1970-01-01 01:00:00.000000001+01:00"'
    assert isinstance(empty.content, ItemError)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([["red"], ["x"], ["y"]], names=["text", "n", "n"]), tmp_path / "t.parquet")
    with pytest.raises(SourceInvalid, match="has several columns 'n'; rename them"):
        open_source(tmp_path / "t.parquet")


def test_a_parquet_manifest_of_paths(tmp_path: Path) -> None:
    written(tmp_path, "a.jpg")
    pq.write_table(pa.table({"path": ["a.jpg"], "label": ["x"], "n": [1]}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert (listed(source), source.numbered, source.columns) == ([("a.jpg", "x")], False, {"n": pa.int64()})
    assert [content(one) for one in source.entries()] == [b"a.jpg"]


# -- archives


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


SAMPLES = {
    "a/001.jpg": b"one",
    "a/001.cls": b"cat\n",
    "a/001.json": b'{"n": 1}',
    "a/002.seg.png": b"two",
    "a/002.txt": b"a caption",
    "a/003.json": b"{}",
}


@pytest.mark.parametrize(("name", "mode"), [("s.tar", "w"), ("s.tar.gz", "w:gz")])
def test_the_samples_of_an_archive(tmp_path: Path, name: str, mode: str) -> None:
    source = open_source(archive(tmp_path / name, SAMPLES, mode))
    assert listed(source) == [("a/001.jpg", "cat"), ("a/002.seg.png", None), ("a/003.json", None)]
    first, second, third = source.entries()
    assert (content(first), content(second)) == (b"one", b"two")
    assert [one.columns for one in (first, second)] == [('{"n": 1}', None), (None, "a caption")]
    with pytest.raises(UnreadableItem, match="no picture or text among its members"):
        content(third)


def test_texts_of_an_archive_and_keys_of_several(tmp_path: Path) -> None:
    for i in range(2):
        archive(tmp_path / f"{i}.tar", {"1.txt": b"text %d" % i, "1.cls": b"x"})
    source = open_source(tmp_path, modality="text")
    assert listed(source) == [("0.tar/1.txt", "x"), ("1.tar/1.txt", "x")]
    assert [content(one) for one in source.entries()] == [b"text 0", b"text 1"]


def test_an_archive_that_is_cut_short_is_one_more_error(tmp_path: Path) -> None:
    whole = archive(tmp_path / "0.tar", {f"{i}.jpg": bytes(600) for i in range(4)})
    whole.write_bytes(whole.read_bytes()[: 2 * 1536 + 700])
    archive(tmp_path / "1.tar", {"9.jpg": b"nine"})
    entries = list(open_source(tmp_path).entries())
    failed = []
    for entry in entries:
        try:
            content(entry)
        except ItemError as error:
            failed.append(f"{entry.key}: {error}")
    assert entries[-1].key == "1.tar/9.jpg"
    assert failed and all("0.tar" in one for one in failed)


def test_an_archive_that_is_replaced_while_it_is_read_gives_nothing_of_the_other(tmp_path: Path) -> None:
    path = archive(tmp_path / "s.tar", {"1.jpg": b"one", "2.jpg": b"two"})
    first, second = open_source(path).entries()
    assert content(first) == b"one"
    archive(tmp_path / "new.tar", {"1.jpg": b"ONE", "2.jpg": b"TWO"}).replace(path)
    with pytest.raises(UnreadableItem, match=r"s\.tar was changed while it was read; try it again"):
        content(second)


def test_one_picture_among_archives_makes_all_of_them_files(tmp_path: Path) -> None:
    for i in range(260):
        (tmp_path / f"{i:03}.tar").touch()
    assert open_source(tmp_path).describe()["kind"] == "tar"
    written(tmp_path, "last.jpg")
    assert open_source(tmp_path).describe()["kind"] == "folder"


# -- lists, places, and what is none


def test_a_list_names_a_file_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    source = open_source("-", stdin=iter(["a.jpg\n", "\n", f"{tmp_path}/b.jpg\n", "a.jpg"]))
    entries = list(source.entries())
    assert [one.key for one in entries] == ["a.jpg", f"{tmp_path}/b.jpg", "a.jpg#2"]
    assert [content(one) for one in entries] == [b"a.jpg", b"b.jpg", b"a.jpg"]
    keys = [one.key for one in open_source("-", stdin=["a", "a#2", "a", "a"]).entries()]
    assert keys == ["a", "a#2", "a#3", "a#4"]
    keys = [one.key for one in open_source("-", stdin=["a", "c", "a", "b", "a", "b"]).entries()]
    assert keys == ["a", "c", "a#2", "b", "a#3", "b#2"]


def test_a_line_in_front_of_a_list_makes_one_key_and_leaves_the_others(tmp_path: Path, tiny_image: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(png(flat(1)))
    paths = {name: f"{tmp_path / name}\n" for name in "abc"}
    with Extractor.load(tiny_image, cache="off") as images:
        dump(open_source("-", stdin=[paths[name] for name in "abba"]), tmp_path / "out", images)
        counts = dump(open_source("-", stdin=[paths[name] for name in "cabba"]), tmp_path / "out", images)
    assert (counts.skipped, counts.done, counts.vanished) == (4, 1, 0)


def test_remote_folders_tables_and_archives() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/far/in/x/a.jpg", b"A")
    memory.pipe("/far/in/b.jpg", bytes(MAX_BYTES + 1))
    memory.pipe("/far/t.csv", b"path,label\nin/x/a.jpg,q\nin/no.jpg,q\n")
    memory.pipe("/far/s.tar", archive_bytes({"1.jpg": b"one"}))
    first, second = open_source("memory://far/in").entries()
    assert (second.key, second.label, content(second)) == ("x/a.jpg", "x", b"A")
    with pytest.raises(ItemTooLarge):
        content(first)
    first, second = open_source("memory://far/t.csv").entries()
    assert (first.key, content(first)) == ("in/x/a.jpg", b"A")
    with pytest.raises(UnreadableItem, match="it is not there"):
        content(second)
    (only,) = open_source("memory://far/s.tar").entries()
    assert (only.key, content(only)) == ("1.jpg", b"one")


def test_no_listing_of_a_remote_folder_is_kept() -> None:
    asked: list[str] = []

    class Kept(MemoryFileSystem):
        """Keeps what it has listed, as S3's does."""

        protocol = ("kept",)

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return super()._strip_protocol(path.replace("kept://", "memory://"))

        def ls(self, path: str, detail: bool = True, **_: object) -> list[dict[str, object]]:
            path = self._strip_protocol(path)
            asked.append(path)
            if path not in self.dircache:
                self.dircache[path] = super().ls(path)
            return self.dircache[path]

        def invalidate_cache(self, path: str | None = None) -> None:
            self.dircache.pop(self._strip_protocol(path), None)

    fsspec.register_implementation("kept", Kept, clobber=True)
    system = fsspec.filesystem("kept")
    system.pipe("/bucket/in/a.jpg", b"A")
    source = open_source("kept://bucket")
    assert [one.key for one in source.entries()] == ["in/a.jpg"]
    assert asked == 2 * ["/bucket", "/bucket/in"]  # to tell what it is, and to list it
    assert not system.dircache
    system.ls("/bucket/in")
    system.pipe("/bucket/in/b.jpg", b"B")
    assert [one.key for one in source.entries()] == ["in/a.jpg", "in/b.jpg"]


def archive_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_password_in_a_url_is_not_told() -> None:
    with pytest.raises((SourceInvalid, RuntimeMissing)) as caught:
        open_source("nosuch://me:secret@host/folder")
    assert "secret" not in str(caught.value)


def test_what_is_no_source_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.xls").write_bytes(b"")
    with pytest.raises(SourceInvalid, match=r"there is no .*nothing; name a folder"):
        open_source(tmp_path / "nothing")
    with pytest.raises(SourceInvalid, match=r"t\.xls is none of \.csv, "):
        open_source(tmp_path / "t.xls")
    with pytest.raises(SourceInvalid, match="cannot be read"):
        (tmp_path / "t.parquet").write_bytes(b"no")
        open_source(tmp_path / "t.parquet")


def test_without_fsspec_the_error_prints_the_pip_line() -> None:
    code = (
        "import sys; sys.modules['fsspec'] = sys.modules['fsspec.core'] = None\n"
        "from extractor.sources import open_source; open_source('s3://bucket/folder')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'headwater[dump]'" in done.stderr


def test_a_large_folder_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text\n" + "a b c\n" * 5000)
    source = open_source(tmp_path / "t.csv")
    assert isinstance(source, TableSource)
    entries = source.entries()
    assert next(entries).key == "0"
    assert source.count() == 5000


# -- options that are for other kinds


def of_each_kind(folder: Path) -> dict[str, Path]:
    """Write a source of each kind."""
    written(folder, "files/a.jpg")
    (folder / "texts.csv").write_text("text\nred\n")
    (folder / "paths.jsonl").write_text('{"path": "files/a.jpg"}')
    pq.write_table(pa.table({"image": [b"one"]}), folder / "bytes.parquet")
    (folder / "set").mkdir()
    pq.write_table(pa.table({"text": ["red"]}), folder / "set/train-0.parquet")
    for name in ("one.tar", "tars/one.tar"):
        (folder / name).parent.mkdir(exist_ok=True)
        tarfile.open(folder / name, "w").close()
    return {
        one: folder / one for one in ("files", "texts.csv", "paths.jsonl", "bytes.parquet", "set", "one.tar", "tars")
    }


ITEM, PATH, LABEL = Options(item="x"), Options(path="x"), Options(label="x")
CARRY, URLS = Options(carry_text=True), Options(urls=True)


@pytest.mark.parametrize(
    ("name", "options", "pattern", "option"),
    [
        *(
            (name, options, "*", option)
            for name in ("files", "one.tar", "tars")
            for options, option in (
                (ITEM, "--item-column 'x'"),
                (PATH, "--path-column 'x'"),
                (LABEL, "--label-column 'x'"),
                (CARRY, "--carry-text"),
                (URLS, "--urls"),
            )
        ),
        *((name, Options(), "*.jpg", "--pattern") for name in ("texts.csv", "paths.jsonl", "bytes.parquet", "one.tar")),
        ("set", Options(), "train-*", "--pattern 'train-*'"),
        ("tars", Options(), "*.tar", "--pattern '*.tar'"),
        ("texts.csv", URLS, "*", "--urls"),
        ("set", URLS, "*", "--urls"),
        ("paths.jsonl", CARRY, "*", "--carry-text"),
        ("bytes.parquet", CARRY, "*", "--carry-text"),
        ("bytes.parquet", URLS, "*", "--urls"),
        ("texts.csv", Options(item="text", path="text"), "*", "--item-column 'text'"),
    ],
)
def test_an_option_for_another_kind_of_source_is_refused(
    tmp_path: Path, name: str, options: Options, pattern: str, option: str
) -> None:
    source = of_each_kind(tmp_path)[name]
    told = f"^{re.escape(option)}.* is for .*{name} is .*; leave --[a-z-]+ away"
    with pytest.raises(SourceInvalid, match=told):
        open_source(source, options=options, pattern=pattern)


def test_an_option_that_a_source_has_a_use_for_is_taken(tmp_path: Path) -> None:
    sources = of_each_kind(tmp_path)
    assert listed(open_source(sources["files"], pattern="*.png")) == []
    for name in ("texts.csv", "set"):
        open_source(sources[name], options=Options(item="text", carry_text=True))
    open_source(sources["paths.jsonl"], options=Options(path="path", urls=True))
    open_source(sources["bytes.parquet"], options=Options(item="image"))


@pytest.mark.parametrize("name", ["0-backup.tar", "0.parquet"])
def test_texts_beside_a_data_set_are_not_left_out_in_silence(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "notes", "LICENSE.txt", "README.md")
    with tarfile.open(folder / name, "w") if name.endswith(".tar") else open(folder / name, "wb") as file:
        if isinstance(file, tarfile.TarFile):
            file.add(folder / "README.md", "a.txt")
        else:
            pq.write_table(pa.table({"text": ["red"]}), file)
    assert len(listed(open_source(folder, modality="text"))) == 1
    written(folder, *(f"{i}.txt" for i in range(600)))
    for modality in ("text", ""):
        with pytest.raises(SourceInvalid, match=rf"602 texts beside {name}; take them with a --pattern, as '\*\.txt'"):
            open_source(folder, modality=modality)
    assert len(listed(open_source(folder, modality="text", pattern="*.txt"))) == 601
    if name.endswith(".tar"):
        assert len(listed(open_source(folder, modality="image"))) == 1, "texts are no items"


def test_a_list_takes_urls_alone_and_a_pattern_may_mean_what_stands_beside_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match=r"--pattern 'a' is for .*what stdin lists is a list of files"):
        open_source("-", stdin=[], pattern="a")
    open_source("-", stdin=[], options=Options(urls=True))
    sources = of_each_kind(tmp_path)
    (sources["tars"] / "notes.txt").write_text("beside it")
    assert listed(open_source(sources["tars"], pattern="*.txt")) == [("notes.txt", None)]


def test_texts_are_refused_for_a_backbone_that_reads_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,path\na caption,a.jpg\n")
    with pytest.raises(SourceInvalid, match=r"reads items of modality image; name the column .* --path-column"):
        open_source(tmp_path / "t.csv", modality="image")
    captioned = open_source(tmp_path / "t.csv", modality="image", options=Options(path="path"))
    assert [one.columns for one in captioned.entries()] == [("a caption",)]
    assert open_source(tmp_path / "t.csv", modality="text").numbered
    with pytest.raises(SourceInvalid, match="the source's name is empty"):
        open_source("")


def test_what_a_table_has_too_much_or_not_at_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nred, or blue,a\ngreen,b,,\ncat\n")
    first, *others = open_source(tmp_path / "t.csv").entries()
    with pytest.raises(UnreadableItem, match="row 0 has 1 cells more than there are columns; put quotes"):
        content(first)
    assert [(one.content, one.label) for one in others] == [("green", "b"), ("cat", None)]
    for name, data, told in (
        ("e.csv", "", "is empty; a table has a column 'text'"),
        ("e.jsonl", "", "is empty; a table has a column 'text'"),
        ("twice.csv", "text,text,,\na,b\n", "has several columns 'text'; rename them"),
    ):
        (tmp_path / name).write_text(data)
        with pytest.raises(SourceInvalid, match=told):
            open_source(tmp_path / name)


def test_what_is_no_text_is_carried_along_as_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": 5}\n{"text": ["a"]}\n{"text": null}\n{"text": "\\ud800"}')
    carried = [one.columns[0] for one in open_source(tmp_path / "t.jsonl", options=Options(carry_text=True)).entries()]
    assert carried == ["5", '["a"]', None, "?"]
