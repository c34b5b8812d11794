import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from classifiers import EmbeddingSet, shards
from classifiers.embedding_set import few
from classifiers.errors import DumpUnreadable, EmbeddingMismatch, InvalidLabels, InvalidOption, TooFewExamples
from tests.classifiers.conftest import Digits
from tests.dumps import write_dump, write_shard

X5 = np.arange(15, dtype=np.float32).reshape(5, 3)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return write_dump(
        tmp_path / "dump",
        X5,
        labels=["a", None, "b", "a", "b"],
        keys=["0", "1", "2", "3", "4"],
        errors={2: "no image"},
        shard_rows=2,
        camera=[1, 1, 2, 2, 3],
    )


def test_rows_come_as_they_were_written_and_errors_apart(dump: Path) -> None:
    found = EmbeddingSet.open(dump)
    np.testing.assert_array_equal(found.X, X5[[0, 1, 3, 4]])
    assert found.X.dtype == np.float32
    assert not found.X.flags.writeable
    assert found.y.tolist() == ["a", None, "a", "b"]
    assert found.keys.tolist() == ["0", "1", "3", "4"]
    assert found.numbers.tolist() == [0, 1, 3, 4]
    assert found.errors == {"2": "no image"}
    assert (found.columns, found.column("camera").tolist()) == (("camera",), [1, 1, 2, 3])
    assert (found.fingerprint, found.backbone, found.dim, len(found)) == ("ab" * 16, "pixels", 3, 4)


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    found = EmbeddingSet.open(write_dump(tmp_path / "half", X5 / 8, dtype=np.float16))
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(found.X, X5 / 8)


def test_of_a_shard_and_its_retries_the_last_counts(dump: Path) -> None:
    for retry, value in ((1, 7.0), (10, 9.0), (2, 8.0)):
        rows = {"key": ["2", "3"], "embedding": np.full((2, 3), value, np.float32), "label": ["b", "a"]}
        write_shard(dump / f"part-00001-r{retry}.parquet", rows | {"error": [None, None], "camera": [2, 2]})
    (dump / ".superseded").mkdir()
    (dump / "part-00001.parquet").rename(dump / ".superseded" / "part-00001.parquet")
    found = EmbeddingSet.open(dump)
    assert found.X[:, 0].tolist() == [0, 3, 9, 9, 12]
    assert (found.keys.tolist(), found.errors) == (["0", "1", "2", "3", "4"], {})


def test_a_dump_that_is_at_work_is_read_as_it_was_at_one_moment(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, rows = shards.files_of, {"embedding": X5[:1], "label": ["a"], "error": [None], "camera": [4]}

    def and_one_more(path: Path) -> list[Path]:
        found = listed(path)
        write_shard(dump / f"part-{len(found):05d}.parquet", rows | {"key": [str(len(found))]})
        return found

    monkeypatch.setattr(shards, "files_of", and_one_more)
    for mapped_bytes in (shards.MAPPED_BYTES, 1):
        n_rows = sum(len(pq.read_table(file)) for file in listed(dump))
        monkeypatch.setattr(shards, "MAPPED_BYTES", mapped_bytes)
        found = EmbeddingSet.open(dump)
        assert (len(found), len(found.errors)) == (n_rows - 1, 1)
        np.testing.assert_array_equal(found.X[:4], X5[[0, 1, 3, 4]])
    monkeypatch.setattr(shards, "files_of", lambda path: [*listed(path), path / "part-00099.parquet"])
    with pytest.raises(DumpUnreadable, match="'dump' was changed while it was read; read it again"):
        EmbeddingSet.open(dump)


def test_a_dump_has_more_files_than_may_be_open(tmp_path: Path) -> None:
    path = write_dump(tmp_path / "dump", np.tile(X5, (40, 1)), shard_rows=1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as file:
        free = file.fileno()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 50, limits[1]))
        found = EmbeddingSet.open(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    np.testing.assert_array_equal(found.X, np.tile(X5, (40, 1)))


def test_many_embeddings_are_mapped_and_the_map_is_made_anew_when_the_dump_grows(
    dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAPPED_BYTES", 1)
    (dump / ".new-0").write_text("what a killed process left")
    os.utime(dump / ".new-0", (0, 0))
    first = EmbeddingSet.open(dump)
    (copy,) = dump.glob(".embeddings-*.npy")
    modified = copy.stat().st_mtime_ns
    again = EmbeddingSet.open(dump)
    assert copy.stat().st_mtime_ns == modified
    rows = {"key": ["5"], "embedding": np.ones((1, 3), np.float32), "label": ["a"], "error": [None], "camera": [4]}
    write_shard(dump / "part-00003.parquet", rows)
    grown = EmbeddingSet.open(dump)
    for one in (first, again, grown):
        assert isinstance(one.matrix, np.memmap)
        np.testing.assert_array_equal(one.X[:4], X5[[0, 1, 3, 4]])
    assert len(grown) == 5
    assert len(list(dump.glob(".*"))) == 1


def test_an_array_that_the_dump_has_is_mapped_as_long_as_it_is_of_it(
    dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAPPED_BYTES", 1)
    np.save(dump / "embeddings.npy", X5[[0, 1, 3, 4]])
    found = EmbeddingSet.open(dump)
    assert isinstance(found.matrix, np.memmap)
    assert Path(str(found.matrix.filename)).name == "embeddings.npy"
    assert not list(dump.glob(".embeddings-*"))
    os.utime(dump / "part-00000.parquet")
    later = EmbeddingSet.open(dump)
    assert Path(str(later.matrix.filename)).name != "embeddings.npy"  # type: ignore[attr-defined]
    np.testing.assert_array_equal(later.X, found.X)


def test_a_full_disk_is_no_matter(dump: Path) -> None:
    code = (
        "import resource, signal, sys, pathlib; from classifiers import shards; shards.MAPPED_BYTES = 1\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "print(len(shards.read_shards(pathlib.Path(sys.argv[1])).matrix))"
    )
    done = subprocess.run([sys.executable, "-c", code, dump], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["4"]
    assert not list(dump.glob(".*"))


def test_an_array_with_its_keys_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X5)
    assert len(EmbeddingSet.open(tmp_path / "X.npy").keys) == 5
    (tmp_path / "X.npy.txt").write_text("a\nb\nc\nd\ne\n")
    found = EmbeddingSet.open(tmp_path / "X.npy")
    assert found.keys.tolist() == list("abcde")
    np.testing.assert_array_equal(found.X, X5)
    (tmp_path / "X.npy.txt").rename(tmp_path / "none")
    lines = [json.dumps({"key": key, "label": label}) for key, label in zip("abcde", "xxxyy", strict=True)]
    (tmp_path / "X.jsonl").write_text("\n".join(lines))
    assert EmbeddingSet.open(tmp_path / "X.npy").y.tolist() == list("xxxyy")
    (tmp_path / "X.jsonl").write_text(lines[0])
    with pytest.raises(DumpUnreadable, match=r"'X.npy' has 5 rows, and 'X.jsonl' 1 lines"):
        EmbeddingSet.open(tmp_path / "X.npy")


def test_an_array_that_a_dump_wrote_is_of_what_its_manifest_says(tmp_path: Path) -> None:
    np.save(tmp_path / "embeddings.npy", X5.astype(np.float16))
    assert EmbeddingSet.open(tmp_path / "embeddings.npy").fingerprint == ""
    for manifest, fingerprint in ('{"fingerprint": "ab", "backbone": "p"}', "ab"), ("[]", ""), ("{", ""):
        (tmp_path / "manifest.json").write_text(manifest)
        assert EmbeddingSet.open(tmp_path / "embeddings.npy").fingerprint == fingerprint


def test_rows_are_filtered_by_label_by_column_and_by_predicate(dump: Path) -> None:
    found = EmbeddingSet.open(dump)
    assert found.where(label="a").keys.tolist() == ["0", "3"]
    assert found.where(camera=[1, 3], label=["a", "b"]).keys.tolist() == ["0", "4"]
    assert found.filter(lambda row: row["camera"] > 1).X[:, 0].tolist() == [9, 12]
    assert found.labelled().keys.tolist() == ["0", "3", "4"]
    assert found.labelled().at([2, 0]).X[:, 0].tolist() == [12, 0]
    assert found.at([3, 2]).numbers.tolist() == [4, 3]
    assert found.at([3, 2, 1, 0]).X[:, 0].tolist() == [12, 9, 3, 0]
    with pytest.raises(InvalidOption, match="there is no column 'colour', only key, label, camera"):
        found.where(colour="red")


def test_rows_that_are_not_there_are_no_rows(dump: Path) -> None:
    found = EmbeddingSet.open(dump)
    assert found.at([-1]).keys.tolist() == ["4"]
    none = found.at([])
    assert (len(none), none.X.shape, none.y.tolist(), none.keys.tolist()) == (0, (0, 3), [], [])
    with pytest.raises(TooFewExamples):
        none.split()
    for wrong in ([True, False], [9]):
        with pytest.raises(IndexError):
            found.at(wrong)


def test_a_dump_of_errors_alone_is_an_empty_set(tmp_path: Path) -> None:
    found = EmbeddingSet.open(write_dump(tmp_path / "d", X5, errors=dict.fromkeys(range(5), "bad")))
    assert (len(found), found.X.shape, len(found.errors)) == (0, (0, 3), 5)
    assert len(found.where(label="a").labelled()) == 0


def test_very_many_keys_are_looked_up_and_lists_are_compared(tmp_path: Path) -> None:
    n = 40_000  # each against each took minutes
    found = EmbeddingSet.open(write_dump(tmp_path / "d", np.ones((n, 1)), shard_rows=n, tags=[["a"], ["b"]] * (n // 2)))
    assert len(found.where(key=found.keys)) == n
    assert len(found.where(tags=[["a"]])) == n // 2


def test_labels_that_come_later_are_joined_by_key(dump: Path, tmp_path: Path) -> None:
    found = EmbeddingSet.open(dump)
    rows = [("3", "new", 0.5), ("4", "NA", 1.5), ("9", "x", 2.5)]
    (tmp_path / "t.csv").write_text("id,label,score\n" + "".join(f'"{k}",{v},{s}\n' for k, v, s in rows))
    lines = [{"id": k, "label": v, "score": s} for k, v, s in rows]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "t.parquet")
    for file in ("t.csv", "t.jsonl", "t.parquet"):
        joined = found.join(tmp_path / file, key="id")
        assert joined.embeddings.y.tolist() == ["a", None, "new", "NA"]
        assert joined.embeddings.column("score").tolist() == [None, None, 0.5, 1.5]
        assert (joined.without, joined.unknown) == (("0", "1"), ("9",))
    assert found.y.tolist() == ["a", None, "a", "b"]
    (tmp_path / "t.csv").write_text("key,camera\n3,front\n")
    assert found.join(tmp_path / "t.csv").embeddings.column("camera").tolist() == ["1", "1", "front", "3"]
    (tmp_path / "t.csv").write_text("key,camera\n3,9\n")
    assert found.join(tmp_path / "t.csv").embeddings.column("camera").tolist() == [1, 1, 9, 3]


def test_keys_and_labels_are_strings_whatever_they_look_like(tmp_path: Path) -> None:
    keys = ["2024-01-01", "a\u2028b", "007", "7"]
    found = EmbeddingSet.open(write_dump(tmp_path / "d", np.eye(4), keys=keys))
    rows = [
        {"key": "2024-01-01", "label": "2025-05-05"},
        {"key": "a\u2028b", "label": ""},
        {"key": "007", "label": "null"},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    joined = found.join(tmp_path / "t.jsonl")
    assert joined.embeddings.y.tolist() == ["2025-05-05", None, "null", None]
    assert (joined.without, joined.unknown) == (("7",), ())
    (tmp_path / "T.CSV").write_text("key,label\n007,x\n")
    assert found.join(tmp_path / "T.CSV").embeddings.y.tolist() == [None, None, "x", None]
    lines = [json.dumps({"key": key, "label": None}, ensure_ascii=False) for key in keys]
    np.save(tmp_path / "X.npy", np.eye(4))
    (tmp_path / "X.jsonl").write_text("\n".join(lines))
    assert EmbeddingSet.open(tmp_path / "X.npy").keys.tolist() == keys


def test_several_labels_of_an_item_are_one_string(dump: Path, tmp_path: Path) -> None:
    rows = [{"key": "0", "label": ["x", "y"]}, {"key": "3", "label": []}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for file in ("t.jsonl", "t.parquet"):
        assert EmbeddingSet.open(dump).join(tmp_path / file).embeddings.y.tolist() == ["x|y", None, "", "b"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1.0, 2.5, math.nan, None], ["1.0", "2.5", None, None]),
        ([True, False, None, True], ["True", "False", None, "True"]),
        ([3, 4, None, 5], ["3", "4", None, "5"]),
        ([["x", "y"], "x", 7, None], ["x|y", "x", "7", None]),
        ([[1, 2], [1.0], [], None], ["1|2", "1.0", "", None]),
    ],
)
def test_labels_that_come_later_read_as_a_dump_has_them(tmp_path: Path, labels: list[Any], expected: list[Any]) -> None:
    found = EmbeddingSet.open(write_dump(tmp_path / "d", np.eye(4), keys=list("abcd"), labels=list("wxyz")))
    rows = [{"key": key, "label": label} for key, label in zip("abcd", labels, strict=True)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert found.join(tmp_path / "t.jsonl").embeddings.y.tolist() == expected
    if not {list, str} <= set(map(type, labels)) and labels[0] != [1, 2]:  # of one type, as a column has
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
        assert found.join(tmp_path / "t.parquet").embeddings.y.tolist() == expected


def test_what_strangers_named_is_told_without_what_a_terminal_obeys() -> None:
    assert few(["a\x1b[31m", *"bcdef"]) == "a?[31m, b, c, d, e and 1 more"


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("t.csv", "key,label,label\n1,a,b\n", DumpUnreadable, "several columns label; rename all but one"),
        ("t.csv", "", DumpUnreadable, "cannot be read: .*mend it"),
        ("t.jsonl", "", DumpUnreadable, "no column 'key', only nothing"),
        ("t.jsonl", "[1]", DumpUnreadable, "a line that is no object"),
        ("t.csv", "key,label\n1,a\n1,b\n", InvalidLabels, "1 keys stand in .* more than once: 1; keep one"),
        ("t.csv", "item,label\n1,a\n", DumpUnreadable, "no column 'key', only item, label; name the one"),
        ("t.csv", "key,label\n1,a,b\n", DumpUnreadable, "cannot be read: .*mend it"),
        ("t.jsonl", "[", DumpUnreadable, "cannot be read: .*mend it"),
        ("t.txt", "x", DumpUnreadable, "is none of .csv, .jsonl, .parquet"),
        ("t.parquet", "x", DumpUnreadable, "cannot be read: .*mend it"),
    ],
)
def test_labels_that_cannot_be_joined_are_told(
    dump: Path, tmp_path: Path, name: str, content: str, error: type[Exception], words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=words):
        EmbeddingSet.open(dump).join(tmp_path / name)


def test_a_split_keeps_shares_groups_and_copies_together(tmp_path: Path, digits: Digits) -> None:
    X = np.concatenate([digits.X[:500], digits.X[:100]])
    y = [str(one) for one in np.concatenate([digits.y[:500], digits.y[:100]])]
    found = EmbeddingSet.open(write_dump(tmp_path / "d", X, labels=y, camera=[str(i % 7) for i in range(600)]))
    train, test = found.split(0.25)
    assert len(train) + len(test) == 600
    assert abs(len(test) - 150) < 15
    assert not {row.tobytes() for row in train.X} & {row.tobytes() for row in test.X}
    assert set(test.y) == set(y)
    score = LogisticRegression(max_iter=500).fit(train.X / 16, train.y).score(test.X / 16, test.y)
    assert score > 0.85
    train, test = found.split(0.3, groups="camera")
    assert not set(train.column("camera")) & set(test.column("camera"))
    assert len(found.folds(5)) == 5
    with pytest.raises(InvalidOption, match=r"test_size is 0.9"):
        found.split(0.9)


def test_what_cannot_be_split_is_told(dump: Path) -> None:
    found = EmbeddingSet.open(dump)
    with pytest.raises(InvalidLabels, match="1 of 4 rows have no label, the first is '1'"):
        found.split()
    with pytest.raises(TooFewExamples):
        found.at([0, 3]).split()
    holes = EmbeddingSet.open(write_dump(dump.parent / "holes", X5, labels=list("aabba"), camera=[1, None, 2, None, 3]))
    with pytest.raises(InvalidLabels, match=r"2 of 5 rows have no 'camera', the first is 'items/1.jpg'"):
        holes.split(groups="camera")


def test_sets_of_one_backbone_are_put_together_and_others_refused(dump: Path, tmp_path: Path) -> None:
    one = EmbeddingSet.open(dump)
    other = EmbeddingSet.open(write_dump(tmp_path / "other", X5 + 100, labels=list("ccccc")))
    both = EmbeddingSet.concatenate([one, other.at([1, 0])])
    assert both.X[:, 0].tolist() == [0, 3, 9, 12, 103, 100]
    assert both.y.tolist() == ["a", None, "a", "b", "c", "c"]
    assert both.column("camera").tolist() == [1, 1, 2, 3, None, None]
    foreign = EmbeddingSet.open(write_dump(tmp_path / "foreign", X5, fingerprint="cd" * 16))
    with pytest.raises(EmbeddingMismatch, match=r"abab.* and of .*cdcd.*dump both by one backbone"):
        EmbeddingSet.concatenate([one, foreign])
    with pytest.raises(TooFewExamples):
        EmbeddingSet.concatenate([])


def edited(path: Path, edit: Any) -> None:
    table = pq.read_table(path)
    pq.write_table(edit(table), path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.replace_schema_metadata({}), "no one fingerprint"),
        (lambda t: t.replace_schema_metadata(t.schema.metadata | {b"headwater.fingerprint": b"x"}), "no one finger"),
        (lambda t: t.replace_schema_metadata(t.schema.metadata | {b"headwater.format": b"2"}), "format '2'.*newer"),
        (lambda t: t.drop_columns("embedding"), "lacks a column 'embedding'"),
        (lambda t: t.set_column(3, "error", pa.array(["x", None])), "row 0 of .* both an embedding and an error"),
        (lambda t: t.set_column(3, "error", pa.array([None, None], pa.string())), "row 2 of .* neither an emb.* nor"),
        (lambda t: t.set_column(1, "embedding", pa.array([[1.0, 2.0], None])), "different lengths, .2, 3."),
        (lambda t: t.set_column(2, "label", pa.array([["a"], ["b"]])), "'label' .* is list.*must be strings"),
    ],
)
def test_a_dump_that_is_wrong_is_told(dump: Path, edit: Any, words: str) -> None:
    edited(dump / "part-00001.parquet", edit) if "row 0" not in words else edited(dump / "part-00000.parquet", edit)
    with pytest.raises(DumpUnreadable, match=words):
        EmbeddingSet.open(dump)


def test_a_dump_that_is_not_there_or_damaged_is_told(dump: Path, tmp_path: Path) -> None:
    with pytest.raises(DumpUnreadable, match=r"there is no .*nowhere; make it: headwater dump"):
        EmbeddingSet.open(tmp_path / "nowhere")
    (dump / "part-00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DumpUnreadable, match="cannot be read"):
        EmbeddingSet.open(dump)
    (tmp_path / "X.npy").write_bytes(b"no")
    with pytest.raises(DumpUnreadable, match="cannot be read"):
        EmbeddingSet.open(tmp_path / "X.npy")


def test_what_is_a_dump(dump: Path, tmp_path: Path) -> None:
    assert shards.is_dump(dump)
    assert shards.is_dump(dump / "part-00000.parquet")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "x.parquet").write_bytes((dump / "part-00000.parquet").read_bytes())
    assert not shards.is_dump(tmp_path / "photos")
    pq.write_table(pa.table({"text": ["x"], "label": ["a"]}), tmp_path / "t.parquet")
    assert not shards.is_dump(tmp_path / "t.parquet")
    assert not shards.is_dump(tmp_path / "gone")
