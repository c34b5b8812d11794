"""A backbone and a head in one ONNX file, run by plain onnxruntime, against the two steps."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.svm import SVC

from classifiers.head import SINGLE, Calibration, Head, Rejection
from classifiers.heads import LogisticHead
from classifiers.persist import Manifest, load_head, save_head
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted
from extractor import Extractor
from extractor.backbone import collate
from extractor.errors import BackboneChanged, BackboneInvalid
from extractor.prepare import load_prepare
from extractor.spec import MODEL_FILE, TOKENIZER_FILE, read_spec, sha256, write_spec
from headwater import fuse as module
from headwater.errors import HeadNotExported
from headwater.fuse import fuse
from headwater.onnx_head import export
from tests.tiny import flat, noise, npy, png, wav, write_tiny_dense

TOLERANCE = 1e-5
COLOURS = [flat(*colour) for colour in np.random.default_rng(0).integers(0, 256, (24, 3)).tolist()]
IMAGES = [png(array) for array in COLOURS]
IMAGE_LABELS = [("red", "green", "blue")[int(array[0, 0].argmax())] for array in COLOURS]
TEXTS = [b"red", b"green cat", b"blue", b"red green", b"cat", b"dog dog", b"cat dog", b"red dog blue cat green"]
TEXT_LABELS = ["colour"] * 4 + ["pet"] * 4


def manifest(backbone: Path) -> Manifest:
    spec = read_spec(backbone)
    return Manifest(backbone=spec.name, fingerprint=spec.fingerprint, dim=spec.dim, created="2026-01-31T12:00:00+00:00")


def embeddings(backbone: Path, items: list[bytes]) -> np.ndarray:
    with Extractor.load(backbone) as extractor:
        return extractor.extract(items)


def trained(backbone: Path, items: list[bytes], labels: list[str], folder: Path) -> Path:
    save_head(folder, LogisticHead().fit(embeddings(backbone, items), labels).head(), manifest(backbone))
    return folder


def run(file: Path, backbone: Path, items: list[bytes]) -> dict[str, np.ndarray]:
    """What somebody does who has the file alone; only preparing is ours."""
    spec = read_spec(backbone)
    prepare = load_prepare(spec, backbone)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, collate(spec, [prepare(item).array for item in items]))
    return dict(zip([output.name for output in session.get_outputs()], found, strict=True))


def metadata(file: Path) -> dict[str, str]:
    facts: dict[str, str] = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    return facts


def assert_two_steps(file: Path, backbone: Path, folder: Path, items: list[bytes]) -> None:
    head, _ = load_head(folder)
    X = embeddings(backbone, items)
    found = run(file, backbone, items)
    np.testing.assert_allclose(found["probabilities"], head.predict_proba(X), atol=TOLERANCE)
    np.testing.assert_array_equal(head.classes_[found["label"]], head.predict(X))
    labels = json.loads(metadata(file)["labels"])
    assert [labels[i] for i in found["label"]] == head.predict(X).tolist()
    for size in (1, 7):
        some = run(file, backbone, items[:size])["probabilities"]
        np.testing.assert_allclose(some, found["probabilities"][:size], atol=TOLERANCE)


def test_images_in_and_labels_out(tiny_image: Path, tmp_path: Path) -> None:
    folder = trained(tiny_image, IMAGES, IMAGE_LABELS, tmp_path / "colours")
    assert fuse(tiny_image, folder, tmp_path / "colours.onnx") <= TOLERANCE
    assert_two_steps(tmp_path / "colours.onnx", tiny_image, folder, IMAGES)
    facts = metadata(tmp_path / "colours.onnx")
    spec = read_spec(tiny_image)
    assert json.loads(facts["labels"]) == ["blue", "green", "red"]
    assert json.loads(facts["preprocess"]) == json.loads(json.dumps(dataclasses.asdict(spec.preprocess)))
    assert (facts["modality"], facts["fingerprint"], facts["head"]) == ("image", spec.fingerprint, "colours")
    assert "tokenizer_sha256" not in facts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["colours", "colours.onnx"]


@pytest.mark.parametrize("kind", ["tiny_array", "tiny_series", "tiny_audio"])
def test_arrays_and_sounds_in_and_labels_out(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    backbone = request.getfixturevalue(kind)
    draw = np.random.default_rng(0)
    if kind == "tiny_audio":
        items = [wav(noise(n, seed=n)) for n in (800, 1000, 8000, 900)]
    else:
        items = [npy(draw.normal(size=(2, 3) if kind == "tiny_array" else (4, 2))) for _ in range(4)]
    folder = trained(backbone, items, ["a", "a", "b", "b"], tmp_path / "head")
    assert fuse(backbone, folder, tmp_path / "fused.onnx") <= TOLERANCE
    assert_two_steps(tmp_path / "fused.onnx", backbone, folder, items)


def test_tokens_in_and_labels_out(tiny_text: Path, tmp_path: Path) -> None:
    folder = trained(tiny_text, TEXTS, TEXT_LABELS, tmp_path / "topics")
    assert fuse(tiny_text, folder, tmp_path / "topics.onnx") <= TOLERANCE
    assert_two_steps(tmp_path / "topics.onnx", tiny_text, folder, TEXTS)
    assert metadata(tmp_path / "topics.onnx")["tokenizer_sha256"] == sha256(tiny_text / TOKENIZER_FILE)
    session = onnxruntime.InferenceSession(tmp_path / "topics.onnx")
    assert {one.name: (one.type, one.shape) for one in session.get_inputs()} == {
        name: ("tensor(int64)", ["batch", "tokens"]) for name in ("input_ids", "attention_mask")
    }


def test_a_fitted_head_that_can_say_unknown(tmp_path: Path) -> None:
    backbone = write_tiny_dense(tmp_path / "tiny-dense")
    X = embeddings(backbone, IMAGES)
    preparation = Preparation.fit(X)
    scorer = Fitted(preparation, SVC(C=10.0).fit(preparation(X), IMAGE_LABELS), 3)
    head = Head(SINGLE, np.unique(IMAGE_LABELS), scorer, Calibration.temperature(0.5, 3), Rejection("energy", 2.4, "-"))
    save_head(tmp_path / "svm", head, manifest(backbone))
    fuse(backbone, tmp_path / "svm", tmp_path / "svm.onnx")
    assert_two_steps(tmp_path / "svm.onnx", backbone, tmp_path / "svm", IMAGES)
    found = run(tmp_path / "svm.onnx", backbone, IMAGES)
    np.testing.assert_array_equal(found["unknown"], head.is_unknown(X))
    np.testing.assert_allclose(found["known"], head.knowing(head.scores(X)), atol=TOLERANCE)


def changed(backbone: Path, **facts: Any) -> None:
    """Change a backbone's spec, and its model's hash to what it is now."""
    spec = read_spec(backbone)
    files = spec.files | {MODEL_FILE: sha256(backbone / MODEL_FILE)}
    write_spec(backbone, dataclasses.replace(spec, files=files, **facts))


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_a_backbone_of_another_opset_or_with_the_names_of_a_head(opset: int, tmp_path: Path) -> None:
    backbone = write_tiny_dense(tmp_path / "tiny-dense")
    model = onnx.load(backbone / MODEL_FILE)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"means": "embedding", "share": "probabilities"}.get(name, name) for name in names]
    if opset < 18:  # there the axes of a mean are an attribute
        mean = next(one for one in model.graph.node if one.op_type == "ReduceMean")
        del mean.input[1]
        mean.attribute.append(onnx.helper.make_attribute("axes", [1, 2]))
        model.graph.initializer.remove(next(one for one in model.graph.initializer if one.name == "axes"))
    model.opset_import[0].version = opset
    onnx.helper.set_model_props(model, {"labels": "of another"})
    onnx.save(model, backbone / MODEL_FILE)
    changed(backbone)
    folder = trained(backbone, IMAGES, IMAGE_LABELS, tmp_path / "colours")
    fuse(backbone, folder, tmp_path / "colours.onnx")
    assert_two_steps(tmp_path / "colours.onnx", backbone, folder, IMAGES)


def test_a_head_of_another_fingerprint_is_refused_with_both_named(tiny_image: Path, tmp_path: Path) -> None:
    folder = trained(tiny_image, IMAGES, IMAGE_LABELS, tmp_path / "colours")
    facts = json.loads((folder / "head.json").read_text())
    own = facts["fingerprint"]
    (folder / "head.json").write_text(json.dumps(facts | {"fingerprint": "ab" * 16}))
    with pytest.raises(BackboneChanged, match=rf"trained on tiny-image {'ab' * 16}, and tiny-image is {own}"):
        fuse(tiny_image, folder, tmp_path / "colours.onnx")
    (folder / "head.json").write_text(json.dumps(facts | {"backbone": "its former name"}))
    fuse(tiny_image, folder, tmp_path / "colours.onnx")  # a name takes no part


def test_a_precision_that_onnxruntime_has_not_is_refused(tmp_path: Path) -> None:
    backbone = write_tiny_dense(tmp_path / "tiny-dense")
    X = embeddings(backbone, IMAGES)
    changed(backbone, precision="bf16")
    save_head(tmp_path / "colours", LogisticHead().fit(X, IMAGE_LABELS).head(), manifest(backbone))
    with pytest.raises(HeadNotExported, match=r"is in bf16, and plain onnxruntime computes in fp32.*train a head"):
        fuse(backbone, tmp_path / "colours", tmp_path / "colours.onnx")
    assert not (tmp_path / "colours.onnx").exists()


def test_an_altered_backbone_is_refused(tmp_path: Path) -> None:
    backbone = write_tiny_dense(tmp_path / "tiny-dense")
    folder = trained(backbone, IMAGES, IMAGE_LABELS, tmp_path / "colours")
    with (backbone / MODEL_FILE).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BackboneInvalid, match="has SHA-256"):
        fuse(backbone, folder, tmp_path / "colours.onnx")
    changed_spec = read_spec(backbone)
    assert changed_spec.fingerprint == load_head(folder)[1].fingerprint


def test_a_file_that_is_not_the_two_steps_is_not_written(
    tiny_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(tiny_image, IMAGES, IMAGE_LABELS, tmp_path / "colours")
    other = LogisticHead(Cs=(1e-3,)).fit(embeddings(tiny_image, IMAGES), IMAGE_LABELS).head()
    true = module.head_graph
    monkeypatch.setattr(module, "head_graph", lambda _, **options: true(other, **options))  # a mistake in the graph
    with pytest.raises(HeadNotExported, match="nothing was written"):
        fuse(tiny_image, folder, tmp_path / "colours.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["colours"]


def test_more_than_one_file_holds_is_refused(tiny_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tiny_image, IMAGES, IMAGE_LABELS, tmp_path / "colours")
    for limit in (10, (tiny_image / MODEL_FILE).stat().st_size):
        monkeypatch.setattr(export, "MAX_BYTES", limit)
        with pytest.raises(HeadNotExported, match=r"one ONNX file holds \d+; ship backbone and head apart"):
            fuse(tiny_image, folder, tmp_path / "colours.onnx")


def headwater(*arguments: object, home: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "headwater", *map(str, arguments)]
    env = {**os.environ, "HEADWATER_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_the_commands_write_both_files_and_name_what_is_wrong(tiny_image: Path, tmp_path: Path) -> None:
    folder = trained(tiny_image, IMAGES, IMAGE_LABELS, tmp_path / "heads" / "colours" / "1")
    (folder.parent / "aliases.json").write_text(json.dumps({"production": 1}))
    done = headwater("fuse", tiny_image, "colours", tmp_path / "both.onnx", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "both.onnx: " in done.stdout
    assert "bytes, largest difference" in done.stdout
    assert_two_steps(tmp_path / "both.onnx", tiny_image, folder, IMAGES)
    done = headwater("heads", "export", "colours", tmp_path / "head.onnx", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(metadata(tmp_path / "head.onnx")["labels"]) == ["blue", "green", "red"]
    other = write_tiny_dense(tmp_path / "tiny-dense")
    done = headwater("fuse", other, "colours", tmp_path / "wrong.onnx", home=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: head 'colours@1' was trained on tiny-image")
    assert not (tmp_path / "wrong.onnx").exists()
