"""What reads dumps: the commands, run within this process."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from classifiers import EmbeddingSet
from classifiers.persist import load_head
from extractor import Extractor
from headwater.cli import app
from headwater.commands.embed import dumped
from headwater.labelled import Columns, read_labelled
from headwater.process import ServerProcess
from tests.dumps import write_dump
from tests.tiny import flat, png

X, Y = load_digits(return_X_y=True)
X, Y = (one[np.random.default_rng(0).permutation(len(X))] for one in (X, Y))  # as they come, their writers change
LABELS = [str(one) for one in Y]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        return done.output + str(done.exception or "")

    return call


@pytest.fixture
def rows(run: Callable[..., str]) -> Callable[..., list[dict[str, Any]]]:
    def call(*arguments: object) -> list[dict[str, Any]]:
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return write_dump(tmp_path / "digits", X[:300], labels=LABELS[:300], errors={2: "no image"}, shard_rows=70)


Run, Rows = Callable[..., str], Callable[..., list[dict[str, Any]]]


def test_near_says_the_same_with_an_index_and_without(digits: Path, run: Run, rows: Rows) -> None:
    without = rows("near", digits, "--item", "items/0.jpg", "-k", 5)
    assert "299 embeddings of 64 in " in run("index", digits)
    assert faiss.read_index(str(digits / "index.faiss")).ntotal == 299
    with_index = rows("near", digits, "--item", "items/0.jpg", "-k", 5)
    assert [one["key"] for one in with_index] == [one["key"] for one in without]
    assert [one["row"] for one in with_index] == [int(one["key"].split("/")[1].split(".")[0]) for one in with_index]
    assert len(with_index) == 5
    assert "items/0.jpg" not in {one["key"] for one in with_index}
    assert "cosine" in run("near", digits, "--item", "items/0.jpg")


def test_an_index_of_a_dump_that_has_grown_is_not_used(digits: Path, run: Run) -> None:
    assert "rows" in run("index", digits, "--json")
    write_dump(digits, X[:310], labels=LABELS[:310], errors={2: "no image"}, shard_rows=70)
    told = run("near", digits, "--item", "items/305.jpg", "-k", 1)
    assert "the index is not of what" in told
    assert "headwater index" in told
    (digits / "index.json").unlink()
    assert "make the index: headwater index" in run("near", digits, "--item", "items/305.jpg")


def test_near_takes_a_text_or_a_file_and_checks_the_fingerprint(
    tiny_text: Path, server: ServerProcess, tmp_path: Path, run: Run, rows: Rows
) -> None:
    words = ["red", "green", "blue", "cat dog", "dog"]
    with Extractor.load(tiny_text, cache="off") as extractor:
        of = {"fingerprint": extractor.fingerprint, "backbone": "tiny-text"}
        dump = write_dump(tmp_path / "words", extractor.extract(words), text=words, **of)
        foreign = write_dump(tmp_path / "foreign", extractor.extract(words), backbone="tiny-text")
    (tmp_path / "q.txt").write_text("dog")
    here = ("--backbone", tiny_text, "--cache", "off")
    for query in (("--text", "dog"), (tmp_path / "q.txt",)):
        assert [one["text"] for one in rows("near", dump, *query, "-k", 2, *here)] == ["dog", "cat dog"]
    assert rows("near", dump, "--text", "dog", "-k", 1, "--server", server.target)[0]["text"] == "dog"
    told = run("near", foreign, "--text", "dog", *here)
    assert "the dump is of tiny-text abab" in told
    assert "name the backbone that it is of" in told
    np.save(tmp_path / "X.npy", np.eye(4))
    (tmp_path / "X.npy.txt").write_text("a\nb\nc\nd")
    assert "does not say which backbone it is of; name it" in run("near", tmp_path / "X.npy", "--text", "dog")
    assert "there must be one query" in run("near", dump)
    assert "there must be one query" in run("near", dump, tmp_path / "q.txt", "--text", "dog")


def test_near_an_item_that_is_not_there(digits: Path, run: Run) -> None:
    assert "no item 'x'; its first are 'items/0.jpg'" in run("near", digits, "--item", "x")
    assert "'items/2.jpg' failed, and has no embedding: no image" in run("near", digits, "--item", "items/2.jpg")


def test_dupes_are_groups_and_leaks_between_splits(tmp_path: Path, run: Run, rows: Rows) -> None:
    some = np.concatenate([X[:60], X[:3] * 2, X[:1]])
    labels = [*LABELS[:60], *LABELS[:2], "odd", LABELS[0]]
    splits = ["train"] * 60 + ["test"] * 3 + ["train"]
    dump = write_dump(tmp_path / "d", some, labels=labels, split=splits)
    found = rows("dupes", dump, "--threshold", 0.9999)
    assert [(one["first"]["row"], [copy["row"] for copy in one["copies"]]) for one in found[:3]] == [
        (0, [60, 63]),
        (1, [61]),
        (2, [62]),
    ]
    assert sorted((one["item"]["row"], one["train"]["row"], round(one["cosine"], 5)) for one in found[3:]) == [
        (60, 0, 1.0),
        (61, 1, 1.0),
        (62, 2, 1.0),
    ]
    told = run("dupes", dump, "--threshold", 0.9999, "--top", 2)
    assert "4 of 64 items are near-duplicates" in told
    assert "in 3 groups; in 1 of them labels differ" in told
    assert "3 of 3 items (100.0%) are nearly one of 61 training items, 1 of them under another label" in told
    assert "and 1 more leaks" in told
    assert "too good to be true" in told
    told = run("dupes", write_dump(tmp_path / "e", np.eye(4), split=["train", "test", None, "train"]))
    assert "1 item without 'split', so on neither side" in told
    assert "0 of 1 items (0.0%) are nearly one of 2 training items" in told
    assert "too good" not in told
    assert "leaks are between 'learn' and others" in run("dupes", dump, "--train-split", "learn")
    assert "there is no column 'part'" in run("dupes", dump, "--split-column", "part")


def test_dupes_of_a_dump_that_is_one_split_are_found(tmp_path: Path, run: Run, rows: Rows) -> None:
    for split in ("train", "test", None):
        dump = write_dump(tmp_path / f"{split}", np.concatenate([X[:9], X[:1]]), split=[split] * 10)
        assert "1 of 10 items are near-duplicates" in (told := run("dupes", dump, "--threshold", 0.9999))
        assert "leaks are between 'train' and others" in told
        assert [one["first"]["row"] for one in rows("dupes", dump, "--threshold", 0.9999)] == [0]
        assert "near-duplicates" not in (told := run("dupes", dump, "--train-split", "train"))
        assert "leaks are between 'train' and others; name what" in told


def test_dupes_between_two_dumps(digits: Path, tmp_path: Path, run: Run, rows: Rows) -> None:
    test = write_dump(tmp_path / "test", np.concatenate([X[10:12], X[1000:1003]]))
    found = rows("dupes", test, digits, "--threshold", 0.9999)
    assert [(one["item"]["row"], one["train"]["row"]) for one in found] == [(0, 10), (1, 11)]
    assert "0 of them under another label" in run("dupes", test, digits, "--threshold", 0.9999)  # they have none
    foreign = write_dump(tmp_path / "foreign", X[:5], fingerprint="cd" * 16)
    for command in ("dupes", "drift"):
        assert "dump both by one backbone" in run(command, digits, foreign)
    assert "0 of 5 items are near-duplicates" in run("dupes", foreign, "--threshold", 1)


def test_drift_is_told_with_its_p_value_and_the_items_that_moved(tmp_path: Path, run: Run, rows: Rows) -> None:
    known = write_dump(tmp_path / "a", X[Y != 7][:600], labels=[one for one in LABELS if one != "7"][:600])
    sevens = np.flatnonzero(Y == 7)[:60]
    new = np.concatenate([np.flatnonzero(Y != 7)[600:900], sevens])
    newer = write_dump(tmp_path / "b", X[new], labels=[LABELS[i] for i in new])
    (found,) = rows("drift", known, newer, "--permutations", 99, "--rows", 300)
    assert (found["drift"], found["p_value"], found["compared"], found["rows"]) == (True, 0.01, [300, 300], [600, 360])
    assert {one["label"] for one in found["moved"]} == {"7"}
    assert found["moved"][0]["nearest"]["label"] != "7"
    told = run("drift", known, newer, "--permutations", 99, "--rows", 300)
    assert "the new items have moved: p = 0.01" in told
    assert "300 of 600 known items against 300 of 360 newer ones" in told
    same = write_dump(tmp_path / "c", X[Y != 7][600:1200])
    told = run("drift", known, same, "--permutations", 99, "--rows", 300)
    assert "no drift is seen" in told
    assert "as by chance" in told
    assert "over again" not in told
    told = run("drift", known, known, "--permutations", 99)
    assert "600 of these newer items are known ones over again, which hides drift" in told
    assert "misled by what is on both sides" in told
    twice = write_dump(tmp_path / "twice", np.repeat(X[Y != 7][600:900], 2, axis=0))
    told = run("drift", known, twice, "--permutations", 99)
    assert "0 of these known items and 600 of the newer ones are copies of another" in told
    assert "at least 10 of each tell" in run("drift", known, write_dump(tmp_path / "few", X[:5]))


def test_what_strangers_named_is_only_shown(tmp_path: Path, run: Run) -> None:
    keys = ["[bold]a[/]", "\x1b[31mred\x07", "line\nbreak", ":smile:"]
    told = run("near", write_dump(tmp_path / "d", np.eye(4), keys=keys, labels=keys), "--item", keys[0])
    assert "\x1b" not in told
    assert "\x07" not in told
    assert ":smile:" in told
    assert "line break" in told
    assert "[bold]a[/]" in run("near", tmp_path / "d", "--item", ":smile:")


@pytest.mark.parametrize("text", [7, ["a", "b"], datetime(2026, 1, 2), b"\xff"])
def test_a_column_that_is_called_text_may_be_of_anything(text: object, tmp_path: Path, run: Run, rows: Rows) -> None:
    dump = write_dump(tmp_path / "d", np.repeat(X[:1], 12, axis=0), text=[text, None] * 6)
    assert [one["text"] for one in rows("near", dump, "--item", "items/0.jpg", "-k", 2)] == [None, str(text)]
    (found,) = rows("dupes", dump)
    assert (found["first"]["text"], len(found["copies"])) == (str(text), 11)
    assert rows("drift", dump, dump, "--permutations", 19)[0]["moved"][0]["text"] in (str(text), None)
    assert "6 with a preview" in run("map", dump)


@pytest.mark.parametrize("command", ["index", "near", "dupes", "map"])
def test_what_is_no_dump_is_told(command: str, tmp_path: Path, run: Run) -> None:
    query = ("--item", "x") if command == "near" else ()
    assert "make it: headwater dump SOURCE" in run(command, tmp_path / "gone", *query)
    (tmp_path / "empty").mkdir()
    assert "no files" in run(command, tmp_path / "empty", *query)
    failed = write_dump(tmp_path / "failed", np.eye(2), errors={0: "bad", 1: "bad"})
    assert "has no embedding; look at its column 'error'" in run(command, failed, *query)


def test_a_head_learns_from_a_dump_with_labels_that_came_later(tmp_path: Path, run: Run) -> None:
    dump = write_dump(tmp_path / "d", X[:200], errors={5: "bad"}, camera=[str(i % 4) for i in range(200)])
    train = ("train", dump, "--name", "one", "--head", "ncm", "--no-report")
    assert "no row of" in (told := run(*train))
    assert "--labels FILE" in told
    lines = "".join(f"items/{i}.jpg,{LABELS[i]}\n" for i in range(150))
    (tmp_path / "t.csv").write_text(f"key,label\n{lines}nowhere,1\n")
    told = run(*train, "--labels", tmp_path / "t.csv", "--group-column", "camera")
    assert "50 items of" in told
    assert "items/150.jpg, items/151.jpg" in told
    assert "2 keys of" in told  # the one that failed, and one that is nowhere
    assert "50 rows of" in told
    assert "head one@1: 10 classes, 149 examples, pixels" in told
    _, manifest = load_head(tmp_path / "home" / "heads" / "one" / "1")
    assert manifest.items[0] == "items/0.jpg"
    told = run("train", tmp_path / "t.csv", "--name", "one", "--labels", tmp_path / "t.csv")
    assert "--labels are for a dump" in told


def test_a_head_is_measured_on_a_dump(digits: Path, tmp_path: Path, run: Run) -> None:
    run("train", digits, "--name", "one", "--head", "ncm", "--no-report")
    others = write_dump(tmp_path / "others", X[300:500], labels=LABELS[300:500], errors={5: "no image"})
    told = run("evaluate", "one", others, "--report", tmp_path / "report")
    model, _ = load_head(tmp_path / "home" / "heads" / "one" / "1")
    good = np.delete(np.arange(300, 500), 5)
    said = np.asarray(model.classes_)[model.scores(X[good]).argmax(axis=1)]
    assert "head one@1 on 199 examples" in told
    assert f"accuracy: {(said == Y[good].astype(str)).mean():.4f}" in told
    assert "1 of 200 items failed" in told
    assert (tmp_path / "report" / "report.html").exists()
    (tmp_path / "t.csv").write_text("key,label\n" + "".join(f"items/{i}.jpg,{Y[300 + i]}\n" for i in range(50)))
    bare = write_dump(tmp_path / "bare", X[300:360])
    assert "on 50 examples" in run("evaluate", "one", bare, "--labels", tmp_path / "t.csv")
    assert "--labels are for a dump" in run("evaluate", "one", tmp_path, "--labels", tmp_path / "t.csv")
    assert "--cache would be ignored" in run("evaluate", "one", others, "--cache", "off")
    strange = write_dump(tmp_path / "strange", X[:9], labels=LABELS[:9], fingerprint="cd" * 16)
    assert "was trained on pixels" in run("evaluate", "one", strange)


def test_a_head_of_several_labels_or_of_numbers_learns_from_a_dump(tmp_path: Path, run: Run) -> None:
    several = ["|".join(name for name, bit in (("odd", 1), ("high", 4)) if y & bit) for y in Y[:120].tolist()]
    dump = write_dump(tmp_path / "d", X[:120], labels=[*several[:118], None, None], sum=X[:120].sum(axis=1).tolist())
    base = ("train", dump, "--no-report", "--name", "one", "--head")
    told = run(*base, "logistic", "--kind", "multi")
    assert "2 rows of" in told
    assert "have no label, and are examples of none" in told
    assert "head one@1: 2 classes, 120 examples, pixels" in told  # those that are neither odd nor high among them
    assert "head one@2: 120 examples" in run(*base, "ridge", "--kind", "regression", "--label-column", "sum")
    assert "a regression needs a finite number" in run(*base, "ridge", "--kind", "regression")
    names = [["odd"] * int(y % 2) + ["low"] * int(y < 5) for y in Y[:120]]
    rows = [{"key": f"items/{i}.jpg", "label": name, "camera": [1, None][i == 7]} for i, name in enumerate(names)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    later = ("--labels", tmp_path / "t.jsonl", "--kind", "multi")
    assert "head one@3: 2 classes, 120 examples" in run(*base, "logistic", *later)
    assert "1 of 120 rows have no 'camera'" in run(*base, "logistic", *later, "--group-column", "camera")


def test_later_labels_of_some_rows_say_nothing_of_the_others(tmp_path: Path, run: Run) -> None:
    dump = write_dump(tmp_path / "d", X[:120])
    names = ["|".join(["odd"] * (y % 2) + ["low"] * (y < 5)) for y in Y[:80].tolist()]
    lines = "".join(f"items/{i}.jpg,{name}\n" for i, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"key,label\n{lines}")
    base = ("train", dump, "--no-report", "--name", "one", "--head", "logistic", "--kind", "multi")
    told = run(*base, "--labels", tmp_path / "t.csv")
    assert f"{names.count('')} rows of {dump} have no label, and are examples of none" in told
    assert f"40 rows of {dump} have no label and are left out" in told
    assert "head one@1: 2 classes, 80 examples" in told


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_several_labels_of_a_table_are_those_of_its_dump(name: str, tiny_text: Path, tmp_path: Path, run: Run) -> None:
    labels = [["a", "b"], [], ["a"], None]
    rows = [{"text": f"cat {i}", "label": one} for i, one in enumerate(labels)]
    as_csv = "".join(f"{row['text']},{'|'.join(row['label'] or [])}\n" for row in rows)
    (tmp_path / "t.csv").write_text(f"text,label\n{as_csv}")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    run("dump", tmp_path / name, tmp_path / "out", "--backbone", tiny_text, "--cache", "off")
    expected = [("a", "b"), (), ("a",), ()]
    assert read_labelled(tmp_path / name, kind="multi").labels == expected
    assert dumped(tmp_path / "out", Columns(), None, "multi")[0].examples.labels == expected


def test_what_headwater_dumps_is_read_as_it_was_dumped(tiny_image: Path, tmp_path: Path, run: Run, rows: Rows) -> None:
    (tmp_path / "src" / "a").mkdir(parents=True)
    for i in range(12):
        (tmp_path / "src" / "a" / f"{i:02}.png").write_bytes(png(flat(10 * i, 7)))
    (tmp_path / "src" / "a" / "05.png").write_bytes(b"no image")
    base = ("--backbone", tiny_image, "--cache", "off")
    run("dump", tmp_path / "src", tmp_path / "out", "--dtype", "float16", *base)
    found = EmbeddingSet.open(tmp_path / "out")
    assert found.X[:, 0].tolist() == [10 * i for i in range(12) if i != 5]
    assert list(found.errors) == ["a/05.png"]
    assert (set(found.y), found.backbone) == ({"a"}, "tiny-image")
    (tmp_path / "src" / "a" / "05.png").write_bytes(png(flat(50, 7)))
    run("dump", "--retry-errors", tmp_path / "out", "--npy", *base)
    again = EmbeddingSet.open(tmp_path / "out")
    assert again.X[:, 0].tolist() == [10 * i for i in range(12)]
    assert (again.errors, again.fingerprint) == ({}, found.fingerprint)
    array = EmbeddingSet.open(tmp_path / "out" / "embeddings.npy")
    np.testing.assert_array_equal(array.X, again.X)
    assert (array.keys.tolist(), array.fingerprint) == (again.keys.tolist(), again.fingerprint)
    run("index", tmp_path / "out")
    query = tmp_path / "src" / "a" / "07.png"
    assert rows("near", tmp_path / "out", query, "-k", 1, *base)[0]["key"] == "a/07.png"
    assert "12 with a preview" in run("map", tmp_path / "out", "--items", tmp_path / "src")
    assert "12 rows, 0 errors among them" in run("dump", "--check", tmp_path / "out")


def test_near_says_what_does_not_fit(tiny_image: Path, tiny_text: Path, tmp_path: Path, run: Run) -> None:
    made = {}
    for folder, item in ((tiny_image, png(flat(9))), (tiny_text, "red")):
        with Extractor.load(folder, cache="off") as one:
            of = {"fingerprint": one.fingerprint, "backbone": one.spec.name}
            made[folder] = write_dump(tmp_path / one.spec.name, one.extract([item]), keys=["a"], **of)
    (tmp_path / "a.png").write_bytes(png(flat(9)))
    (tmp_path / "b.png").write_bytes(b"no image")
    image, text = (("near", made[one], "--backbone", one, "--cache", "off") for one in (tiny_image, tiny_text))
    assert "items are of modality image, and --text is a text; name a file" in run(*image, "--text", "cat")
    assert "items are of modality text, and the file" in run(*text, tmp_path / "a.png")
    assert "is not there; name a file, or say --text for a text itself" in run(*text, "red cat")
    assert "b.png has no embedding: no JPEG" in run(*image, tmp_path / "b.png")
    assert "'tiny-text', which is not installed here, only none" in run("near", made[tiny_text], "--text", "red")
    assert "has no other item" in run("near", made[tiny_text], "--item", "a")


def test_what_would_be_ignored_after_a_dump_is_refused(digits: Path, run: Run, tmp_path: Path) -> None:
    train, rate = ("train", digits, "--name", "n"), ("--reject-rate", 0.1)
    for arguments, told in (
        (("near", digits, "--item", "x", "--backbone", "b"), "--backbone would be ignored: the embedding of --item"),
        (("near", digits, "--text", "x", "--key", "k"), "--key would be ignored: no --server is named"),
        (("map", digits, "--previews", 3), "--previews would be ignored: files are read below --items"),
        (("dupes", digits, digits, "--split-column", "s"), "--split-column would be ignored: leaks are looked for"),
        (("dupes", digits, "--json", "--top", 3), "--top would be ignored: --json gives all"),
        (("train", digits, "--name", "n", "--cache", "off"), "--cache would be ignored: a dump has its embeddings"),
        ((*train, "--kind", "regression", "--reject", "energy"), "--reject would be ignored: a regression calls"),
        ((*train, "--kind", "regression", *rate), "--reject-rate would be ignored: a regression calls"),
        ((*train, "--reject", "none", *rate), "--reject-rate would be ignored: --reject none goes by no share"),
        ((*train, "--out-of-scope", "0", *rate), "--reject-rate would be ignored: --reject validation goes by"),
    ):
        assert told in run(*arguments)
    assert "OUT and TRAIN are one dump" in run("dupes", digits, digits)
    assert "there is no column 'split', only" in (said := run("dupes", digits, "--train-split", "learn"))
    assert "near-duplicates" not in said  # it is told before the work
    assert "is a dump, and a server is sent items" in run("train", digits, "--name", "n", "--remote", "--server", "a:1")
    assert "there is no " in run("train", digits, "--name", "n", "--test", tmp_path / "gone")
    assert "there is no " in run("train", digits, "--name", "n", "--labels", tmp_path / "gone.csv")


def test_a_dump_without_rows_or_a_file_that_is_none_is_told(tmp_path: Path, run: Run) -> None:
    assert "has no rows; dump a source that has items" in run("index", write_dump(tmp_path / "none", np.zeros((0, 3))))
    (tmp_path / "t.csv").write_text("key,label")
    assert "the file 't.csv' is no dump; name its folder" in run("map", tmp_path / "t.csv")
    failed = write_dump(tmp_path / "failed", np.eye(2), labels=["a", "b"], errors={0: "bad", 1: "bad"})
    assert "has no embedding; look at its column 'error'" in run("train", failed, "--name", "n")


def test_what_cannot_be_written_is_called_as_people_know_it(digits: Path, run: Run, tmp_path: Path) -> None:
    for command, name in (("index", "index.faiss"), ("map", "map.html")):
        (digits / name).mkdir()
        assert f"cannot write {digits / name}: Is a directory; make it writable" in run(command, digits)
    assert f"there is no folder {tmp_path / 'gone'}; make it" in run(
        "map", digits, "--out", tmp_path / "gone" / "m.html"
    )
    assert "it is a folder; name a file in it" in run("map", digits, "--out", tmp_path)
