"""`onnx:FILE`: graphs of every kind of input, cut at any layer, against the files as they came; and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from extractor import Extractor, zoo
from extractor.errors import BackboneInvalid, BackboneNotFound, ExportError
from extractor.export import export
from extractor.golden import read_golden
from extractor.preprocess.log_mel import log_mel
from extractor.spec import read_spec
from extractor.zoo import onnx_model, onnx_save
from extractor.zoo.choice import Choice
from extractor.zoo.onnx_model import find_layer, layers, read_model
from tests.tiny import noise, npy, wav

FLOAT = TensorProto.FLOAT
MEL = {
    "recipe": "log-mel/1",
    "sample_rate": 8000,
    "min_samples": 400,
    "max_samples": 16_000,
    "n_mels": 8,
    "f_max": 4000.0,
}


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def write(
    path: Path,
    nodes: list,
    inputs: dict[str, tuple],
    weights: dict[str, np.ndarray],
    outputs: tuple[str, ...],
    *,
    opset: int = 17,
    **options: Any,
) -> Path:
    """Write a graph; inputs are (dtype, *shape)."""
    graph = helper.make_graph(
        nodes,
        "brought",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, *shape) in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    for one in graph.output:
        one.type.tensor_type.elem_type = FLOAT
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path, **options)
    return path


def policy(path: Path, batch: int | str = "batch", **options: Any) -> Path:
    """A policy network on observations (batch, 4): two hidden layers of 16 and 8, two actions."""
    nodes = [
        helper.make_node("Gemm", ["observation", "w1"], ["h1"], name="/layer1/Gemm"),
        helper.make_node("Tanh", ["h1"], ["a1"], name="/layer1/Tanh"),
        helper.make_node("Gemm", ["a1", "w2"], ["h2"], name="/layer2/Gemm"),
        helper.make_node("Tanh", ["h2"], ["a2"], name="/layer2/Tanh"),
        helper.make_node("Gemm", ["a2", "w3"], ["logits"], name="/head/Gemm"),
        helper.make_node("Softmax", ["logits"], ["actions"], name="/head/Softmax"),
    ]
    weights = {"w1": drawn(4, 16), "w2": drawn(16, 8, seed=1), "w3": drawn(8, 2, seed=2)}
    return write(path, nodes, {"observation": (FLOAT, batch, 4)}, weights, ("actions",), **options)


def planes(path: Path, *, opset: int = 17) -> Path:
    """A convolutional network on maps (batch, 3, 12, 12), its values named like inputs of ours."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["array"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["array"], ["image"], name="relu1"),
        helper.make_node("Conv", ["image", "w2"], ["conv2"], name="conv2", strides=[2, 2]),
        helper.make_node("Clip", ["conv2", "", "six"], ["relu6"], name="clip"),
        helper.make_node("GlobalAveragePool", ["relu6"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3"], ["classes"], name="classifier"),
    ]
    weights = {"w1": drawn(5, 3, 3, 3), "w2": drawn(6, 5, 3, 3), "w3": drawn(6, 10), "six": np.array(6, np.float32)}
    return write(path, nodes, {"x": (FLOAT, "n", 3, 12, 12)}, weights, ("classes",), opset=opset)


def wave_net(path: Path) -> Path:
    """A convolution over samples (batch, 1, samples), states (batch, 4, frames)."""
    nodes = [
        helper.make_node("Conv", ["audio", "w"], ["states"], name="conv", strides=[5]),
        helper.make_node("Relu", ["states"], ["activations"], name="relu"),
    ]
    return write(path, nodes, {"audio": (FLOAT, "n", 1, "t")}, {"w": drawn(4, 1, 11)}, ("activations",))


def masked_mean(path: Path) -> Path:
    """The mean of rows (batch, time, 3) over what a float mask keeps, and beside it the plain mean."""
    nodes = [
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "axis"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["masked"]),
        helper.make_node("ReduceMean", ["rows"], ["plain"], axes=[1], keepdims=0),
        helper.make_node("Add", ["masked", "plain"], ["both"]),
    ]
    inputs = {"rows": (FLOAT, "n", "t", 3), "mask": (FLOAT, "n", "t")}
    return write(path, nodes, inputs, {"last": np.array([2]), "axis": np.array([1])}, ("both",))


def jasper(path: Path) -> Path:
    """A convolution over a spectrogram (batch, 8, frames), and its lengths as int32, by which the sum is divided."""
    nodes = [
        helper.make_node("Conv", ["audio_signal", "w"], ["states"], pads=[1, 1]),
        helper.make_node("ReduceSum", ["states", "axis"], ["total"], keepdims=0),
        helper.make_node("Cast", ["length"], ["counts"], to=FLOAT),
        helper.make_node("Unsqueeze", ["counts", "last"], ["column"]),
        helper.make_node("Div", ["total", "column"], ["embedding"]),
    ]
    inputs = {"audio_signal": (FLOAT, "n", 8, "t"), "length": (TensorProto.INT32, "n")}
    weights = {"w": drawn(4, 8, 3), "axis": np.array([2]), "last": np.array([1])}
    return write(path, nodes, inputs, weights, ("embedding",))


def original(path: Path, values: list[str], **feed: np.ndarray) -> list[np.ndarray]:
    """What the file as it came gives for values inside it."""
    model = onnx.load(path)
    there = {one.name for one in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in values if name not in there)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(values, feed)


def test_a_policy_network_is_cut_before_its_last_layer(tmp_path: Path) -> None:
    path = policy(tmp_path / "cart pole!.onnx")
    folder = export(f"onnx:{path}", tmp_path / "out")
    spec = read_spec(folder)
    assert (spec.name, spec.modality, spec.dim, spec.pooling) == ("cart-pole", "array", 8, "none")
    assert (spec.input["array"].dtype, spec.input["array"].shape) == ("float32", ("batch", 4))
    assert spec.source.startswith("cart pole!.onnx; SHA-256 ")
    observations = np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32)
    with Extractor.load(folder) as extractor:
        X = extractor.extract(observations)
    (expected,) = original(path, ["a2"], observation=observations)
    np.testing.assert_allclose(X, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool"])
def test_graphs_of_every_dtype_take_arrays_of_it(tmp_path: Path, dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inside = TensorProto.DOUBLE if dtype == "float64" else FLOAT
    weights = drawn(4, 3).astype(helper.tensor_dtype_to_np_dtype(inside))
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=inside), helper.make_node("MatMul", ["f", "w"], ["y"])]
    path = write(tmp_path / "net.onnx", nodes, {"x": (kind, "n", 4)}, {"w": weights}, ("y",))
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = inside
    onnx.save(model, path)
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["y"]))
    items = np.random.default_rng(0).integers(0, 2, (5, 4)).astype(dtype)
    with Extractor.load(folder) as extractor:
        assert extractor.spec.input["array"].dtype == dtype
        np.testing.assert_allclose(extractor.extract(items), items @ weights, atol=1e-6)


def test_exporting_again_gives_the_same_fingerprint(tmp_path: Path) -> None:
    path = policy(tmp_path / "policy.onnx")
    first, again = (read_spec(export(f"onnx:{path}", tmp_path / name)) for name in ("a", "b"))
    assert first.fingerprint == again.fingerprint
    other = read_spec(export(f"onnx:{path}", tmp_path / "c", choice=Choice(layers=["a1"])))
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    ("chosen", "pooling", "dim"),
    [
        (["image"], None, 5),
        (["relu1"], "max", 5),
        (["conv2"], "flatten", 150),
        (["image", "relu6", "flat"], None, 17),
        (["penultimate"], None, 6),
        (["classes"], None, 10),
    ],
)
def test_any_layer_is_pooled_as_numpy_would(
    tmp_path: Path, opset: int, chosen: list[str], pooling: str | None, dim: int
) -> None:
    path = planes(tmp_path / "planes.onnx", opset=opset)
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=chosen, pooling=pooling))
    boards = np.random.default_rng(3).normal(size=(9, 3, 12, 12)).astype(np.float32)
    values = {"relu1": "image", "penultimate": "flat"}
    found = original(path, [values.get(name, name) for name in chosen], x=boards)
    pool = {None: lambda v: v.mean((2, 3)), "max": lambda v: v.max((2, 3)), "flatten": lambda v: v.reshape(9, -1)}
    expected = np.concatenate([one if one.ndim == 2 else pool[pooling](one) for one in found], axis=1)
    with Extractor.load(folder) as extractor:
        X = extractor.extract(boards)
    assert extractor.dim == dim
    np.testing.assert_allclose(X, expected, atol=1e-5)


def test_states_of_tokens_are_pooled(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["rows", "w"], ["states"])]
    path = write(tmp_path / "t.onnx", nodes, {"rows": (FLOAT, "n", "t", 3)}, {"w": drawn(3, 5)}, ("states",))
    arrays = [drawn(n, 3, seed=n) for n in (1, 4, 4, 9)]
    for pooling, pool in (("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0]), (None, lambda s: s.mean(0))):
        folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["states"], pooling=pooling))
        with Extractor.load(folder) as extractor:
            X = extractor.extract(arrays)
        weights = drawn(3, 5)
        np.testing.assert_allclose(X, [pool(one @ weights) for one in arrays], atol=1e-5)
    assert read_spec(folder).input["array"].shape == ("batch", "length", 3)


def test_images_come_as_bytes_and_are_normalised_in_the_graph(tmp_path: Path) -> None:
    path = planes(tmp_path / "planes.onnx")
    mean, std = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]
    choice = Choice(modality="image", preprocess={"mean": mean, "std": std})
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.input["image"].dtype, spec.input["image"].shape) == ("uint8", ("batch", 12, 12, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    normal = ((pixels - np.array(mean)) / std).transpose(2, 0, 1)[None].astype(np.float32)
    (expected,) = original(path, ["flat"], x=normal)
    with Extractor.load(folder) as extractor:
        cropped = extractor.extract([np.pad(pixels, ((1, 1), (1, 1), (0, 0)))])  # a crop of 0.875 of 14 pixels is near
        assert cropped.shape == expected.shape
    exact = export(
        f"onnx:{path}",
        tmp_path / "exact",
        choice=Choice(modality="image", preprocess={"mean": mean, "std": std, "crop_fraction": 1.0}),
    )
    with Extractor.load(exact) as extractor:
        np.testing.assert_allclose(extractor.extract([pixels]), expected, atol=1e-5)
    with pytest.raises(ExportError, match="say mean, std of the images, on the scale of 0 to 255"):
        export(f"onnx:{path}", tmp_path / "no", choice=Choice(modality="image"))


def test_a_network_of_bytes_normalises_images_itself(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    path = write(tmp_path / "bytes.onnx", nodes, {"x": (onnx.TensorProto.UINT8, "n", 3, 8, 8)}, {}, ("flat",))
    choice = Choice(modality="image", layers=["flat"], preprocess={"crop_fraction": 1.0})
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with Extractor.load(export(f"onnx:{path}", tmp_path / "out", choice=choice)) as extractor:
        np.testing.assert_allclose(extractor.extract([pixels]), pixels.mean((0, 1))[None], rtol=1e-5)
    for facts in ({"mean": [127.5]}, {"std": [58.0] * 3}, {"mean": [127.5], "std": [58.0]}):
        with pytest.raises(ExportError, match=r"'x' takes bytes, so .* would be heeded by nothing; leave"):
            zoo.build(f"onnx:{path}", replace(choice, preprocess=facts))


def test_a_network_of_samples_takes_sounds_of_any_length(tmp_path: Path) -> None:
    path = wave_net(tmp_path / "wave.onnx")
    choice = Choice(
        modality="audio",
        layers=["relu"],
        pooling="gap",
        scale=32_768.0,
        preprocess={"sample_rate": 8000, "min_samples": 100, "max_samples": 8000},
    )
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    sounds = [noise(n, seed=n) for n in (50, 300, 301, 300, 8000)]
    with Extractor.load(folder) as extractor:
        X = extractor.extract([wav(one) for one in sounds])
    for row, one in zip(X, sounds, strict=True):
        samples = np.pad(one, (0, max(0, 100 - len(one)))).astype(np.float32) * 32_768
        (states,) = original(path, ["activations"], audio=samples[None, None])
        np.testing.assert_allclose(row, states[0].mean(axis=1), rtol=1e-5)


def test_padding_is_shared_where_a_mask_makes_it_harmless(tmp_path: Path) -> None:
    path = masked_mean(tmp_path / "masked.onnx")
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["masked"], mask="mask", pads=True))
    spec = read_spec(folder)
    assert (spec.varies, spec.pads) == (True, True)
    arrays = [drawn(n, 3, seed=n) for n in range(1, 33)]
    with Extractor.load(folder, max_padding=0.9, workers=1) as extractor:
        direct = extractor.backbone.forward(arrays)
        X = extractor.extract(arrays)
    for found in (direct, X):
        np.testing.assert_allclose(found, [one.mean(axis=0) for one in arrays], atol=1e-5)


def test_padding_that_would_show_is_found_by_the_proof(tmp_path: Path) -> None:
    path = masked_mean(tmp_path / "masked.onnx")
    with pytest.raises(ExportError, match=r"differs from the original graph at a batch of 7.*nothing was written"):
        export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["both"], mask="mask", pads=True))
    assert [one.name for one in tmp_path.iterdir()] == ["masked.onnx"]
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["both"], mask="mask"))
    assert not read_spec(folder).pads
    arrays = [drawn(n, 3, seed=n) for n in (1, 5, 5, 9)]
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract(arrays), [2 * one.mean(axis=0) for one in arrays], atol=1e-5)


@pytest.mark.parametrize("pads", [False, True])
def test_a_spectrogram_stands_before_a_network_that_takes_one(tmp_path: Path, pads: bool) -> None:
    path = jasper(tmp_path / "jasper.onnx")
    choice = Choice(modality="audio", layers=["embedding"], preprocess=MEL, lengths="length", pads=pads)
    if pads:  # a state beyond the end still sees the last frame, and the sum takes it in
        with pytest.raises(ExportError, match="differs from the original graph at a batch of 7"):
            export(f"onnx:{path}", tmp_path / "out", choice=choice)
        return
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    spec = read_spec(folder)
    assert (spec.varies, spec.pads, spec.input["log_mel"].shape) == (True, False, ("batch", "frames", 8))
    items = [wav(noise(n, seed=n)) for n in (400, 1000, 16_000)]
    with Extractor.load(folder) as extractor:
        X = extractor.extract(items)
        alone = np.concatenate([extractor.extract([item]) for item in items])
    np.testing.assert_allclose(X, alone, atol=1e-5)
    assert len({tuple(row) for row in X.round(4).tolist()}) == 3


@pytest.mark.parametrize(
    ("shape", "see"),
    [
        (("n", "t", 33), lambda mel: mel[None]),
        (("n", 33, "t"), lambda mel: mel.T[None]),
        (("n", 1, 33, "t"), lambda mel: mel.T[None, None]),
        (("n", 1, "t", 33), lambda mel: mel[None, None]),
    ],
)
def test_a_spectrogram_is_turned_as_the_graph_takes_it(tmp_path: Path, shape: tuple, see: Callable) -> None:
    axes = [axis for axis in range(1, len(shape)) if shape[axis] == "t"]
    nodes = [
        helper.make_node("ReduceMean", ["spectrogram"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Flatten", ["mean"], ["y"]),
    ]
    path = write(tmp_path / "deep-speech.onnx", nodes, {"spectrogram": (FLOAT, *shape)}, {}, ("y",))
    facts = {**MEL, "n_fft": 64, "win_length": 64, "n_mels": 33, "mel_scale": "none", "log": "ln", "normalise": "item"}
    choice = Choice(modality="audio", layers=["y"], preprocess=facts)
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    sounds = [noise(n, seed=n) for n in (700, 4000)]
    recipe = read_spec(folder).preprocess
    with Extractor.load(folder) as extractor:
        X = extractor.extract([wav(one) for one in sounds])
    for row, one in zip(X, sounds, strict=True):
        (expected,) = original(path, ["y"], spectrogram=see(log_mel(one.astype(np.float32), recipe)))
        np.testing.assert_allclose(row, expected[0], atol=1e-5)


def test_weights_in_files_beside_it_are_taken_in(tmp_path: Path) -> None:
    path = policy(tmp_path / "far" / "policy.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    assert (tmp_path / "far" / "w.bin").is_file()
    folder = export(f"onnx:{path}", tmp_path / "out")
    assert sorted(one.name for one in folder.iterdir()) == ["golden.npz", "model.onnx", "spec.json"]
    inside = export(f"onnx:{policy(tmp_path / 'policy.onnx')}", tmp_path / "other")
    assert read_spec(folder).fingerprint == read_spec(inside).fingerprint
    content = (tmp_path / "far" / "w.bin").read_bytes()
    (tmp_path / "far" / "w.bin").write_bytes(content[:-1])
    with pytest.raises(ExportError, match=r"w\.bin has 831 bytes, policy\.onnx needs 832: it was cut short"):
        export(f"onnx:{path}", tmp_path / "no")
    (tmp_path / "far" / "w.bin").unlink()
    with pytest.raises(ExportError, match=r"keeps weights in 'w\.bin', which is not beside it"):
        export(f"onnx:{path}", tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname"])
def test_weights_elsewhere_are_never_read(tmp_path: Path, location: str) -> None:
    path = policy(tmp_path / "far" / "policy.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    (tmp_path / "secret").write_bytes((tmp_path / "far" / "w.bin").read_bytes())
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="its data must be in a file beside it"):
        read_model(path)


def outside(tensor: TensorProto, location: str, offset: object = 0, length: object = 48) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def with_weights(kind: str, location: str) -> onnx.ModelProto:
    """A graph (n, 4) -> (n, 3) whose 4 x 3 weights are outside, and named in some place of the file."""
    weights = numpy_helper.from_array(drawn(4, 3), "w")
    outside(weights, location)
    nodes, extra = [helper.make_node("MatMul", ["x", "w"], ["y"])], {}
    if kind == "sparse":
        values = numpy_helper.from_array(drawn(12), "w")
        outside(values, location)
        places = numpy_helper.from_array(np.arange(12))
        extra["sparse_initializer"] = [helper.make_sparse_tensor(values, places, [4, 3])]
    else:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
    opsets, functions = [helper.make_opsetid("", 17)], []
    if kind == "function":
        functions = [helper.make_function("own", "F", ["x"], ["y"], nodes, opsets)]
        nodes = [helper.make_node("F", ["x"], ["h"], domain="own"), helper.make_node("Identity", ["h"], ["y"])]
    sides = [helper.make_tensor_value_info(name, FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "outside", sides[:1], sides[1:], **extra)
    opsets = [*opsets, helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


@pytest.mark.parametrize("kind", ["constant", "function", "sparse"])
@pytest.mark.parametrize("location", ["../secret", "link", "/etc/hostname"])
def test_no_tensor_of_any_kind_is_read_from_elsewhere(tmp_path: Path, kind: str, location: str) -> None:
    (tmp_path / "secret").write_bytes(drawn(4, 3).tobytes())
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "far" / "net.onnx").write_bytes(with_weights(kind, location).SerializeToString())
    with pytest.raises(ExportError, match="its data must be in a file beside it"):
        read_model(tmp_path / "far" / "net.onnx")


@pytest.mark.parametrize("kind", ["constant", "function"])
def test_a_constant_beside_the_file_is_taken_in(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(drawn(4, 3).tobytes())
    (tmp_path / "net.onnx").write_bytes(with_weights(kind, "w.bin").SerializeToString())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = export(f"onnx:{tmp_path / 'net.onnx'}", tmp_path / "out", choice=Choice(layers=["y"]))
    with Extractor.load(folder) as extractor:
        found = extractor.extract([np.ones(4, np.float32)])
    np.testing.assert_allclose(found[0], drawn(4, 3).sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize(("offset", "length"), [("abc", 48), (0, "x"), (-10, 48), (0, -5), (10**30, 48), (1, 48)])
def test_a_place_that_is_none_is_refused(tmp_path: Path, offset: object, length: object) -> None:
    path = policy(tmp_path / "policy.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(48))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].ClearField("external_data")
    outside(model.graph.initializer[0], "w.bin", offset, length)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"names no place in 'w\.bin'|it was cut short"):
        read_model(path)


def affine(path: Path, weights: np.ndarray, *behind: Any, **more: np.ndarray) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), *behind]
    return write(path, nodes, {"x": (FLOAT, "n", 4)}, {"w": weights, **more}, (nodes[-1].output[0],))


DROPOUT = helper.make_node("Dropout", ["h", "ratio", "training"], ["y"])
BIAS = helper.make_node("Add", ["h", "b"], ["y"])


@pytest.mark.parametrize(
    ("graph", "layer", "said"),
    [
        ((drawn(4, 3) * np.nan,), "h", "gives NaN or infinity for item 1 of 7 for the proof; nothing was written"),
        ((drawn(4, 3) * np.inf,), "h", "gives NaN or infinity for item 1"),
        ((np.zeros((4, 3), np.float32),), "h", "gives the same embedding for all 7 items"),
        ((np.zeros((4, 3), np.float32), BIAS), "y", "choose a layer that depends on the item"),
        ((drawn(4, 3), DROPOUT), "y", "gives other values when it runs the same item again"),
    ],
)
def test_what_says_nothing_of_an_item_is_refused(tmp_path: Path, graph: tuple, layer: str, said: str) -> None:
    more = {"ratio": np.array(0.5, np.float32), "training": np.array(True), "b": np.ones(3, np.float32)}
    path = affine(tmp_path / "net.onnx", *graph, **more)
    with pytest.raises(ExportError, match=said):
        export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=[layer]))
    assert not (tmp_path / "out").exists()


def test_an_item_for_which_all_are_rectified_to_zero_is_no_difference(tmp_path: Path) -> None:
    path = affine(tmp_path / "net.onnx", np.eye(4, 3, dtype=np.float32))
    items = [npy(np.full(4, value, np.float32)) for value in (-1, 1, 2)]
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["r"], items=items))
    np.testing.assert_array_equal(read_golden(folder / "golden.npz").embeddings, [[0] * 3, [1] * 3, [2] * 3])


def test_arrays_are_scaled_in_the_graph(tmp_path: Path) -> None:
    path = affine(tmp_path / "net.onnx", drawn(4, 3))
    choice = Choice(layers=["h"], scale=1 / 255, preprocess={"dtype": "uint8"})
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    frame = np.array([0, 51, 102, 255], np.uint8)
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract([frame])[0], frame / 255 @ drawn(4, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "choice", "said"),
    [
        (
            planes,
            Choice(modality="image", scale=2.0, preprocess={"mean": [1.0], "std": [1.0]}),
            "scale is 2; it is for",
        ),
        (policy, Choice(scale=0.0), "scale is 0.0; take a number but 0"),
        (policy, Choice(scale=float("nan")), "scale is nan"),
    ],
)
def test_a_scale_that_nothing_would_heed_is_refused(tmp_path: Path, make: Callable, choice: Choice, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        zoo.build(f"onnx:{make(tmp_path / 'net.onnx')}", choice)


def test_a_file_that_no_protobuf_holds_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(3 << 30)  # sparse
    with pytest.raises(ExportError, match=r"has 3\.00 GiB, one ONNX file holds at most 2; save its weights beside it"):
        read_model(tmp_path / "huge.onnx")


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX files that hold a kilobyte, and so are too small for any weights."""
    for module in (onnx_model, onnx_save):
        monkeypatch.setattr(module, "MAX_BYTES", 1 << 10)
        monkeypatch.setattr(module, "INSIDE", 100)
    monkeypatch.setattr(onnx_model, "_check_size", lambda _path: None)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("beside", [False, True])
def test_weights_that_one_file_cannot_hold_go_beside_it(tmp_path: Path, beside: bool) -> None:
    path = tmp_path / "planes.onnx"
    planes(path)
    if beside:
        onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="w.bin")
    folder = export(f"onnx:{path}", tmp_path / "out")
    spec = read_spec(folder)
    assert sorted(spec.files) == ["golden.npz", "model.onnx", "weights.bin"]
    assert (folder / "model.onnx").stat().st_size < 3000
    boards = np.random.default_rng(3).normal(size=(9, 3, 12, 12)).astype(np.float32)
    (expected,) = original(path, ["flat"], x=boards) if not beside else (None,)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    shutil.rmtree(folder)
    with Extractor.load(moved) as extractor:
        X = extractor.extract(boards)
    if expected is not None:
        np.testing.assert_allclose(X, expected, atol=1e-6)
    again = export(f"onnx:{path}", moved)  # takes the older one's place
    assert read_spec(again).fingerprint == spec.fingerprint
    with (again / "weights.bin").open("r+b") as file:
        file.write(b"\1")
    with pytest.raises(BackboneInvalid, match=r"weights\.bin has SHA-256 .*changed or cut short"):
        Extractor.load(again)
    (again / "weights.bin").unlink()
    with pytest.raises(BackboneInvalid, match=r"weights\.bin is missing; export the backbone again"):
        Extractor.load(again)


def test_a_file_that_was_cut_short_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = planes(tmp_path / "planes.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for end in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(ExportError, match=r"cut\.onnx"):
            export(f"onnx:{path}", tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cut.onnx", "planes.onnx"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            Choice(layers=["/layer2/Tahn"]),
            r"no node or value '/layer2/Tahn'; near it are '/layer2/Tanh'.*headwater lay",
        ),
        (Choice(layers=["zzzzzz"]), r"near it are .*'logits', 'actions'"),
        (Choice(pooling="median"), "pooling is 'median', not one of gap, max, mean, cls, flatten"),
        (Choice(modality="smell"), "modality is 'smell'; onnx:FILE takes array, audio, image"),
        (Choice(modality="audio"), "say how many samples a second"),
        (Choice(modality="image"), r"'observation' is \('batch', 4\); an image's is"),
        (Choice(preprocess={"shape": [5]}), "cannot run one item of its own shape"),
        (Choice(preprocess={"surprise": 1}), "is no recipe for array: .*surprise"),
        (Choice(preprocess={"shape": 5}), "cannot run one item of its own shape"),
        (Choice(preprocess={"shape": ["t", "u"]}), "only an item's first axis may vary, not 'u'"),
        (Choice(preprocess={"shape": [0]}), "is no recipe for array: preprocess.shape is 0"),
        (Choice(modality="audio", preprocess={"sample_rate": "x"}), "sample_rate is 'x', not a positive integer"),
        (Choice(modality="audio", preprocess={**MEL, "n_fft": 0}), "n_fft is 0"),
        (Choice(modality="audio", preprocess=MEL), r"neither of its last two axes is n_mels, 8"),
        (Choice(lengths="n"), "has no input 'n', only 'observation'"),
        (Choice(pads=True), "only by --lengths or --mask"),
        (Choice(items=[npy(np.ones(5))]), r"is \(5,\), the backbone takes \(4,\)"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(tmp_path: Path, choice: Choice, message: str) -> None:
    path = policy(tmp_path / "policy.onnx")
    with pytest.raises(Exception, match=message) as caught:
        export(f"onnx:{path}", tmp_path / "out", choice=choice)
    assert type(caught.value).__module__ == "extractor.errors"
    assert [one.name for one in tmp_path.iterdir()] == ["policy.onnx"]


def test_other_graphs_that_cannot_be_backbones(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nowhere\.onnx cannot be read: No such file"):
        export(f"onnx:{tmp_path / 'nowhere.onnx'}")
    with pytest.raises(ExportError, match="takes 'rows', 'mask' up to both; one input takes the items"):
        export(f"onnx:{masked_mean(tmp_path / 'masked.onnx')}", choice=Choice(layers=["both"]))
    with pytest.raises(ExportError, match="ends in no Gemm or MatMul by weights; name a layer"):
        export(f"onnx:{wave_net(tmp_path / 'wave.onnx')}")
    planes(tmp_path / "planes.onnx")
    with pytest.raises(
        ExportError, match=r"'image' is \(1, 5, 12, 12\) for one item; take --pooling gap or max or flat"
    ):
        export(f"onnx:{tmp_path / 'planes.onnx'}", choice=Choice(layers=["image"], pooling="mean"))
    strange = write(
        tmp_path / "odd.onnx", [helper.make_node("Odd", ["x"], ["y"], domain="x")], {"x": (FLOAT, 1)}, {}, ("y",)
    )
    with pytest.raises(ExportError, match=r"onnxruntime .* cannot run the graph: .*Odd"):
        export(f"onnx:{strange}", choice=Choice(layers=["y"]))
    with pytest.raises(BackboneNotFound, match=r"'tarot:x'; there are: .*onnx:FILE"):
        zoo.build("tarot:x")
    for call in (zoo.build, zoo.layers):
        with pytest.raises(BackboneNotFound, match="'onnx:' names no network; give onnx:FILE"):
            call("onnx:")
    for said, choice in {"--name": Choice(name="x"), "--layer, --pooling": Choice(layers=["x"], pooling="cls")}.items():
        with pytest.raises(ExportError, match=f"taken as it was published; leave {said} away, or bring a network:"):
            zoo.build("minilm-l6", choice)


def test_a_batch_axis_of_one_is_freed_or_refused(tmp_path: Path) -> None:
    folder = export(f"onnx:{policy(tmp_path / 'one.onnx', batch=1)}", tmp_path / "out")
    with Extractor.load(folder) as extractor:
        assert extractor.backbone.forward([np.ones(4, np.float32)] * 3).shape == (3, 8)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = {"shape": np.array([1, 4]), "w": drawn(4, 2)}
    fixed = write(tmp_path / "fixed.onnx", nodes, {"x": (FLOAT, 1, 4)}, weights, ("y",))
    with pytest.raises(ExportError, match=r"'fixed' (cannot run|differs|: the graph gives).*batch"):
        export(f"onnx:{fixed}", tmp_path / "no", choice=Choice(layers=["y"]))
    assert not (tmp_path / "no").exists()


def test_weights_among_the_inputs_of_an_old_graph_are_no_inputs(tmp_path: Path) -> None:
    path = policy(tmp_path / "old.onnx", opset=11)
    model = onnx.load(path)
    for one in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(one.name, FLOAT, one.dims))
    onnx.save(model, path)
    assert read_spec(export(f"onnx:{path}", tmp_path / "out")).dim == 8


def test_layers_are_listed_with_their_shapes(tmp_path: Path) -> None:
    model = read_model(planes(tmp_path / "planes.onnx"))
    found = {one.name: one for one in layers(model)}
    assert found["relu6"].shape == ("n", 6, 5, 5)
    assert (found["relu6"].node, found["relu6"].operator) == ("clip", "Clip")
    assert found["classes"].shape == ("n", 10)
    assert find_layer(model, "clip") == find_layer(model, "relu6") == "relu6"
    assert find_layer(model, "penultimate") == "flat"


def test_a_network_of_so_many_samples_has_sounds_padded_and_cut_to_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["audio", "w"], ["y"])]
    path = write(tmp_path / "w.onnx", nodes, {"audio": (FLOAT, "n", 4000)}, {"w": drawn(4000, 3)}, ("y",))
    choice = Choice(modality="audio", layers=["y"], preprocess={"sample_rate": 8000})
    folder = export(f"onnx:{path}", tmp_path / "out", choice=choice)
    assert not read_spec(folder).varies
    sounds = [noise(100), noise(9000, seed=1)]
    whole = np.stack([np.pad(sounds[0], (0, 3900)), sounds[1][:4000]])
    with Extractor.load(folder) as extractor:
        first, second = extractor.extract_each([wav(one) for one in sounds])
    assert (first.truncated, second.truncated) == (False, True)
    np.testing.assert_allclose([first.embedding, second.embedding], whole @ drawn(4000, 3), atol=1e-5)


def test_pixels_of_another_number_of_channels_are_told_of(tmp_path: Path) -> None:
    choice = Choice(modality="image", preprocess={"mean": [1.0, 2.0], "std": [1.0]})
    with pytest.raises(ExportError, match=r"mean is \(1.0, 2.0\), not one number or three"):
        export(f"onnx:{planes(tmp_path / 'planes.onnx')}", choice=choice)


def test_inputs_that_come_in_later_are_not_needed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Add", ["hidden", "state"], ["y"]),
    ]
    inputs = {"x": (FLOAT, "n", 4), "state": (FLOAT, "n", 3)}
    path = write(tmp_path / "two.onnx", nodes, inputs, {"w": drawn(4, 3)}, ("y",))
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["hidden", "hidden"]))
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract([np.ones(4)]), [drawn(4, 3).sum(axis=0)], atol=1e-6)


def test_a_pooling_that_leaves_what_varies_is_refused(tmp_path: Path) -> None:
    path = wave_net(tmp_path / "wave.onnx")
    facts = {"sample_rate": 16_000, "min_samples": 99}
    for pooling in (None, "flatten"):
        choice = Choice(modality="audio", layers=["states"], preprocess=facts, pooling=pooling)
        with pytest.raises(ExportError, match=r"for a longer or shorter one; take a --pooling over what varies, not"):
            export(f"onnx:{path}", tmp_path / "out", choice=choice)
    assert [one.name for one in tmp_path.iterdir()] == ["wave.onnx"]


def test_a_layer_without_a_batch_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["one"], keepdims=0), helper.make_node("Shape", ["x"], ["shape"])]
    path = write(tmp_path / "no.onnx", nodes, {"x": (FLOAT, "n", 4)}, {}, ("one",))
    for name in ("one", "shape"):
        with pytest.raises(ExportError, match="a layer has numbers, and the batch comes first"):
            export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=[name]))


def test_a_file_that_rounds_otherwise_in_a_batch_is_told_of(tmp_path: Path) -> None:
    quantize_dynamic(policy(tmp_path / "policy.onnx"), tmp_path / "bytes.onnx")
    with pytest.raises(ExportError, match=r"the original graph at a batch of .* rounds otherwise among other items"):
        export(f"onnx:{tmp_path / 'bytes.onnx'}", tmp_path / "out", choice=Choice(layers=["a2"]))


def test_ones_own_items_are_the_golden_ones(tmp_path: Path) -> None:
    items = [npy(drawn(4, seed=i)) for i in range(3)]
    folder = export(f"onnx:{policy(tmp_path / 'policy.onnx')}", tmp_path / "out", choice=Choice(items=items))
    assert read_golden(folder / "golden.npz").items == items


def test_branches_read_what_is_around_them(tmp_path: Path) -> None:
    branch = {
        name: helper.make_graph(
            [helper.make_node(op, ["hidden", "hidden"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", FLOAT, None)],
        )
        for name, op in (("yes", "Add"), ("no", "Mul"))
    }
    nodes = [
        helper.make_node("Tanh", ["x"], ["hidden"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Less", ["total", "bound"], ["below"]),
        helper.make_node("If", ["below"], ["y"], then_branch=branch["yes"], else_branch=branch["no"]),
    ]
    path = write(tmp_path / "if.onnx", nodes, {"x": (FLOAT, "n", 4)}, {"bound": np.array(1e9, np.float32)}, ("y",))
    folder = export(f"onnx:{path}", tmp_path / "out", choice=Choice(layers=["y"]))
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract([np.ones(4)]), 2 * np.tanh(np.ones((1, 4))), atol=1e-6)


def test_functions_of_the_graph_itself_go_with_it(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        graph (float[n,4] x) => (float[n,4] y) { h = local.twice(x)  y = Tanh(h) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }
    """)
    onnx.save(model, tmp_path / "net.onnx")
    folder = export(f"onnx:{tmp_path / 'net.onnx'}", tmp_path / "out", choice=Choice(layers=["y"]))
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract([np.ones(4)]), np.tanh(2 * np.ones((1, 4))), atol=1e-6)
