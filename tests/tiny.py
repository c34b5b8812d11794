"""Tiny backbones, written node by node: they load in milliseconds, and what they compute can be said in a line."""

import dataclasses
import io
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from extractor.golden import Golden, write_golden
from extractor.prepare import load_prepare
from extractor.recipes import ArrayPreprocess, AudioPreprocess, ImagePreprocess, Preprocess, TextPreprocess, modality_of
from extractor.spec import GOLDEN_FILE, MODEL_FILE, TOKENIZER_FILE, Input, Spec, sha256, write_spec

SIZE = 8  # pixels a side of the tiny image backbone
MAX_TOKENS = 6
RATE = 8000  # samples a second of the tiny audio backbone
WORDS = ["[UNK]", "red", "green", "blue", "cat", "dog"]
WEIGHTS = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), 4)).astype(np.float32)


def png(array: np.ndarray) -> bytes:
    """Encode uint8 (height, width, 3) as PNG."""
    return encoded(Image.fromarray(array), "PNG")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode a Pillow image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(red: int, green: int = 0, blue: int = 0, size: int = SIZE) -> np.ndarray:
    """Return a square of one colour; its tiny embedding is that colour."""
    return np.full((size, size, 3), (red, green, blue), np.uint8)


def write_tiny_image(folder: Path) -> Path:
    """Write a backbone whose embedding of an image is the mean of each channel (3,)."""
    embeddings = np.array([[10, 20, 30], [200, 100, 0]], np.float32)
    return _write_image(folder, [_means("embeddings")], [], embeddings)


def write_tiny_dense(folder: Path) -> Path:
    """Write a backbone that multiplies the channels' means by `WEIGHTS`: what a precision is computed in shows."""
    embeddings = np.array([[10, 20, 30], [200, 100, 0]], np.float32) / 255 @ WEIGHTS
    nodes = [
        _means("means"),
        helper.make_node("Div", ["means", "range"], ["share"]),
        helper.make_node("MatMul", ["share", "weights"], ["embeddings"]),
    ]
    constants = {"weights": WEIGHTS, "range": np.array(255, np.float32)}
    return _write_image(folder, nodes, [numpy_helper.from_array(*pair[::-1]) for pair in constants.items()], embeddings)


def write_batch_dependent(folder: Path) -> Path:
    """Write a backbone whose embedding of an image (3,) has a share of its batch's mean in it."""
    nodes = [
        _means("means"),
        helper.make_node("ReduceMean", ["means", "batch_axis"], ["mates"], keepdims=1),
        helper.make_node("Mul", ["mates", "share"], ["some"]),
        helper.make_node("Add", ["means", "some"], ["embeddings"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([0], np.int64), "batch_axis"),
        numpy_helper.from_array(np.array(0.1, np.float32), "share"),
    ]
    return _write_image(folder, nodes, constants, 1.1 * np.array([[10, 20, 30], [200, 100, 0]], np.float32))


def _means(output: str) -> onnx.NodeProto:
    return helper.make_node("ReduceMean", ["pixels", "axes"], [output], keepdims=0)


def _write_image(folder: Path, nodes: list, constants: list, embeddings: np.ndarray) -> Path:
    shape = ["batch", SIZE, SIZE, 3]
    return _write(
        folder,
        [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT), *nodes],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes"), *constants],
        Spec(
            name=folder.name,
            modality="image",
            dim=embeddings.shape[1],
            pooling="mean",
            precision="fp32",
            input={"image": Input("uint8", tuple(shape))},
            preprocess=ImagePreprocess(size=SIZE, crop_fraction=1.0, interpolation="bilinear", mean=(0.0,), std=(1.0,)),
            source="tests",
            licence="Apache-2.0",
            files={},
        ),
        Golden([png(flat(10, 20, 30)), png(flat(200, 100, 0))], embeddings),
    )


def write_tiny_text(folder: Path) -> Path:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "tokens_axis"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["embeddings"]),
    ]
    constants = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
        numpy_helper.from_array(np.array([1], np.int64), "tokens_axis"),
    ]
    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / TOKENIZER_FILE))
    return _write(
        folder,
        nodes,
        inputs,
        constants,
        Spec(
            name=folder.name,
            modality="text",
            dim=4,
            pooling="mean",
            precision="fp32",
            input={name: Input("int64", ("batch", "tokens")) for name in names},
            preprocess=TextPreprocess(max_tokens=MAX_TOKENS),
            source="tests",
            licence="Apache-2.0",
            files={},
        ),
        Golden([b"red", b"red dog"], np.stack([TABLE[1], (TABLE[1] + TABLE[5]) / 2])),
    )


def npy(array: np.ndarray) -> bytes:
    """Encode an array as `.npy`."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def wav(samples: np.ndarray, sample_rate: int = RATE) -> bytes:
    """Encode float samples (n,) or (n, channels) as a WAV of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Return n samples of noise, exact in 16 bits."""
    return np.random.default_rng(seed).integers(-8000, 8000, n) / 32768


def write_tiny_array(folder: Path) -> Path:
    """Write a backbone whose embedding of an array (2, 3) is the mean of its rows (3,)."""
    shape = ("batch", 2, 3)
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), -np.ones((2, 3), np.float32)]
    return _write(
        folder,
        [helper.make_node("ReduceMean", ["array", "axes"], ["embeddings"], keepdims=0)],
        [helper.make_tensor_value_info("array", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
        _spec(folder, 3, {"array": Input("float32", shape)}, ArrayPreprocess(dtype="float32", shape=(2, 3))),
        Golden([npy(array) for array in arrays], np.stack([array.mean(axis=0) for array in arrays])),
    )


def write_tiny_layers(folder: Path, large: float = 1000.0) -> Path:
    """Write a backbone of four products, of which `first` takes an array (8,) with one value that is `large`.

    8 bits have no room for the others beside it: in int8 that layer is far worse than the rest.
    """
    draw = np.random.default_rng(3)
    sizes = (8, 16, 16, 16, 16)
    weights = [draw.normal(size=pair).astype(np.float32) for pair in pairwise(sizes)]
    scale = np.array([large] + [1] * 7, np.float32)
    weights[0][0] /= large
    names = ("first", "second", "third", "fourth")
    values = ["scaled", *names[:-1], "embeddings"]
    nodes = [helper.make_node("Mul", ["array", "scale"], ["scaled"])]
    for name, (taken, given) in zip(names, pairwise(values), strict=True):
        nodes.append(helper.make_node("MatMul", [taken, f"{name}_weights"], [given], name=name))
    constants = dict(zip([f"{name}_weights" for name in names], weights, strict=True)) | {"scale": scale}
    arrays = [layers_item(seed) for seed in range(5)]
    embeddings = np.stack([array * scale for array in arrays]) @ np.linalg.multi_dot(weights)
    return _write(
        folder,
        nodes,
        [helper.make_tensor_value_info("array", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(*pair[::-1]) for pair in constants.items()],
        _spec(folder, 16, {"array": Input("float32", ("batch", 8))}, ArrayPreprocess(dtype="float32", shape=(8,))),
        Golden([npy(array) for array in arrays], embeddings),
    )


def layers_item(seed: int) -> np.ndarray:
    """Return an array (8,) for the tiny layers."""
    return np.random.default_rng(seed).normal(size=8).astype(np.float32)


def write_tiny_convs(folder: Path) -> Path:
    """Write a backbone of three convolutions, of which `middle` has a channel a filter, each of another magnitude."""
    draw = np.random.default_rng(5)
    channels = 16
    weights = {
        "first": draw.normal(size=(channels, 3, 3, 3)) / 20,
        "middle": draw.normal(size=(channels, 1, 3, 3)) * np.logspace(-3, 1, channels)[:, None, None, None],
        "last": draw.normal(size=(channels, channels, 1, 1)) / np.logspace(-3, 1, channels)[None, :, None, None],
    }
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "range"], ["share"]),
    ]
    taken = "share"
    for name in weights:
        group = channels if name == "middle" else 1
        nodes.append(helper.make_node("Conv", [taken, f"{name}_weights"], [name], name=name, group=group))
        nodes.append(helper.make_node("Relu", [name], [f"{name}_positive"]))
        taken = f"{name}_positive"
    nodes.append(helper.make_node("ReduceMean", [taken, "plane_axes"], ["embeddings"], keepdims=0))
    constants = {f"{name}_weights": value.astype(np.float32) for name, value in weights.items()}
    constants |= {"range": np.array(255, np.float32), "plane_axes": np.array([2, 3], np.int64)}
    tensors = [numpy_helper.from_array(*pair[::-1]) for pair in constants.items()]
    return _write_image(folder, nodes, tensors, np.zeros((2, channels), np.float32))


def write_tiny_series(folder: Path) -> Path:
    """Write a backbone whose embedding of an array (1 to 9, 2) is its largest row and its length (4,)."""
    shape = ("batch", "time", 2)
    arrays = [np.full((n, 2), -float(n), np.float32) for n in (1, 3, 3, 9)]
    nodes = [
        helper.make_node("ReduceMax", ["array", "axes"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["array", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("ReduceSum", ["ones", "axes"], ["lengths"], keepdims=0),
        helper.make_node("Concat", ["largest", "lengths"], ["embeddings"], axis=1),
    ]
    constants = {"axes": np.array([1]), "zero": np.array(0, np.float32), "one": np.array(1, np.float32)}
    return _write(
        folder,
        nodes,
        [helper.make_tensor_value_info("array", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(*pair[::-1]) for pair in constants.items()],
        _spec(
            folder,
            4,
            {"array": Input("float32", shape)},
            ArrayPreprocess(dtype="float32", shape=("time", 2), max_length=9),
        ),
        Golden([npy(array) for array in arrays], np.stack([[-n, -n, n, n] for n in (1, 3, 3, 9)]).astype(np.float32)),
    )


def write_tiny_audio(folder: Path) -> Path:
    """Write a backbone whose embedding of a sound is the mean of its samples and that of their magnitudes (2,)."""
    inputs = {"waveform": Input("float32", ("batch", "samples")), "lengths": Input("int64", ("batch",))}
    nodes = [
        helper.make_node("Abs", ["waveform"], ["magnitudes"]),
        helper.make_node("ReduceSum", ["waveform", "axes"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["magnitudes", "axes"], ["total_magnitude"], keepdims=1),
        helper.make_node("Concat", ["total", "total_magnitude"], ["totals"], axis=1),
        helper.make_node("Cast", ["lengths"], ["counts"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["counts", "axes"], ["counts_column"]),
        helper.make_node("Div", ["totals", "counts_column"], ["embeddings"]),
    ]
    sounds = [noise(n, seed=n) for n in (RATE // 10, RATE // 4, RATE)]
    return _write(
        folder,
        nodes,
        [
            helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
        _spec(folder, 2, inputs, AudioPreprocess(sample_rate=RATE, min_samples=RATE // 10, max_samples=RATE)),
        Golden([wav(one) for one in sounds], np.stack([sound_embedding(one) for one in sounds]).astype(np.float32)),
    )


def sound_embedding(samples: np.ndarray) -> np.ndarray:
    """Return the tiny embedding (2,) of a sound."""
    return np.array([samples.mean(), np.abs(samples).mean()])


def _spec(folder: Path, dim: int, inputs: dict[str, Input], preprocess: Preprocess) -> Spec:
    return Spec(
        name=folder.name,
        modality=modality_of(preprocess),
        dim=dim,
        pooling="mean",
        precision="fp32",
        input=inputs,
        preprocess=preprocess,
        source="tests",
        licence="Apache-2.0",
        files={},
    )


def _write(folder: Path, nodes: list, inputs: list, constants: list, spec: Spec, golden: Golden) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    output = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", spec.dim])
    graph = helper.make_graph(nodes, spec.name, inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / MODEL_FILE)
    write_golden(folder / GOLDEN_FILE, golden)
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    spec = dataclasses.replace(spec, files=files)
    write_spec(folder, spec)
    assert load_prepare(spec, folder)(golden.items[0]).array.size
    return folder
