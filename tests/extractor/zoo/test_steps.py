"""Poolings behind an ONNX graph of images, against NumPy: states of tokens, and maps whose channels come last."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from extractor import Extractor
from extractor.errors import ExportError
from extractor.export import export
from extractor.prepare import load_prepare
from extractor.spec import read_spec
from extractor.zoo.choice import Choice
from extractor.zoo.golden import photos

SIDE, CHANNELS = 6, 5
FACTS = {"size": SIDE, "mean": [127.5] * 3, "std": [64.0] * 3}


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, weights: np.ndarray) -> Path:
    """A layer on each pixel, whose channels come last: as maps, as tokens, as rows."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["pixels", "w"], ["maps"]),
        helper.make_node("Reshape", ["maps", "as_tokens"], ["tokens"]),
        helper.make_node("ReduceMean", ["tokens"], ["rows"], axes=[1], keepdims=0),
    ]
    constants = {"w": weights, "as_tokens": np.array([0, -1, CHANNELS])}
    content = helper.make_graph(
        nodes,
        "seen",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 3, SIDE, SIDE))],
        [helper.make_empty_tensor_value_info("rows")],
        [numpy_helper.from_array(one, name) for name, one in constants.items()],
    )
    path = tmp_path_factory.mktemp("graphs") / "seen.onnx"
    onnx.save(helper.make_model(content, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def made(graph: Path, folder: Path, layers: list[str], pooling: str | None) -> Path:
    choice = Choice(layers=layers, pooling=pooling, modality="image", preprocess=FACTS)
    return export(f"onnx:{graph}", folder, choice=choice)


@pytest.mark.parametrize("layer", ["maps", "tokens"])
@pytest.mark.parametrize("pooling", [None, "mean", "max"])
def test_places_are_pooled(graph: Path, tmp_path: Path, weights: np.ndarray, layer: str, pooling: str | None) -> None:
    folder = made(graph, tmp_path / "out", [layer], pooling)
    spec = read_spec(folder)
    prepare = load_prepare(spec, folder)
    pixels = np.stack([prepare(item).array for item in photos()]).astype(np.float32)
    maps = ((pixels - 127.5) / 64) @ weights
    expected = maps.max((1, 2)) if pooling == "max" else maps.mean((1, 2))
    assert spec.pooling == (pooling or {"maps": "gap", "tokens": "mean"}[layer])
    with Extractor.load(folder) as extractor:
        np.testing.assert_allclose(extractor.extract(photos()), expected, atol=1e-4)


def test_tokens_are_no_maps(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="take --pooling max or mean or cls or flatten"):
        made(graph, tmp_path / "out", ["tokens"], "gap")


def test_rows_are_not_pooled(graph: Path, tmp_path: Path) -> None:
    assert read_spec(made(graph, tmp_path / "out", ["rows"], None)).pooling == "none"
    with pytest.raises(ExportError, match=r"rows already; leave --pooling gap away"):
        made(graph, tmp_path / "other", ["rows"], "gap")
