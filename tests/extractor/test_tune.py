"""Tuning: what is measured, what is refused, and what is only proposed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extractor import Extractor
from extractor.backbone import Backbone
from extractor.comparison import embed_alone, measure_fidelity
from extractor.errors import TuneError, UndecodableItem
from extractor.fidelity import Floor
from extractor.plan import Plan, default_plan
from extractor.prepare import load_prepare
from extractor.recipes import MODALITIES
from extractor.spec import read_spec
from extractor.tune.candidates import candidates
from extractor.tune.items import load_items
from extractor.tune.search import Goal, tune
from extractor.tune.speed import Speed, measure_speed, medians
from tests.runtimes import HAS_BF16, needs_bf16
from tests.tiny import SIZE, flat, png, write_batch_dependent, write_tiny_dense

IMAGES = [png(flat(i, 2 * i, 200 - i)) for i in range(40)]


def squares(n: int) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for i in range(n)]


def test_a_session_that_mixes_batch_mates_is_refused(tmp_path: Path, tiny_image: Path) -> None:
    folder = write_batch_dependent(tmp_path / "mixing")
    arrays = squares(16)
    for place, refused in ((folder, True), (tiny_image, False)):
        backbone = Backbone.load(place, read_spec(place))
        fidelity = measure_fidelity(backbone, arrays, embed_alone(backbone, arrays))
        assert (fidelity.min_cosine, fidelity.neighbours) == (pytest.approx(1), 1)
        assert ("depend on batch-mates" in Floor().misses(fidelity)) is refused
    with pytest.raises(TuneError, match="no plan in fp32 can be offered"):
        tune(folder, IMAGES, Goal(), seconds=0)


def test_fidelity_is_what_it_says(tiny_image: Path) -> None:
    backbone = Backbone.load(tiny_image, read_spec(tiny_image))
    arrays = squares(4)
    reference = np.eye(4, 3, dtype=np.float32)[[0, 1, 2, 2]]
    fidelity = measure_fidelity(backbone, arrays, reference)
    rows = np.stack([array.mean((0, 1)) for array in arrays])
    cosines = [row @ other / np.linalg.norm(row) for row, other in zip(rows, reference, strict=True)]
    assert fidelity.mean_cosine == pytest.approx(np.mean(cosines), abs=1e-6)
    assert fidelity.min_cosine == pytest.approx(min(cosines), abs=1e-6)
    assert "mean cosine 0." in Floor().misses(fidelity)


def test_the_report_names_the_best_of_its_own_precision_and_only_proposes_others(tmp_path: Path) -> None:
    folder = write_tiny_dense(tmp_path / "dense")
    before = sorted(path.name for path in folder.iterdir())
    shares = []
    report = tune(folder, IMAGES, Goal(), seconds=0, progress=lambda share, _step: shares.append(share))
    assert report.best.candidate.precision == "fp32"
    assert report.best.items_per_s > 0
    assert not report.best.refused
    assert {row.candidate.precision for row in report.rows} == ({"fp32", "bf16"} if HAS_BF16 else {"fp32"})
    assert all(row.rounds for row in report.rows if not row.refused)
    assert {row.candidate.precision for row in report.proposals} <= {"bf16"}
    assert sorted(path.name for path in folder.iterdir()) == before
    assert shares == sorted(shares)
    assert shares[-1] == 1


@needs_bf16
def test_a_precision_below_the_floor_is_refused_with_its_reason(tmp_path: Path) -> None:
    floor = Floor(min_cosine=0.9999999)
    report = tune(write_tiny_dense(tmp_path / "dense"), IMAGES, Goal(floor=floor), seconds=0)
    refused = [row for row in report.rows if row.candidate.precision == "bf16"]
    assert refused
    assert all("min cosine 0.9999" in row.refused and not row.rounds for row in refused)
    assert report.proposals == []


@needs_bf16
@pytest.mark.parametrize(("name", "modality"), [("efficientnet-lite0", "image"), ("minilm-l6", "text")])
def test_bf16_of_the_built_in_backbones_meets_the_floor(backbones: Path, name: str, modality: str) -> None:
    folder = backbones / name
    spec = read_spec(folder)
    prepare = load_prepare(spec, folder)
    arrays = [prepare(item).array for item in load_items(modality)[:48]]
    reference = embed_alone(Backbone.load(folder, spec), arrays)
    bf16 = Backbone.load(folder, replace(spec, precision="bf16"), Plan(runtime="openvino"))
    fidelity = measure_fidelity(bf16, arrays, reference)
    assert Floor().misses(fidelity) == ""
    assert fidelity.mean_cosine < 0.999999  # it is not fp32 by another name


def test_a_p99_that_none_meets_is_an_error_that_names_the_least(tiny_image: Path) -> None:
    with pytest.raises(TuneError, match=r"p99 of 0.001 ms with 32 callers, the least is \d+ ms; name a longer one"):
        tune(tiny_image, IMAGES, Goal(p99_ms=0.001), seconds=0)


def test_a_bad_item_is_an_error(tiny_image: Path) -> None:
    with pytest.raises(UndecodableItem):
        tune(tiny_image, [*IMAGES, b"no image"], Goal(), seconds=0)


def test_candidates_have_the_precision_and_no_two_are_the_same() -> None:
    available = {"onnxruntime": {"cuda": ("fp32",), "cpu": ("fp32",)}, "openvino": {"cpu": ("fp32", "bf16")}}
    for modality in MODALITIES:
        fp32 = candidates(modality, "fp32", available)
        bf16 = candidates(modality, "bf16", available)
        assert len(set(fp32)) == len(fp32)
        assert default_plan(modality, "cpu") in [one.plan for one in fp32]
        assert {(one.plan.runtime, one.plan.provider) for one in fp32} == {
            ("onnxruntime", "cuda"),
            ("onnxruntime", "cpu"),
            ("openvino", "cpu"),
        }
        assert {(one.precision, one.plan.runtime) for one in bf16} == {("bf16", "openvino")}


def test_speed_is_measured_through_the_whole_path(tiny_image: Path) -> None:
    with Extractor.load(tiny_image, plan=Plan(workers=2)) as extractor:
        speed = measure_speed(extractor, IMAGES, callers=8, seconds=0.2)
        assert speed.items_per_s > 10
        assert 0 < speed.p50_ms <= speed.p99_ms
        assert speed.cpu_ms > 0
        with pytest.raises(UndecodableItem):
            measure_speed(extractor, [b"no image"], callers=1, seconds=0.1)


def test_a_disturbed_round_does_not_count() -> None:
    rounds = [Speed(items_per_s=n, p50_ms=n, p99_ms=n, cpu_ms=n) for n in (10, 11, 500)]
    assert medians(rounds) == rounds[1]


def test_items_are_built_in_or_ones_own(tmp_path: Path, tiny_text: Path) -> None:
    for modality in ("image", "text", "audio"):
        items = load_items(modality)
        assert items == load_items(modality)
        assert len(set(items)) == len(items) >= 60
    path = tmp_path / "texts.txt"
    path.write_text("one\n\ntwo\none\n")
    with pytest.raises(TuneError, match="has 2 different items; it takes at least 8"):
        load_items("text", path)
    path.write_text("\n".join(map(str, range(9))))
    assert load_items("text", path) == [str(i).encode() for i in range(9)]
    (tmp_path / "photos").mkdir()
    for i, item in enumerate(IMAGES[:8]):
        (tmp_path / "photos" / f"{i}.png").write_bytes(item)
    assert load_items("image", tmp_path / "photos") == IMAGES[:8]
    with pytest.raises(TuneError, match="is no folder"):
        load_items("image", path)
    with pytest.raises(TuneError, match="modality array takes its own items: name their folder with --items"):
        load_items("array")
