"""`headwater layers` and `--layer`: of each source a list with shapes, several layers in order, and what is near."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from extractor import zoo
from extractor.errors import ExportError
from extractor.zoo.choice import RANDOM, Choice
from headwater.cli import main
from headwater.commands.export import _several
from tests.hub_folders import write_hub_folder

MAPS = """
    <ir_version: 8, opset_import: ["" : 17]>
    graph (float[n,3,32,32] x) => (float[n,5] y) {
        [conv1] a = Conv<strides = [8, 8]>(x, w1)
        [relu1] b = Relu(a)
        [conv2] c = Conv(b, w2)
        [pool] d = GlobalAveragePool(c)
        [flat] e = Flatten(d)
        [head] y = MatMul(e, w3)
    }
"""
FACTS = {"size": 32, "mean": [127.5] * 3, "std": [127.5] * 3}


@pytest.fixture
def maps(tmp_path: Path) -> str:
    draw = np.random.default_rng(0)
    model = onnx.parser.parse_model(MAPS)
    for name, shape in {"w1": (4, 3, 8, 8), "w2": (6, 4, 3, 3), "w3": (6, 5)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name))
    onnx.save(model, tmp_path / "maps.onnx")
    return f"onnx:{tmp_path / 'maps.onnx'}"


def network_of(source: str, maps: str, folder: Path) -> tuple[str, Choice, dict[str, tuple]]:
    """A network of a source, what is chosen of it, and two layers with their shapes."""
    if source == "onnx":
        choice = Choice(modality="image", preprocess=FACTS)
        return maps, choice, {"b": ("n", 4, 4, 4), "c": ("n", 6, 2, 2)}
    if source == "torchvision":
        choice = Choice(weights=RANDOM, preprocess={"size": 64})
        shapes = {"features.0": ("batch", 64, 31, 31), "features.12.cat": ("batch", 512, 3, 3)}
        return "torchvision:squeezenet1_1", choice, shapes
    if source == "timm":
        shapes = {"blocks.0": ("batch", 101, 64), "blocks.1": ("batch", 101, 64)}
        return "timm:test_vit", Choice(weights=RANDOM), shapes
    name = f"hf:{write_hub_folder(folder / 'vit', 'vit', weights=False)}"
    return name, Choice(weights=RANDOM), {"layers.0": ("batch", 17, 32), "layernorm": ("batch", 17, 32)}


@pytest.mark.parametrize("source", ["onnx", "torchvision", "timm", "hf"])
def test_what_is_listed_can_be_chosen_in_any_order(
    source: str, maps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, choice, shapes = network_of(source, maps, tmp_path)
    size = choice.preprocess if source != "onnx" else None  # whose file tells it
    listed = {one.name: one.shape for one in zoo.layers(name, Choice(preprocess=size))}
    assert shapes.items() <= listed.items()
    first, last = shapes
    assert list(listed).index(first) < list(listed).index(last)

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["headwater", "layers", name, "--match", last])
    if size:
        sys.argv += ["--preprocess", '{"size": %d}' % size["size"]]  # noqa: UP031  # braces
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert " × ".join(map(str, shapes[last])) in shown
    assert f" {first} " not in shown

    def embedding(*layers: str) -> np.ndarray:
        network = zoo.build(name, Choice(**{**vars(choice), "layers": layers}))
        size = next(iter(network.input.values())).shape[1]
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        return network.reference({"image": image})[0]

    one, other = embedding(first), embedding(last)
    np.testing.assert_allclose(embedding(last, first), np.concatenate([other, one]), atol=1e-6)
    near = first[:-1] + "_" + first[-1]
    with pytest.raises(ExportError, match=rf"{near}.*; near it are .*'.*; list all with headwater layers"):
        zoo.build(name, Choice(**{**vars(choice), "layers": [near]}))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(arguments={"depth": 3}), "onnx: takes no --arguments; leave it away"),
        (Choice(modality="image"), "as the file tells them; leave --modality and --preprocess away"),
        (Choice(preprocess=FACTS), "as the file tells them; leave --modality and --preprocess away"),
    ],
)
def test_what_the_list_would_not_heed_is_refused(maps: str, choice: Choice, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        zoo.layers(maps, choice)


def test_layers_may_be_given_together_or_apart() -> None:
    assert _several(["a.b, c", "penultimate"]) == ("a.b", "c", "penultimate")
    assert _several([]) == ()
