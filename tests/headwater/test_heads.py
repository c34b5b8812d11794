"""`headwater train`, `predict` and `heads`, as a person runs them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from classifiers.persist import load_head
from extractor import Extractor
from extractor.cache import item_key
from headwater.cli import app
from headwater.process import ServerProcess, serving
from tests.tiny import png, write_tiny_dense

COLOURS = {"red": 0, "green": 1, "blue": 2}


def coloured(name: str, seed: int) -> bytes:
    """A noisy image with more of one colour."""
    pixels = np.random.default_rng(seed).integers(0, 128, (16, 16, 3), np.uint8)
    pixels[..., COLOURS[name]] += 100
    return png(pixels)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in COLOURS:
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(6):
            (tmp_path / "data" / name / f"{seed}.png").write_bytes(coloured(name, seed))
    return tmp_path / "data"


def headwater(*arguments: object, home: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "headwater", *map(str, arguments)]
    env = {**os.environ, "HEADWATER_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command within this process: that commands start is tested above."""
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        return done.output + str(done.exception or "")

    return call


def test_files_become_a_head_and_the_head_knows_others(data: Path, tiny_image: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = headwater("train", data, "--name", "colours", "--backbone", tiny_image, home=home)
    assert done.returncode == 0, done.stderr
    assert "head colours@1: 3 classes, 18 examples, tiny-image" in done.stdout
    assert "accuracy on 18 held-out examples: 1.000 (1.000 to 1.000)" in done.stdout
    assert (home / "heads" / "colours" / "1" / "report.html").stat().st_size > 10_000
    head, manifest = load_head(home / "heads" / "colours" / "1")
    assert head.classes_.tolist() == sorted(COLOURS)
    with Extractor.load(tiny_image) as extractor:
        assert manifest.fingerprint == extractor.fingerprint
        assert manifest.items[0] == item_key(extractor.fingerprint, coloured("blue", 0)).hex()
    for name in COLOURS:
        (tmp_path / f"{name}.png").write_bytes(coloured(name, 99))
    files = [tmp_path / f"{name}.png" for name in COLOURS]
    done = headwater("predict", "colours", *files, "--backbone", tiny_image, "--top", 2, home=home)
    assert done.returncode == 0, done.stderr
    for line, name in zip(done.stdout.splitlines(), COLOURS, strict=True):
        told, *others = line.partition(": ")[2].split(", ")
        assert told.split()[0] == name
        assert len(others) == 1
        assert 0 <= float(others[0].split()[1]) < float(told.split()[1]) <= 1
    assert "colours" in headwater("heads", home=home).stdout


def test_a_server_gives_the_same_head(data: Path, tiny_image: Path, server: ServerProcess, tmp_path: Path) -> None:
    here = headwater("train", data, "--name", "one", "--backbone", tiny_image, home=tmp_path)
    there = headwater(
        "train", data, "--name", "two", "--server", server.target, "--backbone", "tiny-image", home=tmp_path
    )
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    (one, made_here), (two, made_there) = (load_head(tmp_path / "heads" / name / "1") for name in ("one", "two"))
    X = np.random.default_rng(0).random((20, 3), np.float32)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-4)
    assert made_here.items == made_there.items
    done = headwater("predict", "two", data / "red" / "0.png", "--server", server.target, home=tmp_path)
    assert done.stdout.partition(": ")[2].startswith("red "), done.stderr


def test_where_no_head_can_be_kept_is_said_before_the_work(
    data: Path, tiny_image: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    (data / "red" / "bad.png").write_bytes(b"no image")
    (tmp_path / "home").write_text("")
    told = run("train", data, "--name", "one", "--backbone", tiny_image)
    assert f"cannot write {tmp_path / 'home' / 'heads'}" in told
    assert "bad.png" not in told


def test_what_a_killed_training_left_is_swept_by_the_next(
    data: Path, tiny_image: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    left = tmp_path / "home" / "heads" / ".new-999999999-ab"  # of a process that no machine has
    left.mkdir(parents=True)
    assert "head one@1" in run("train", data, "--name", "one", "--backbone", tiny_image, "--no-report")
    assert sorted(path.name for path in left.parent.iterdir()) == [".lock", "one"]


def test_another_backbone_is_refused_with_both_named(data: Path, tiny_image: Path, tmp_path: Path) -> None:
    assert headwater("train", data, "--name", "one", "--backbone", tiny_image, home=tmp_path).returncode == 0
    other = write_tiny_dense(tmp_path / "other")
    done = headwater("predict", "one", data / "red" / "0.png", "--backbone", other, home=tmp_path)
    assert done.returncode == 1
    _, manifest = load_head(tmp_path / "heads" / "one" / "1")
    with Extractor.load(other) as extractor:
        assert manifest.fingerprint in done.stderr
        assert extractor.fingerprint in done.stderr
        assert extractor.fingerprint != manifest.fingerprint
    assert "Traceback" not in done.stderr


def test_a_bad_item_is_named_and_left_out(data: Path, tiny_image: Path, tmp_path: Path) -> None:
    (data / "red" / "bad.png").write_bytes(b"no image")
    done = headwater("train", data, "--name", "one", "--backbone", tiny_image, home=tmp_path)
    assert done.returncode == 0
    assert "red/bad.png" in done.stderr
    assert "1 of 19 items failed and were left out" in done.stderr
    done = headwater(
        "predict", "one", data / "red" / "bad.png", data / "red" / "0.png", "--backbone", tiny_image, home=tmp_path
    )
    assert done.returncode == 1
    assert "bad.png" in done.stderr
    assert "0.png: red" in done.stdout


def test_names_of_any_kind_are_shown_as_they_are(
    data: Path, tiny_image: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    names = [":x:", "--dash", "[bold]x[", "<b>ü 日本"]
    for name, folder in zip(names, sorted(data.iterdir()), strict=False):
        folder.rename(data / name)
    (data / names[3]).mkdir()
    told = run("train", data, "--name", "one", "--backbone", tiny_image, "--head", "ncm")
    assert "folders without a file, which are no labels: <b>ü 日本" in told
    for name in names[:3]:
        assert f"{data / name / '0.png'}: {name} " in run(
            "predict", "one", "--backbone", tiny_image, data / name / "0.png"
        )


@pytest.mark.parametrize("name", ["../out", ".hidden", "a/b", "", "x" * 101])
def test_a_name_that_is_none_is_refused_before_the_work(
    name: str, data: Path, tiny_image: Path, tmp_path: Path
) -> None:
    done = headwater("train", data, "--name", name, "--backbone", tiny_image, home=tmp_path)
    assert done.returncode == 1
    assert "is no head's name" in done.stderr


def test_what_is_missing_or_altered_is_one_line(data: Path, tiny_image: Path, tmp_path: Path) -> None:
    assert "there is no head 'gone'; there are: none yet" in headwater("predict", "gone", "x", home=tmp_path).stderr
    assert "there is no head yet" in headwater("heads", home=tmp_path).stdout
    assert headwater("train", data, "--name", "one", "--backbone", tiny_image, home=tmp_path).returncode == 0
    assert "nothing to predict" in headwater("predict", "one", home=tmp_path).stderr
    path = tmp_path / "heads" / "one" / "1" / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["a", "b"]}))
    done = headwater("predict", "one", data / "red" / "0.png", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "not usable" in " ".join(headwater("heads", home=tmp_path).stdout.split())


def test_one_class_is_a_clear_error(data: Path, tiny_image: Path, tmp_path: Path) -> None:
    for name in ("green", "blue"):
        for file in (data / name).iterdir():
            file.unlink()
    done = headwater("train", data, "--name", "one", "--backbone", tiny_image, home=tmp_path)
    assert done.returncode == 1
    assert "all 6 examples are of 1 class, 'red'" in done.stderr
    assert not (tmp_path / "heads" / "one").exists()


def test_versions_are_activated_rolled_back_and_deleted(
    data: Path, tiny_image: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    train = ("train", data, "--name", "one", "--backbone", tiny_image)
    assert "head one@1" in run(*train)
    for file in (data / "red").iterdir():
        file.rename(data / "green" / f"was-red-{file.name}")
    (data / "red").rmdir()
    assert "head one@2: 2 classes" in run(*train, "--no-activate")
    image = data / "green" / "was-red-0.png"
    told = {which: run("predict", f"one{which}", image, "--backbone", tiny_image) for which in ("", "@1", "@2")}
    assert "red" in told[""].partition(": ")[2]
    assert told[""] == told["@1"] != told["@2"]
    assert "one@2 is production" in run("heads", "activate", "one@2")
    assert run("predict", "one", image, "--backbone", tiny_image) == told["@2"]
    assert "one@2 is production; activate another" in run("heads", "delete", "one@2")
    assert "one@1 is old" in run("heads", "activate", "one@1", "--alias", "old")
    assert run("predict", "one@old", image, "--backbone", tiny_image) == told["@1"]
    assert "head 'one' has no version '7'; there are: 1, 2, old, production" in run("predict", "one@7", image)
    assert "one@1 is production" in run("heads", "activate", "one@1")
    assert "one@2 is deleted" in run("heads", "delete", "one@2")
    table = tmp_path / "home" / "heads" / "one" / "aliases.json"
    table.unlink()
    table.mkdir()
    assert "aliases.json of head 'one' is malformed (IsADirectoryError)" in run("heads", "activate", "one@1")
    table.rmdir()
    table.write_text("[]")
    assert "aliases.json of head 'one' is malformed" in " ".join(run("heads").split())
    table.unlink()
    assert "one is deleted" in run("heads", "delete", "one")
    assert "there is no head yet" in run("heads")
    assert [path.name for path in (tmp_path / "home" / "heads").iterdir()] == [".lock"]


def test_a_head_is_evaluated_on_others_and_told_of_strangers(
    data: Path, tiny_image: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    assert "head one@1" in run("train", data, "--name", "one", "--backbone", tiny_image, "--no-report")
    assert not (tmp_path / "home" / "heads" / "one" / "1" / "report.html").exists()
    (data / "grey").mkdir()
    (data / "grey" / "0.png").write_bytes(png(np.full((16, 16, 3), 128, np.uint8)))
    (data / "grey" / "bad.png").write_bytes(b"no image")
    told = run("evaluate", "one", data, "--backbone", tiny_image, "--report", tmp_path / "told")
    assert "head one@1 on 18 examples:" in told
    assert "accuracy: 1.0000 (1.0000 to 1.0000)" in told
    assert "labels that it does not have, out of its scope: grey\n" in told
    assert "AUROC of telling 1 out of scope" in told
    assert "grey/bad.png" in told
    assert "1 of 20 items failed and were left out" in told
    assert json.loads((tmp_path / "told" / "report.json").read_text())["open_set"]["n_out_of_scope"] == 1


def test_a_table_has_several_labels_or_numbers(tiny_text: Path, tmp_path: Path, run: Callable[..., str]) -> None:
    words = [("red", 1.0), ("green", 2.0), ("cat", 3.0), ("dog", 4.0)]
    rows = [f"{a} {b},{'odd|' * (int(x) % 2)}{'big' * (x + y > 4)},{x + y}" for a, x in words for b, y in words] * 3
    (tmp_path / "t.csv").write_text("text,kinds,sum\n" + "\n".join(rows) + "\n")
    base = ("train", tmp_path / "t.csv", "--backbone", tiny_text, "--head", "logistic", "--no-report")
    told = run(*base, "--name", "kinds", "--kind", "multi", "--label-column", "kinds")
    assert "head kinds@1: 2 classes, 48 examples" in told
    assert "macro f1 on 48 held-out examples" in told
    told = run("predict", "kinds", "--text", "red dog", "--backbone", tiny_text, "--json")
    assert sorted(json.loads(told)["labels"]) == ["big", "odd"]
    told = run(*base[:-2], "ridge", "--no-report", "--name", "sum", "--kind", "regression", "--label-column", "sum")
    assert "head sum@1: 48 examples" in told
    assert "r2 on 48 held-out examples" in told
    assert "head 'ncm' learns no regression" in run(
        *base[:-2], "ncm", "--name", "no", "--kind", "regression", "--label-column", "sum"
    )


def test_a_dump_is_trained_on_without_its_backbone(tmp_path: Path, run: Callable[..., str]) -> None:
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    X[:30, 0] += 6
    table = pa.table({"embedding": list(X), "label": ["near"] * 30 + ["far"] * 30})
    for name, fingerprint in (("train", "ab" * 16), ("test", "ab" * 16), ("other", "cd" * 16)):
        facts = {"headwater.fingerprint": fingerprint, "headwater.backbone": "pixels"}
        pq.write_table(table.replace_schema_metadata(facts), tmp_path / f"{name}.parquet")
    train = ("train", tmp_path / "train.parquet", "--name", "one", "--no-report")
    told = run(*train, "--test", tmp_path / "test.parquet")
    assert "head one@1: 2 classes, 60 examples, pixels" in told
    assert "on 60 test examples" in told
    _, manifest = load_head(tmp_path / "home" / "heads" / "one" / "1")
    assert (manifest.backbone, manifest.fingerprint) == ("pixels", "ab" * 16)
    assert "dump both by one backbone" in run(*train, "--test", tmp_path / "other.parquet")
    told = run(*train, "--kind", "regression")
    assert "item '0', has the label 'near', and a regression needs a finite number" in told
    assert "there is no column 'camera', only label" in run(*train, "--group-column", "camera")
    (tmp_path / "t.csv").write_text("text,label\nred,near\n")
    assert "t.csv is no dump of embeddings, and others are" in run(*train, "--test", tmp_path / "t.csv")
    train = ("train", tmp_path / "t.csv", "--name", "one", "--test", tmp_path / "test.parquet")
    assert "t.csv is no dump of embeddings, and others are" in run(*train)


def test_a_server_keeps_heads_of_its_own(
    data: Path, tiny_image: Path, tmp_path: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "red" / "bad.png").write_bytes(b"no image")
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "theirs"))
    with serving(str(tiny_image)) as theirs:
        monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
        there = ("--remote", "--server", theirs.target)
        told = run("train", data, "--name", "one", "--head", "logistic", *there)
        assert "head one@1: 18 examples, tiny-image" in told
        assert "accuracy on 18 held-out examples: 1.000" in told
        assert "red/bad.png" in told
        assert "1 of 19 items failed" in told
        assert "there is no head yet" in run("heads")
        lines = run("predict", "one", data / "red" / "0.png", data / "red" / "bad.png", "--json", *there).splitlines()
        good, bad = map(json.loads, lines[:2])
        assert good["ranking"][0]["label"] == "red"
        assert good["head"] == "one@1"
        assert "error" in bad
        assert "leave --validation" in run("train", data, "--name", "one", "--test", data, *there)
        assert "add --server" in run("predict", "one", data / "red" / "0.png", "--remote")
        assert "head is 'soup'" in run("train", data, "--name", "one", "--head", "soup", *there)
