"""What a precision is measured with, and `headwater export --precision` as a user runs it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from extractor.derive import derive
from extractor.errors import BackboneNotFound, ExportError, SourceInvalid, UndecodableItem, UnreadableItem
from extractor.sources import Options
from extractor.spec import read_spec
from headwater.commands.backbones import installed_rows
from headwater.commands.export import export
from headwater.errors import DataInvalid
from headwater.fidelity import judge_of, terms_of
from tests.headwater.test_commands import headwater
from tests.tiny import layers_item, npy, write_tiny_layers

FLOOR = 0.995


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A folder of 80 arrays, by the sign of their second value."""
    folder = tmp_path / "arrays"
    for seed in range(80):
        array = layers_item(seed + 300)
        file = folder / ("high" if array[1] > 0 else "low") / f"{seed:02}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(npy(array))
    return folder


@pytest.mark.parametrize("modality", ["image", "text", "audio"])
def test_built_in_items_are_held_or_calibrated_on(modality: str) -> None:
    terms = terms_of(modality, "int8", floor=FLOOR)
    assert len(terms.held) == len(set(terms.held)) >= 40
    assert len(terms.calibration) == len(set(terms.calibration)) >= 60
    assert not set(terms.held) & set(terms.calibration)
    assert terms.judge is not None


def test_one_in_four_of_ones_own_is_held_unless_held_ones_are_named(arrays: Path) -> None:
    terms = terms_of("array", "int8", calibrate=str(arrays), floor=FLOOR)
    assert (len(terms.calibration), len(terms.held)) == (60, 20)
    assert terms.judge is not None
    named = terms_of("array", "int8", calibrate=str(arrays), held=str(arrays / "low"), floor=FLOOR)
    assert len(named.calibration) + len(named.held) == 80
    assert not set(named.calibration) & set(named.held)
    assert named.judge is None
    assert terms_of("array", "bf16", held=str(arrays), floor=FLOOR).calibration == []


def test_a_table_of_texts_is_read(tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "\n".join(f"text {i % 50},{i % 2}" for i in range(60)) + "\n")
    terms = terms_of("text", "fp16", held=str(table), floor=FLOOR)
    assert [*terms.held] == [f"text {i}".encode() for i in range(50)]
    assert terms.judge is not None


def test_columns_of_other_names_are_read_and_wrong_ones_told_of(tmp_path: Path, arrays: Path) -> None:
    held, other = tmp_path / "held.csv", tmp_path / "other.csv"
    held.write_text("review,stars\n" + "\n".join(f"text {i},{i % 2}" for i in range(40)) + "\n")
    other.write_text("review\n" + "\n".join(f"other {i}" for i in range(70)) + "\n")
    columns = Options(item="review", label="stars")
    terms = terms_of("text", "int8", calibrate=str(other), held=str(held), columns=columns, floor=FLOOR)
    assert (len(terms.held), len(terms.calibration)) == (40, 70)
    assert terms.judge is not None
    assert terms_of("text", "fp16", held=str(held), columns=Options(item="review"), floor=FLOOR).judge is None
    for wrong, said in (
        (Options(item="text"), "has no column 'text', only 'review', 'stars'; name one with --item-column"),
        (Options(item="review", label="star"), "has no column 'star', only 'review', 'stars'; mend --label-column"),
    ):
        with pytest.raises(SourceInvalid, match=said):
            terms_of("text", "fp16", held=str(held), columns=wrong, floor=FLOOR)
    with pytest.raises(SourceInvalid, match=r"--item-column 'review' is for a table .*; leave --item-column away"):
        terms_of("text", "fp16", held=str(arrays), columns=columns, floor=FLOOR)
    with pytest.raises(DataInvalid, match="columns are of a table, and there is none; name it with --held"):
        terms_of("text", "fp16", columns=columns, floor=FLOOR)


def test_what_cannot_be_measured_with_is_said(tmp_path: Path, arrays: Path) -> None:
    with pytest.raises(DataInvalid, match="modality array takes its own items; name them with --calibrate or --held"):
        terms_of("array", "fp16", floor=FLOOR)
    with pytest.raises(DataInvalid, match="bf16 is not calibrated; leave --calibrate away"):
        terms_of("text", "bf16", calibrate=str(arrays), floor=FLOOR)
    with pytest.raises(SourceInvalid, match="there is no "):
        terms_of("text", "int8", calibrate=str(tmp_path / "nowhere"), floor=FLOOR)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataInvalid, match="has no items in it"):
        terms_of("text", "int8", calibrate=str(tmp_path / "empty"), floor=FLOOR)
    (tmp_path / "few").mkdir()
    for number in range(20):
        (tmp_path / "few" / f"{number}.txt").write_text(str(number))
    with pytest.raises(DataInvalid, match="few has 20 different items, and it takes 64 to hold one in 4 back"):
        terms_of("text", "int8", calibrate=str(tmp_path / "few"), floor=FLOOR)
    with pytest.raises(DataInvalid, match=r"every item of --calibrate .*few is held too"):
        terms_of("text", "int8", calibrate=str(tmp_path / "few"), held=str(tmp_path / "few"), floor=FLOOR)
    (tmp_path / "list.csv").write_text("path\nmissing.png\n")
    with pytest.raises(UnreadableItem, match=r"missing\.png: "):
        terms_of("image", "int8", held=str(tmp_path / "list.csv"), floor=FLOOR)


def test_of_many_items_some_are_drawn_whatever_the_order_of_their_labels(tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "\n".join(f"text {i},{i % 4}" for i in range(5000)) + "\n")
    terms = terms_of("text", "int8", calibrate=str(table), floor=FLOOR)
    assert (len(terms.calibration), len(terms.held)) == (192, 64)
    numbers = [int(item.split()[1]) for item in (*terms.held, *terms.calibration)]
    assert len(set(numbers)) == 256
    assert 2000 < np.mean(numbers) < 3000
    assert {int(item.split()[1]) % 4 for item in terms.held} == {0, 1, 2, 3}
    assert terms.judge is not None
    again = terms_of("text", "int8", calibrate=str(table), floor=FLOOR)
    assert (again.held, again.calibration) == (terms.held, terms.calibration)


def test_an_item_that_cannot_be_read_is_called_by_its_key(tmp_path: Path, arrays: Path) -> None:
    (arrays / "high" / "broken.npy").write_bytes(b"none")
    write_tiny_layers(tmp_path / "layers")
    terms = terms_of("array", "int8", calibrate=str(arrays), floor=FLOOR)
    with pytest.raises(UndecodableItem, match=r"item high/broken\.npy: no \.npy array"):
        derive(tmp_path / "layers", "int8", tmp_path / "new", terms=terms)


def test_a_head_is_judged_on_what_has_labels() -> None:
    draw = np.random.default_rng(0)
    labels = [None, "once", "once more", *["a", "b"] * 15, None]
    good = np.array([[1, 0] if label == "a" else [0, 1] for label in labels], np.float32)
    judge = judge_of(labels)
    assert judge is not None
    found = judge(good, draw.normal(size=good.shape).astype(np.float32))
    assert found is not None
    assert (found.n_items, found.fp32) == (30, 1.0)
    assert found.own < 0.9
    noise = draw.normal(size=(len(good), 64)).astype(np.float32)
    by_heart = judge(good, noise)  # so wide that any labels could be learnt by heart
    assert by_heart is not None
    assert by_heart.own < 0.8
    assert judge_of([None] * 30) is None
    assert judge_of(["a"] * 30) is None


def test_a_precision_is_exported_measured_and_listed(
    tmp_path: Path, arrays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_layers(tmp_path / "backbones" / "layers")
    table = tmp_path / "table.csv"
    files = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in sorted(arrays.rglob("*.npy"))]
    table.write_text("\n".join(["file,sign", *files]) + "\n")
    columns = ("--path-column", "file", "--label-column", "sign")
    done = headwater("export", "layers", "--precision", "int8", "--calibrate", table, *columns, home=tmp_path)
    assert done.returncode == 0, done.stderr
    report = read_spec(tmp_path / "backbones" / "layers@int8").report
    assert report is not None
    assert report.head is not None
    for shown in (
        "20, calibrated on 60",
        f"{report.fidelity.mean_cosine:.5f}, at least 0.995",
        f"{100 * report.head.own:.1f} %, in fp32 {100 * report.head.fp32:.1f} %, of 20 items",
        "first",
        "serve it: headwater serve layers@int8",
    ):
        assert shown in done.stdout
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    (row,) = (row for row in installed_rows() if row[0] == "layers@int8")
    assert f"int8, {report.fidelity.mean_cosine:.4f}" in row
    with pytest.raises(ExportError, match=r"Worst layers \(1 - cosine, each alone\): first"):
        export("layers", precision="int8", calibrate=str(arrays), floor=1)
    assert read_spec(tmp_path / "backbones" / "layers@int8").report == report


def test_flags_of_a_precision_need_one(home: Path) -> None:
    write_tiny_layers(home / "backbones" / "layers")
    with pytest.raises(DataInvalid, match="name it with --precision"):
        export("minilm-l6", floor=0.9)
    with pytest.raises(DataInvalid, match="their columns and --floor are of another precision; name it with"):
        export("minilm-l6", label_column="topic")
    with pytest.raises(BackboneNotFound, match="no backbone 'none'"):
        export("none", precision="int8")
    with pytest.raises(DataInvalid, match="makes layers@int8 from the installed layers as it is"):
        export("layers", precision="int8", layers=["first"])
    with pytest.raises(ExportError, match="precision is ''"):
        export("layers", precision="")
    shutil.rmtree(home / "backbones" / "layers")
