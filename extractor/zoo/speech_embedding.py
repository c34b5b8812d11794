"""Google's speech embedding, as openWakeWord carries it: waveforms (n, samples) -> embeddings (n, 96), a mean in time.

The network (Lin et al., "Training Keyword Spotters with Limited and Synthesized Speech Data", 2020) embeds 76 frames of
a log-mel spectrogram, 0.76 s. Here a window of that length is moved over the sound by 8 frames at a time, from the
silence before it to the silence behind it, and what it gives is averaged. All of that is one graph.

The weights are CC BY-NC-SA 4.0: for tests, and as an example of a backbone made of several files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, compose, helper

from extractor.errors import ExportError
from extractor.outcome import Embedding
from extractor.recipes import AudioPreprocess
from extractor.spec import LENGTHS, Input, sha256
from extractor.zoo.golden.sounds import sounds
from extractor.zoo.network import Network
from extractor.zoo.onnx_model import cut, read_model, reference_session
from extractor.zoo.onnx_save import save_onnx
from extractor.zoo.steps import Nodes

NAME = "speech-embedding"
DIM = 96
SAMPLE_RATE = 16_000
FRAME, HOP = 512, 160  # samples of the spectrogram's frames
WINDOW, STEP = 76, 8  # frames that the network embeds at once; openWakeWord moves it by 8
BANDS = 32
EDGE = (FRAME + (WINDOW - 1) * HOP) // 2  # samples of silence before and behind a sound: half a window
DYNAMIC_RANGE_DB = 80.0
FULL_SCALE = 32_768.0  # the network takes samples of 16 bits
MAX_SECONDS = 30

# Of openwakeword 0.5.1; another version's would need another proof.
FILES = {
    "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model.onnx": "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class SpeechEmbedding(Network):
    """The two files, and the one graph that is made of them; see `Network` for the rest.

    Parameters
    ----------
    spectrogram, embedder : onnx.ModelProto
    """

    framework: ClassVar[str] = "the two original graphs"

    spectrogram: Any
    embedder: Any

    def reference(self, inputs: Mapping[str, NDArray[Any]]) -> Embedding:
        """Return what the two files make of one item (1, samples), as openWakeWord runs them."""
        padded = np.pad(inputs["waveform"] * np.float32(FULL_SCALE), ((0, 0), (EDGE, EDGE)))
        frames = _run(self.spectrogram, padded).reshape(-1, BANDS) / 10 + 2
        windows = np.stack([frames[begin : begin + WINDOW] for begin in range(0, len(frames) - WINDOW + 1, STEP)])
        embeddings = _run(self.embedder, windows[..., None].astype(np.float32)).reshape(-1, DIM)
        mean: Embedding = embeddings.mean(axis=0, keepdims=True)
        return mean

    def write_onnx(self, path: Path) -> None:
        """Write the two graphs as one, which tells padding from sound by the lengths."""
        save_onnx(_fused(self.spectrogram, self.embedder), path)


def build() -> SpeechEmbedding:
    """Return the network with the weights of the installed openwakeword package, none of whose code is run."""
    spectrogram, embedder = (read_model(_file(name, digest)) for name, digest in FILES.items())
    return SpeechEmbedding(
        name=NAME,
        modality="audio",
        dim=DIM,
        pooling="mean",
        input={"waveform": Input("float32", ("batch", "samples")), LENGTHS: Input("int64", ("batch",))},
        preprocess=AudioPreprocess(sample_rate=SAMPLE_RATE, min_samples=FRAME, max_samples=MAX_SECONDS * SAMPLE_RATE),
        source="Google's speech_embedding, as re-implemented by openWakeWord; PyPI: openwakeword 0.5.1",
        licence="CC BY-NC-SA 4.0",
        golden_items=sounds(),
        spectrogram=spectrogram,
        embedder=embedder,
    )


def _file(name: str, digest: str) -> Path:
    spec = find_spec("openwakeword")  # this finds the package without running it: its imports are not needed
    folder = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    path = folder / "resources" / "models" / name
    if not path.is_file() or sha256(path) != digest:
        raise ExportError(
            f"{path} is not that of openwakeword 0.5.1: pip install --no-deps --force-reinstall openwakeword==0.5.1"
        )
    return path


def _run(model: ModelProto, values: NDArray[Any]) -> NDArray[np.float32]:
    session = reference_session(model)
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
    return found


def _fused(spectrogram: ModelProto, embedder: ModelProto) -> ModelProto:
    first = compose.add_prefix(_unclipped(spectrogram), "spectrogram/")
    second = compose.add_prefix(embedder, "embedder/")
    before, between, behind = (Nodes(f"{part}/") for part in ("before", "between", "behind"))
    _alias(before, _padded(before), first.graph.input[0].name)
    n_frames, features = _features(between, first.graph.output[0].name)
    windows, n_windows = _windows(between, features)
    _alias(between, windows, second.graph.input[0].name)
    _alias(behind, _mean(behind, second.graph.output[0].name, n_windows, n_frames), "embeddings")
    parts = (before, first.graph, between, second.graph, behind)
    graph = helper.make_graph(
        [node for part in parts for node in (part.nodes if isinstance(part, Nodes) else part.node)],
        NAME,
        [
            helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info(LENGTHS, TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", DIM])],
        [one for part in parts for one in (part.constants if isinstance(part, Nodes) else part.initializer)],
    )
    return helper.make_model(graph, opset_imports=spectrogram.opset_import, ir_version=spectrogram.ir_version)


def _unclipped(spectrogram: ModelProto) -> ModelProto:
    """Return the spectrogram in decibels, before what raises all values to 80 dB below the largest.

    The file takes the largest of the whole batch, so that a loud sound would change its mates' embeddings.
    """
    (peak,) = (node for node in spectrogram.graph.node if node.op_type == "ReduceMax")
    return cut(spectrogram, list(peak.input))


def _alias(nodes: Nodes, value: str, name: str) -> None:
    nodes.nodes.append(helper.make_node("Identity", [value], [name]))


def _integer(nodes: Nodes, *values: int) -> str:
    return nodes.constant(np.array(values, np.int64))


def _number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.array(value, np.float32))


def _padded(nodes: Nodes) -> str:
    """Write the waveforms at full scale, with silence at both ends (n, samples)."""
    scaled = nodes.add("Mul", ["waveform", _number(nodes, FULL_SCALE)])
    return nodes.add("Pad", [scaled, _integer(nodes, 0, EDGE, 0, EDGE)])


def _features(nodes: Nodes, decibels: str) -> tuple[str, str]:
    """Write how many frames each sound has (n,), and their features (n, frames, bands), from decibels (n, 1, …)."""
    samples = nodes.add("Add", [LENGTHS, _integer(nodes, 2 * EDGE - FRAME)])
    n_frames = nodes.add("Add", [nodes.add("Div", [samples, _integer(nodes, HOP)]), _integer(nodes, 1)])
    frames = nodes.add("Reshape", [decibels, _integer(nodes, 0, -1, BANDS)])
    within = nodes.add("Unsqueeze", [_below(nodes, _axis(nodes, frames, 1), n_frames), _integer(nodes, 2)])
    heard = nodes.add("Where", [within, frames, _number(nodes, -1e30)])
    peak = nodes.add("ReduceMax", [heard], axes=[1, 2], keepdims=1)
    floor = nodes.add("Sub", [peak, _number(nodes, DYNAMIC_RANGE_DB)])
    tenth = nodes.add("Div", [nodes.add("Max", [frames, floor]), _number(nodes, 10)])
    return n_frames, nodes.add("Add", [tenth, _number(nodes, 2)])


def _windows(nodes: Nodes, features: str) -> tuple[str, str]:
    """Write all windows of all sounds (n windows, 76, 32, 1), and how many windows there are of each sound (1,)."""
    last = nodes.add("Sub", [_axis(nodes, features, 1), _integer(nodes, WINDOW - 1)])
    starts = _range(nodes, last, STEP)
    column = nodes.add("Unsqueeze", [starts, _integer(nodes, 1)])
    inside = nodes.constant(np.arange(WINDOW, dtype=np.int64)[None])
    windows = nodes.add("Gather", [features, nodes.add("Add", [column, inside])], axis=1)
    return nodes.add("Reshape", [windows, _integer(nodes, -1, WINDOW, BANDS, 1)]), nodes.add("Shape", [starts])


def _mean(nodes: Nodes, embeddings: str, n_windows: str, n_frames: str) -> str:
    """Write the mean (n, 96) of the embeddings of those windows that end within their sound."""
    shape = nodes.add("Concat", [_integer(nodes, -1), n_windows, _integer(nodes, DIM)], axis=0)
    each = nodes.add("Reshape", [embeddings, shape])
    steps = nodes.add("Div", [nodes.add("Sub", [n_frames, _integer(nodes, WINDOW)]), _integer(nodes, STEP)])
    own = nodes.add("Add", [steps, _integer(nodes, 1)])
    within = nodes.add("Unsqueeze", [_below(nodes, n_windows, own), _integer(nodes, 2)])
    kept = nodes.add("Where", [within, each, _number(nodes, 0)])
    total = nodes.add("ReduceSum", [kept, _integer(nodes, 1)], keepdims=0)
    count = nodes.add("Cast", [nodes.add("Unsqueeze", [own, _integer(nodes, 1)])], to=TensorProto.FLOAT)
    return nodes.add("Div", [total, count])


def _axis(nodes: Nodes, value: str, axis: int) -> str:
    """Write the length of an axis (1,)."""
    return nodes.add("Gather", [nodes.add("Shape", [value]), _integer(nodes, axis)])


def _range(nodes: Nodes, end: str, step: int) -> str:
    """Write 0, step, … below an end (1,)."""
    scalar = nodes.add("Squeeze", [end])
    return nodes.add("Range", [nodes.constant(np.array(0)), scalar, nodes.constant(np.array(step))])


def _below(nodes: Nodes, length: str, counts: str) -> str:
    """Write which of so many places (1,) are below each item's count (n,): (n, length) bool."""
    return nodes.add("Less", [_range(nodes, length, 1), nodes.add("Unsqueeze", [counts, _integer(nodes, 1)])])
