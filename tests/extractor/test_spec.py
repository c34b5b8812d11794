import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from extractor.errors import BackboneInvalid, BackboneNotFound
from extractor.recipes import ImagePreprocess, TextPreprocess, modality_of, parse_preprocess
from extractor.shelf import find_backbone, installed
from extractor.spec import FORMAT, Input, Spec, read_spec, verify_files, write_spec


@pytest.fixture
def spec(tiny_image: Path) -> Spec:
    return read_spec(tiny_image)


def test_a_spec_survives_the_disk(spec: Spec, tmp_path: Path) -> None:
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec
    assert read_spec(tmp_path).fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"modality": "text"},
        {"dim": 4},
        {"pooling": "max"},
        {"precision": "int8"},
        {"input": {}},
        {"preprocess": TextPreprocess(max_tokens=3)},
        {"files": {"model.onnx": "0" * 64}},
        {"files": {"model.onnx": "0" * 64, "tokenizer.json": "1" * 64}},
    ],
)
def test_the_fingerprint_covers_what_may_change_an_embedding(spec: Spec, change: dict) -> None:
    assert dataclasses.replace(spec, **change).fingerprint != spec.fingerprint


def test_the_fingerprint_covers_every_preprocessing_constant(spec: Spec) -> None:
    changes = {
        "size": 9,
        "crop_fraction": 0.5,
        "interpolation": "bicubic",
        "mean": (1.0,),
        "std": (2.0,),
        "recipe": "x/2",
    }
    fingerprints = {
        dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, **{key: value})).fingerprint
        for key, value in changes.items()
    }
    assert len(fingerprints - {spec.fingerprint}) == len(dataclasses.fields(spec.preprocess)) == len(changes)


def test_the_fingerprint_leaves_out_what_does_not(spec: Spec) -> None:
    files = {**spec.files, "golden.npz": "0" * 64}
    other = dataclasses.replace(spec, name="other", source="elsewhere", licence="MIT", files=files)
    assert other.fingerprint == spec.fingerprint


def test_fingerprints_that_are_in_use_stay_as_they_are() -> None:
    image = Spec(
        name="lite",
        modality="image",
        dim=1280,
        pooling="mean",
        precision="fp32",
        input={"image": Input("uint8", ("batch", 224, 224, 3))},
        preprocess=ImagePreprocess(
            size=224, crop_fraction=0.875, interpolation="bicubic", mean=(127.0,) * 3, std=(128.0,) * 3
        ),
        source="",
        licence="",
        files={"model.onnx": "0" * 64, "golden.npz": "1" * 64},
    )
    text = dataclasses.replace(
        image,
        modality="text",
        dim=384,
        precision="bf16",
        input=dict.fromkeys(("input_ids", "attention_mask"), Input("int64", ("batch", "tokens"))),
        preprocess=TextPreprocess(max_tokens=256),
        files={**image.files, "tokenizer.json": "2" * 64},
    )
    assert image.fingerprint == "d552b49a0592ee650a119e704104dd5e"
    assert text.fingerprint == "eef5a3321a1271b9afef248337007157"


@pytest.mark.parametrize("kind", ["tiny_array", "tiny_series", "tiny_audio"])
def test_every_modality_survives_the_disk(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    spec = read_spec(request.getfixturevalue(kind))
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec
    assert spec.modality == modality_of(spec.preprocess)


IMAGE = {"recipe": "squash/1", "size": 8, "crop_fraction": 1, "interpolation": "nearest", "mean": [1], "std": [1, 2, 3]}
LOG_MEL = {"recipe": "log-mel/1", "sample_rate": 16_000, "min_samples": 400, "max_samples": 16_000}


@pytest.mark.parametrize(
    ("modality", "facts", "message"),
    [
        ("array", {"recipe": "npy/1", "dtype": "complex64", "shape": [2]}, "dtype is 'complex64'"),
        ("array", {"recipe": "npy/1", "dtype": "int8", "shape": [2, "time"]}, "shape is 'time', not a positive"),
        ("array", {"recipe": "npy/1", "dtype": "int8", "shape": [0]}, "shape is 0"),
        ("array", {"recipe": "npy/1", "dtype": "int8", "shape": ["t"], "min_length": 9, "max_length": 8}, "more than"),
        ("array", {"recipe": "waveform/1"}, "'waveform/1', not one of"),
        ("audio", {"recipe": "waveform/1", "sample_rate": 0, "max_samples": 1}, "sample_rate is 0"),
        ("audio", {"recipe": "waveform/1", "sample_rate": 1, "max_samples": 1, "too_short": "x"}, "too_short is 'x'"),
        ("audio", {"recipe": "waveform/1", "sample_rate": 1, "max_samples": 1, "unit_variance": 1}, "neither true"),
        ("audio", {"recipe": "waveform/1", "sample_rate": 1}, "max_samples"),
        ("audio", {**LOG_MEL, "f_max": 8001}, "half of sample_rate"),
        ("audio", {**LOG_MEL, "min_samples": 399}, "less than one frame, 400"),
        ("audio", {**LOG_MEL, "win_length": 401}, "win_length is 401, more than n_fft"),
        ("audio", {**LOG_MEL, "floor": 0}, "floor is 0"),
        ("audio", {**LOG_MEL, "preemphasis": 1}, "preemphasis is 1"),
        ("audio", {**LOG_MEL, "log": "log2"}, "log is 'log2'"),
        ("audio", {**LOG_MEL, "normalise": "yes"}, "normalise is 'yes'"),
        *[
            ("audio", {**LOG_MEL, name: value}, f"{name} is {value!r}, not a finite number")
            for name in ("preemphasis", "power", "f_min", "f_max", "floor", "dynamic_range", "offset", "scale")
            for value in ("x", None, True, float("nan"), float("inf"))
        ],
        ("audio", {**LOG_MEL, "dynamic_range": -8.0}, "dynamic_range -8.0; take numbers above 0"),
        ("image", {**IMAGE, "mean": 127.5}, "mean is 127.5, not one number or three"),
        ("image", {**IMAGE, "mean": ["a"]}, "mean is 'a', not a finite number"),
        ("image", {**IMAGE, "mean": []}, r"mean is \(\), not one number or three"),
        ("image", {**IMAGE, "std": [1.0, 2.0]}, r"std is \(1.0, 2.0\), not one number or three"),
        ("image", {**IMAGE, "std": [1.0, 0.0, 1.0]}, "take numbers above 0"),
        ("image", {**IMAGE, "std": [1.0, float("inf"), 1.0]}, "std is inf, not a finite number"),
        ("image", {**IMAGE, "crop_fraction": "x"}, "crop_fraction is 'x', not a finite number"),
        ("audio", {**LOG_MEL, "mel_scale": "none"}, "n_mels is 80, n_fft of 400 has 201 bins"),
    ],
)
def test_recipes_are_checked(modality: str, facts: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        parse_preprocess(modality, facts)


def edited(edit: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        facts = json.loads((folder / "spec.json").read_text())
        edit(facts)
        (folder / "spec.json").write_text(json.dumps(facts))

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.update(format=FORMAT + 1), rf"format {FORMAT + 1}, this version reads up to {FORMAT}"),
        (lambda f: f.pop("format"), "format is None"),
        (lambda f: f.update(modality="smell"), "'smell', not one of"),
        (lambda f: f["preprocess"].update(recipe="center-crop/9"), "'center-crop/9', not one of"),
        (lambda f: f["preprocess"].update(colour=1), "preprocess has no 'colour' in [a-z0-9/-]+, only size, crop"),
        (lambda f: [f["preprocess"].pop(one) for one in ("size", "mean")], "preprocess lacks 'size', 'mean' of"),
        (lambda f: f.update(dim="3"), "'3', not a positive integer"),
        (lambda f: f.update(dim=True), "True, not a positive integer"),
        (lambda f: f.update(precision="fp8"), "'fp8', not one of"),
        (lambda f: f["preprocess"].update(interpolation="hamming"), "'hamming', not one of"),
        (lambda f: f["preprocess"].update(crop_fraction=5), "5, not above 0"),
        (lambda f: f["preprocess"].update(size="224"), "'224', not a positive integer"),
        (lambda f: f.update(input=[1]), "malformed"),
        (lambda f: f["input"].update(more=f["input"]["image"]), "one holds the items"),
        (lambda f: f.pop("licence"), "licence"),
        (lambda f: f.update(surprise=1), "surprise"),
        (lambda f: f["files"].pop("model.onnx"), "does not list model.onnx"),
        (lambda f: f["files"].update({"../../etc/passwd": "0"}), "another folder"),
    ],
)
def test_a_malformed_spec_is_refused_with_its_reason(
    tiny_image: Path, tmp_path: Path, edit: Callable[[dict], None], message: str
) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "copy")
    edited(edit)(folder)
    with pytest.raises(BackboneInvalid, match=message):
        read_spec(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_spec_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(BackboneInvalid):
        read_spec(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_file_that_does_not_match_its_hash_is_refused(tiny_image: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_image, tmp_path / "copy")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BackboneInvalid, match=rf"{name} has SHA-256 [0-9a-f]{{64}}, its spec says"):
        verify_files(folder, read_spec(folder))
    (folder / name).unlink()
    with pytest.raises(BackboneInvalid, match=f"{name} is missing"):
        verify_files(folder, read_spec(folder))


def test_backbones_are_found_by_name_or_folder(tiny_image: Path, home: Path) -> None:
    shutil.copytree(tiny_image, home / "backbones" / "found-by-name")
    try:
        assert find_backbone("found-by-name") == home / "backbones" / "found-by-name"
        assert home / "backbones" / "found-by-name" in installed()
        assert find_backbone(tiny_image) == find_backbone(str(tiny_image)) == tiny_image
        with pytest.raises(BackboneNotFound, match=r"'nope'.*found-by-name.*headwater export nope"):
            find_backbone("nope")
        with pytest.raises(BackboneNotFound, match=r"no spec\.json"):
            find_backbone(home)
    finally:
        shutil.rmtree(home / "backbones" / "found-by-name")
