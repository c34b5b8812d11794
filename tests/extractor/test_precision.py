"""Other precisions: what is kept in fp32, what is refused and with which layers, and what the report says."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from extractor import Extractor
from extractor.backbone import Backbone, collate
from extractor.comparison import embed_alone, fidelity_of
from extractor.derive import Terms, derive
from extractor.errors import BackboneInvalid, ExportError, RuntimeMissing, UndecodableItem
from extractor.export import export
from extractor.fidelity import HeadAccuracy
from extractor.golden import cosines_of, read_golden, tolerance_of
from extractor.plan import Plan
from extractor.precision.fp16 import Fp16
from extractor.precision.int8 import Int8
from extractor.prepare import load_prepare
from extractor.proof import Proof
from extractor.spec import MODEL_FILE, PRECISIONS, WEIGHTS_FILE, read_spec, sha256, verify_files, write_spec
from extractor.tune.search import Goal, tune
from extractor.zoo.choice import Choice
from tests.runtimes import needs_bf16
from tests.tiny import (
    SIZE,
    flat,
    layers_item,
    npy,
    png,
    write_batch_dependent,
    write_tiny_array,
    write_tiny_convs,
    write_tiny_layers,
)

CALIBRATION = [npy(layers_item(seed)) for seed in range(100, 148)]
HELD = [npy(layers_item(seed)) for seed in range(200, 240)]
TERMS = Terms(held=HELD, calibration=CALIBRATION)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    return write_tiny_layers(tmp_path / "layers")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_worst_layer_stays_in_fp32_and_the_report_says_so(layers: Path, tmp_path: Path) -> None:
    before = read_spec(layers)
    steps: list[str] = []

    def judge(reference: np.ndarray, own: np.ndarray) -> HeadAccuracy:
        return HeadAccuracy(n_items=len(own), fp32=1.0, own=float(cosines_of(reference, own).mean()))

    made = derive(
        layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, judge=judge), progress=steps.append
    )
    spec = read_spec(made)
    report = spec.report
    assert report is not None
    assert (spec.name, spec.precision) == ("layers@int8", "int8")
    assert report.kept_fp32 == ("first",)
    assert report.n_calibrated == len(CALIBRATION)
    assert report.fidelity.n_items == len(HELD)
    assert 0.995 == report.floor <= report.fidelity.mean_cosine < 0.999999
    assert -1 <= report.fidelity.min_cosine <= report.fidelity.mean_cosine
    assert report.head == HeadAccuracy(n_items=len(HELD), fp32=1.0, own=report.fidelity.mean_cosine)
    assert {"calibrating on 48 items", "layer 4 of 4 alone in int8"} <= set(steps)
    verify_files(made, spec)
    assert spec.fingerprint not in (before.fingerprint, dataclasses.replace(before, precision="int8").fingerprint)
    assert read_spec(layers) == before
    verify_files(layers, before)
    operators = [node.op_type for node in onnx.load(made / MODEL_FILE).graph.node]
    assert operators.count("MatMul") == 4
    assert "QuantizeLinear" in operators
    with Extractor.load(made) as extractor:
        assert str(extractor.backbone).startswith("onnxruntime cpu int8, ")
        assert extractor.extract(HELD).shape == (len(HELD), 16)


def test_the_same_items_make_the_same_backbone(layers: Path, tmp_path: Path) -> None:
    first, second = (derive(layers, "int8", tmp_path / name, terms=TERMS) for name in ("one", "two"))
    assert read_spec(first) == read_spec(second)


def test_batch_mates_change_nothing(layers: Path, tmp_path: Path) -> None:
    for precision in ("int8", "fp16"):
        made = derive(layers, precision, tmp_path / precision, terms=TERMS)
        backbone = Backbone.load(made, read_spec(made))
        arrays = [layers_item(seed) * 10 ** (seed % 4) for seed in range(32)]  # mates beyond what was calibrated, too
        alone = embed_alone(backbone, arrays)
        order = np.random.default_rng(0).permutation(len(arrays))
        for size in (2, 7, 32):
            for rows in (order[start : start + size] for start in range(0, len(order), size)):
                assert cosines_of(backbone.forward([arrays[row] for row in rows]), alone[rows]).min() > 0.999999


def test_a_missed_floor_names_the_worst_layers_and_leaves_nothing(layers: Path, tmp_path: Path) -> None:
    before = left(tmp_path)
    with pytest.raises(ExportError) as caught:
        derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, floor=1.0))
    message = str(caught.value)
    assert message.startswith("layers@int8 is not made: on 40 held items its mean cosine to fp32 is 0.")
    assert "with the worst 2 of 4 layers in fp32, below 1. Worst layers (1 - cosine, each alone): first " in message
    assert "lower the floor, or calibrate on more items like yours" in message
    assert left(tmp_path) == before


def test_a_lower_floor_takes_the_whole_network(tmp_path: Path) -> None:
    layers = write_tiny_layers(tmp_path / "layers", large=100)
    made = derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, floor=0.0))
    report = read_spec(made).report
    assert report is not None
    assert report.kept_fp32 == ()
    assert 0 < report.fidelity.mean_cosine < 0.995


def test_fp16_is_near_and_what_has_no_room_in_it_is_refused(layers: Path, tmp_path: Path) -> None:
    terms = Terms(held=HELD)
    made = derive(layers, "fp16", tmp_path / "new", terms=terms)
    spec = read_spec(made)
    assert spec.report is not None
    assert spec.report.fidelity.mean_cosine > 0.99999
    assert spec.report.n_calibrated == 0
    assert {tensor.data_type for tensor in onnx.load(made / MODEL_FILE).graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert spec.input == read_spec(layers).input
    too_large = write_tiny_layers(tmp_path / "large", large=1e6)
    with pytest.raises(ExportError, match=r"in fp32, below 0.995. Worst layers .* each alone\): first inf"):
        derive(too_large, "fp16", tmp_path / "newer", terms=terms)


def test_what_is_kept_has_its_weights_in_fp32(layers: Path) -> None:
    kinds = {
        tensor.name: tensor.data_type for tensor in Fp16.load(layers / MODEL_FILE).graph(["second"]).graph.initializer
    }
    assert kinds["second_weights"] == onnx.TensorProto.FLOAT
    assert kinds["first_weights"] == kinds["third_weights"] == onnx.TensorProto.FLOAT16


def test_what_batch_mates_change_is_refused(tmp_path: Path) -> None:
    folder = write_batch_dependent(tmp_path / "dependent")
    held = [png(flat(*colour)) for colour in np.random.default_rng(0).integers(0, 256, (20, 3)).tolist()]
    with pytest.raises(
        ExportError, match=r"dependent@fp16 is not made: its embeddings depend on batch-mates \(cosine 0"
    ):
        derive(folder, "fp16", tmp_path / "new", terms=Terms(held=held))
    assert left(tmp_path) == ["dependent"]


def test_weights_that_were_changed_are_not_made_into_another_precision(layers: Path, tmp_path: Path) -> None:
    content = (layers / MODEL_FILE).read_bytes()
    (layers / MODEL_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BackboneInvalid, match=r"has SHA-256 .*the file was changed or cut short"):
        derive(layers, "int8", tmp_path / "new", terms=TERMS)
    assert left(tmp_path) == ["layers"]


@needs_bf16
def test_bf16_has_a_report_too_and_a_refusal_its_layers(layers: Path, tmp_path: Path) -> None:
    made = derive(layers, "bf16", tmp_path / "new", terms=Terms(held=HELD))
    spec = read_spec(made)
    assert spec.report is not None
    assert 0.999 < spec.report.fidelity.mean_cosine < 1
    assert spec.files == read_spec(layers).files
    with pytest.raises(ExportError, match=r"below 1. Worst layers \(1 - cosine, each alone\): \w+ \d"):
        derive(layers, "bf16", tmp_path / "newer", terms=Terms(held=HELD, floor=1.0))
    verify_files(layers, read_spec(layers))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (None, "int8 takes its ranges from items"),
        (Terms(held=HELD), "int8 takes its ranges from items"),
        (dataclasses.replace(TERMS, floor=1.5), r"the floor is 1.5, .* 0.995 is the default"),
        (dataclasses.replace(TERMS, floor=float("nan")), "the floor is nan"),
        (dataclasses.replace(TERMS, held=HELD[:3]), "there are 3 held items, and it takes at least 16"),
        (dataclasses.replace(TERMS, held=[*HELD, CALIBRATION[0]]), "1 of the held items are calibrated on too"),
    ],
)
def test_terms_that_are_none(layers: Path, tmp_path: Path, terms: Terms | None, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        derive(layers, "int8", tmp_path / "new", terms=terms)
    assert left(tmp_path) == ["layers"]


def test_an_item_that_cannot_be_read_is_named_and_nothing_is_left(layers: Path, tmp_path: Path) -> None:
    broken = [*CALIBRATION[:5], b"no array", *CALIBRATION[5:]]
    with pytest.raises(UndecodableItem, match="calibration item 5: "):
        derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, calibration=broken))
    with pytest.raises(UndecodableItem, match="held item 40: "):
        derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, held=[*HELD, b"no array"]))
    assert left(tmp_path) == ["layers"]


def test_what_is_prepared_as_a_held_item_is_not_calibrated_on(layers: Path, tmp_path: Path) -> None:
    def again(item: bytes) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.load(io.BytesIO(item)), version=(2, 0))
        return buffer.getvalue()

    alike = [again(item) for item in HELD]
    assert not set(alike) & set(HELD)
    made = derive(
        layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, calibration=[*alike, *CALIBRATION])
    )
    report = read_spec(made).report
    assert report is not None
    assert report.n_calibrated == len(CALIBRATION)
    assert read_spec(derive(layers, "int8", tmp_path / "plain", terms=TERMS)) == read_spec(made)
    with pytest.raises(ExportError, match="every item to calibrate on is, once prepared, a held one"):
        derive(layers, "int8", tmp_path / "newer", terms=dataclasses.replace(TERMS, calibration=alike))


def test_what_no_bits_can_be_taken_from_is_not_called_int8(tmp_path: Path) -> None:
    array = write_tiny_array(tmp_path / "array")
    first, second = ([npy(np.full((2, 3), seed, np.float32)) for seed in seeds] for seeds in (range(20), range(20, 40)))
    with pytest.raises(ExportError, match="array@int8 is not made: no layer has weights"):
        derive(array, "int8", tmp_path / "new", terms=Terms(held=first, calibration=second))
    assert left(tmp_path) == ["array"]


def brought(folder: Path, dtype: str, opset: int) -> Path:
    """One product by weights, as an ONNX file, and the backbone of it."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {opset}]> g ({dtype}[n,4] x) => (y) {{ y = MatMul(x, w) }}"""
    )
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype({"float": np.float32, "double": np.float64}[dtype])
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, folder / "dense.onnx")
    return export(f"onnx:{folder / 'dense.onnx'}", folder / "dense", choice=Choice(layers=["y"]))


@pytest.mark.parametrize(
    ("dtype", "opset", "precision", "said"),
    [
        ("double", 17, "int8", "no layer has weights that 8 bits could hold"),
        ("double", 17, "fp16", "the graph computes in float64, which fp16 cannot be made of; bring it in float32"),
        ("float", 12, "int8", "of opset 12, and weights with a scale for each channel take 13: export the network ag"),
    ],
)
def test_what_would_stay_as_it_is_has_no_other_precision(
    tmp_path: Path, dtype: str, opset: int, precision: str, said: str
) -> None:
    dense = brought(tmp_path, dtype, opset)
    draw = np.random.default_rng(1)
    items = [npy(draw.normal(size=4).astype(np.float32)) for _ in range(40)]
    terms = Terms(held=items[:20], calibration=items[20:] if precision == "int8" else ())
    with pytest.raises(ExportError, match=said):
        derive(dense, precision, tmp_path / "new", terms=terms)
    assert left(tmp_path) == ["dense", "dense.onnx"]


def test_a_graph_of_which_all_is_kept_stays_as_it_is(layers: Path, tmp_path: Path) -> None:
    batches = ({"array": layers_item(seed)[None]} for seed in range(20))
    caster = Int8.calibrate(layers / MODEL_FILE, batches, tmp_path)
    assert {node.op_type for node in caster.graph(caster.layers).graph.node} == {"Mul", "MatMul"}


def test_a_precision_whose_proof_would_prove_nothing_is_not_made(tmp_path: Path) -> None:
    layers = write_tiny_layers(tmp_path / "layers", large=1e5)
    with pytest.raises(ExportError, match=r"least cosine to the golden embeddings is .*, below 0.6, and would prove"):
        derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, floor=-1))
    assert left(tmp_path) == ["layers"]


def test_what_fails_in_a_head_is_not_blamed_on_the_graph(layers: Path, tmp_path: Path) -> None:
    def judge(_reference: object, _own: object) -> HeadAccuracy:
        raise ValueError("a head's own")

    with pytest.raises(ValueError, match="a head's own"):
        derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, judge=judge))
    assert left(tmp_path) == ["layers"]


def test_a_strangers_folder_is_refused_before_the_work(layers: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    steps: list[str] = []
    with pytest.raises(ExportError, match=r"holds 'cat.jpg', which is no part of a backbone"):
        derive(layers, "int8", tmp_path / "photos", terms=TERMS, progress=steps.append)
    assert steps == []
    assert left(tmp_path) == ["layers", "photos"]


def test_of_a_full_disk_both_places_are_named(layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from tests.extractor.test_precision import TERMS, derive\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "derive(Path(sys.argv[1]), 'int8', Path(sys.argv[2]), terms=TERMS)"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    done = subprocess.run(
        [sys.executable, "-c", code, layers, tmp_path / "new"], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"ExportError: {tmp_path / 'new'} cannot be written: File too large; free some space there" in done.stderr
    assert f"and in {scratch}, or choose another folder" in done.stderr
    assert left(tmp_path) == ["layers", "scratch"]
    assert list(scratch.glob("headwater-*")) == []


def test_cosines_are_at_most_1_and_zeros_are_alike() -> None:
    draw = np.random.default_rng(0).normal(size=(1000, 7))
    assert cosines_of(draw, draw).max() <= 1
    zeros = np.zeros((2, 7), np.float32)
    assert cosines_of(zeros, zeros).tolist() == [1, 1]
    assert cosines_of(zeros, draw[:2]).tolist() == [0, 0]
    for none in (np.nan, np.inf):
        assert np.isnan(cosines_of(np.full((1, 7), none), draw[:1])).all()


def test_an_interrupted_export_leaves_nothing(layers: Path, tmp_path: Path) -> None:
    def interrupt(_reference: object, _own: object) -> HeadAccuracy:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derive(layers, "int8", tmp_path / "new", terms=dataclasses.replace(TERMS, judge=interrupt))
    assert left(tmp_path) == ["layers"]


def test_a_session_may_stand_twice_as_far_as_when_it_was_made(layers: Path, tmp_path: Path) -> None:
    made = derive(layers, "int8", tmp_path / "new", terms=TERMS)
    spec = read_spec(made)
    assert spec.report is not None
    assert tolerance_of(spec).min_cosine == pytest.approx(2 * spec.report.golden_cosine - 1 - 1e-4)
    strict = dataclasses.replace(spec, report=dataclasses.replace(spec.report, golden_cosine=1.0))
    assert strict.fingerprint == spec.fingerprint
    with pytest.raises(BackboneInvalid, match=r"misses its golden embeddings: .* \(at least 0.9999\)"):
        Proof.load(strict, made).check(Backbone.load(made, strict))
    assert read_golden(made / "golden.npz").items == read_golden(layers / "golden.npz").items


def test_specs_with_a_report_have_a_format_of_their_own(layers: Path, tmp_path: Path) -> None:
    facts = json.loads((layers / "spec.json").read_text())
    assert facts["format"] == 1
    assert "report" not in facts
    made = derive(layers, "fp16", tmp_path / "new", terms=Terms(held=HELD))
    facts = json.loads((made / "spec.json").read_text())
    assert facts["format"] == 2
    write_spec(made, read_spec(made))
    assert json.loads((made / "spec.json").read_text()) == facts
    lax = {"golden_cosine": 0.5}  # twice as far is anywhere
    for wrong in (
        lax,
        {"golden_cosine": 7},
        {"n_calibrated": "many"},
        {"fidelity": {}},
        {"fidelity": None},
        {"floor": "high"},
        {"other": 1},
    ):
        (made / "spec.json").write_text(json.dumps({**facts, "report": {**facts["report"], **wrong}}))
        with pytest.raises(BackboneInvalid, match="malformed"):
            read_spec(made)
    (made / "spec.json").write_text(json.dumps({**facts, "precision": "fp32"}))
    with pytest.raises(BackboneInvalid, match=r"malformed .fp32 is what others are compared with"):
        read_spec(made)


def test_what_stays_in_fp32_is_not_quantised_again_by_the_runtime(tmp_path: Path) -> None:
    folder = write_tiny_convs(tmp_path / "convs")
    spec = dataclasses.replace(read_spec(folder), precision="int8")
    arrays = [np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for seed in range(24)]
    caster = Int8.calibrate(folder / MODEL_FILE, (collate(spec, [array]) for array in arrays), tmp_path)
    assert caster.layers == ("first", "middle", "last")
    onnx.save(caster.graph(["middle"]), folder / MODEL_FILE)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(folder / MODEL_FILE, options, providers=["CPUExecutionProvider"])
    expected = np.concatenate([plain.run(None, collate(spec, [array]))[0] for array in arrays])
    assert cosines_of(embed_alone(Backbone.load(folder, spec), arrays), expected).min() > 0.9999


@pytest.mark.stress
@pytest.mark.parametrize("name", ["efficientnet-lite0", "minilm-l6"])
def test_int8_of_the_built_in_backbones_meets_the_floor(backbones: Path, tmp_path: Path, name: str) -> None:
    from headwater.fidelity import terms_of

    folder = backbones / name
    made = derive(folder, "int8", tmp_path / "new", terms=terms_of(read_spec(folder).modality, "int8", floor=0.995))
    spec = read_spec(made)
    assert spec.report is not None
    assert spec.report.fidelity.mean_cosine >= 0.995
    assert 0 < len(spec.report.kept_fp32) <= 16
    assert spec.report.head is not None
    assert spec.report.head.own >= spec.report.head.fp32 - 0.05
    prepare = load_prepare(spec, made)
    golden = [prepare(item).array for item in read_golden(made / "golden.npz").items]
    backbone = Backbone.load(made, spec, Plan(threads=2))
    alone = embed_alone(backbone, golden)
    for size in (7, 32):
        rows = np.random.default_rng(size).integers(0, len(golden), size)
        assert cosines_of(backbone.forward([golden[row] for row in rows]), alone[rows]).min() > 0.99999


def test_there_is_a_tolerance_for_each_precision(layers: Path) -> None:
    spec = read_spec(layers)
    bounds = [tolerance_of(dataclasses.replace(spec, precision=precision)).min_cosine for precision in PRECISIONS]
    assert bounds == sorted(bounds, reverse=True)


def test_a_backbone_in_int8_is_tuned_as_it_is(layers: Path, tmp_path: Path) -> None:
    made = derive(layers, "int8", tmp_path / "new", terms=TERMS)
    report = tune(made, HELD, Goal(callers=2), seconds=0)
    assert report.best.candidate.precision == "int8"
    assert report.best.fidelity is not None
    assert report.best.fidelity.min_cosine == pytest.approx(1)
    assert report.proposals == []


@pytest.mark.parametrize("precision", ["int8", "fp16", pytest.param("bf16", marks=needs_bf16)])
def test_weights_beside_the_graph_are_read_and_never_written(layers: Path, tmp_path: Path, precision: str) -> None:
    model = onnx.load(layers / MODEL_FILE)
    onnx.save(model, layers / MODEL_FILE, save_as_external_data=True, location=WEIGHTS_FILE, size_threshold=100)
    spec = read_spec(layers)
    files = {**spec.files, **{name: sha256(layers / name) for name in (MODEL_FILE, WEIGHTS_FILE)}}
    write_spec(layers, dataclasses.replace(spec, files=files))
    made = derive(layers, precision, tmp_path / "new", terms=TERMS)
    assert (WEIGHTS_FILE in read_spec(made).files) is (precision == "bf16")
    verify_files(made, read_spec(made))
    verify_files(layers, read_spec(layers))
    with Extractor.load(made) as extractor:
        assert extractor.extract(HELD).shape == (len(HELD), 16)


def test_neighbours_are_those_that_brute_force_finds() -> None:
    draw = np.random.default_rng(0)
    wanted = draw.normal(size=(30, 5)).astype(np.float32)
    found = (wanted + 0.2 * draw.normal(size=wanted.shape)).astype(np.float32)
    fidelity = fidelity_of(found, wanted, [found[:], -found])

    def nearest(rows: np.ndarray, row: int) -> list[int]:
        cosines = rows @ rows[row] / np.linalg.norm(rows, axis=1)
        return [int(other) for other in np.argsort(-cosines) if other != row]

    pairs = [(nearest(found, row), nearest(wanted, row)) for row in range(30)]
    assert fidelity.n_items == 30
    assert fidelity.neighbours == pytest.approx(np.mean([own[0] == other[0] for own, other in pairs]))
    assert fidelity.neighbours_10 == pytest.approx(
        np.mean([len(set(own[:10]) & set(other[:10])) / 10 for own, other in pairs])
    )
    assert fidelity.batch_cosine == pytest.approx(-1)


def test_a_graph_beyond_what_the_tools_take_is_refused(
    layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extractor.derive.MAX_GRAPH_BYTES", 100)
    for precision in ("int8", "fp16"):
        with pytest.raises(ExportError, match=r"bytes, and onnxruntime turns at most 100 .* or take bf16"):
            derive(layers, precision, tmp_path / "new", terms=TERMS)
    assert left(tmp_path) == ["layers"]


def test_without_onnx_the_command_that_brings_it_is_named(
    layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("onnx", "extractor.precision.fp16", "extractor.precision.graphs"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RuntimeMissing, match=r"making fp16 takes onnx: pip install 'headwater\[export\]'"):
        derive(layers, "fp16", tmp_path / "new", terms=TERMS)
    assert left(tmp_path) == ["layers"]
