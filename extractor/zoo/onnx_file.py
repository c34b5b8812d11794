"""`onnx:FILE`: anybody's ONNX graph -> a network for the export, cut at the layers that are wanted.

The reference is the file as it came, run by onnxruntime one item at a time, with what stands before and behind it
computed in NumPy.

A text network's `position_ids` are counted by the attention mask: from 0, as for GPT-2 and most others; from one behind
the padding's id, where a `config.json` beside it is of RoBERTa's kin. The graph does not tell, and the proof, which
gives the file the same positions, cannot: export a network that counts in another way without that input, so that it
counts within the graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, compose, helper

from extractor.errors import ExportError
from extractor.outcome import Embedding
from extractor.recipes import modality_of
from extractor.spec import LENGTHS, MASK, TOKENIZER_FILE, Input, sha256
from extractor.zoo.axes import by_default, pooling_of
from extractor.zoo.choice import PENULTIMATE, Choice
from extractor.zoo.front import Front, front_of
from extractor.zoo.layer import Layer
from extractor.zoo.network import Network, backbone_name
from extractor.zoo.onnx_model import cut, find_layer, is_apart, read_model, real_inputs, reference_session
from extractor.zoo.onnx_model import layers as layers_of
from extractor.zoo.onnx_save import save_onnx
from extractor.zoo.steps import MASKED_POOLINGS, POOLINGS, Cast, Nodes, Step, apply_all, poolings_of, write_all
from extractor.zoo.tokenizer import CONFIG_FILE, facts_beside, first_position, max_tokens, read_tokenizer

OUTPUT = "embeddings"
PREFIX = "network/"  # of all values of the graph that was brought, so that none has the name of one of ours
_OWN = "headwater/"  # of ours
TEXT, TOKENS, ZEROS, POSITIONS = "text", "input_ids", "zeros", "positions"
# As exporters of texts' networks call their inputs.
_TEXTS_OWN = {"attention_mask": MASK, "token_type_ids": ZEROS, "position_ids": POSITIONS}
_COUNTING_OPSET = 11  # the first with CumSum
_SHOWN = 5  # inputs that an error lists


@dataclass(frozen=True, eq=False)
class Original:
    """The file's own session, which also gives the layers' values.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    layers : sequence of str
        Values.
    front : Front
    side : mapping of str to str
        The graph's inputs beside the items, each with `lengths`, `attention_mask`, `zeros` or `positions`.
    first_position : int
        Of a text's first token.
    """

    session: Any
    layers: Sequence[str]
    front: Front
    side: Mapping[str, str]
    first_position: int = 0

    def run(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the layers' values of one item (1, …)."""
        try:
            feed = {self.front.graph_input: apply_all(self.front.steps, values)}
            for name, what in self.side.items():
                feed[name] = _of_one(values, what, self.first_position).astype(self._dtype(name))
            found: list[NDArray[Any]] = self.session.run(list(self.layers), feed)
        except Exception as error:  # onnxruntime's exceptions share no public root
            raise ExportError(
                f"the graph cannot run one item of its own shape: as {values.dtype} {values.shape}: {error}; say with "
                "--preprocess what an item is"
            ) from None
        return found

    def _dtype(self, name: str) -> np.dtype[Any]:
        (kind,) = (one.type for one in self.session.get_inputs() if one.name == name)
        plain = kind.removeprefix("tensor(").removesuffix(")")
        dtype: np.dtype[Any] = np.dtype({"float": "float32", "double": "float64"}.get(plain, plain))
        return dtype


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxNetwork(Network):
    """A network that came as an ONNX file; see `Network` for the rest.

    Parameters
    ----------
    model : onnx.ModelProto
        What will be the backbone's graph.
    original : Original
    back : sequence of sequence of Step
        What stands behind each layer.
    weights_folder : Path, optional
        Of the weights that the model keeps outside.
    """

    framework: ClassVar[str] = "the original graph"
    advice: ClassVar[str] = (
        "a file in float16, or whose int8 takes its ranges from each batch, rounds otherwise among other items: bring "
        "it in float32; and with --pads padding may change something: leave that away"
    )

    model: Any
    original: Original
    back: Sequence[Sequence[Step]]
    weights_folder: Path | None = None

    def reference(self, inputs: Mapping[str, NDArray[Any]]) -> Embedding:
        """Return what the original graph makes of one item."""
        (name,) = inputs.keys() - {LENGTHS, MASK}
        found = self.original.run(inputs[name])
        rows = [apply_all(steps, one) for steps, one in zip(self.back, found, strict=True)]
        embedding = np.concatenate(rows, axis=1)
        if self.dim and embedding.shape[1] != self.dim:
            raise ExportError(
                f"{self.name!r} has {self.dim} values for one item and {embedding.shape[1]} for a longer or shorter "
                f"one; take a --pooling over what varies, not {self.pooling}"
            )
        return embedding

    def write_onnx(self, path: Path) -> None:
        """Write the cut graph with its front end and its pooling."""
        try:
            save_onnx(self.model, path, self.weights_folder)
        except OSError:
            raise  # of the disk
        except Exception as error:  # onnx's exceptions share no root
            raise ExportError(f"{self.name}: onnx {onnx.__version__} refuses the cut graph: {error}") from error


def build(reference: str, choice: Choice) -> OnnxNetwork:
    """Read an ONNX file and cut it.

    Parameters
    ----------
    reference : str
        The file's path.
    choice : Choice

    Raises
    ------
    ExportError
        The file is no ONNX graph that onnxruntime runs, has no such layer, has inputs that nobody feeds, or what was
        chosen does not fit it.
    """
    path = Path(reference)
    model = read_model(path)
    choice, files = _with_tokenizer(path.parent, replace(choice, modality=choice.modality or _modality(model)))
    layers = list(dict.fromkeys(find_layer(model, name) for name in choice.layers or (PENULTIMATE,)))
    side = _side_inputs(model, choice)
    front = front_of(_values_input(model, layers, side, choice), choice)
    apart = path.parent if is_apart(model) else None
    first = first_position(facts_beside(path.parent, CONFIG_FILE))
    original = Original(_open(model, layers, apart), layers, front, _kept(model, layers, side), first)
    values = original.run(front.example())
    padding = _padding_inputs(original, choice)
    masked = front.example().shape[1] if MASK in padding else None
    back = [_behind(*pair, choice, masked) for pair in zip(layers, values, strict=True)]
    network = OnnxNetwork(
        name=backbone_name(choice.name or path.stem),
        modality=modality_of(front.preprocess),
        dim=0,
        pooling=pooling_of(choice.pooling, [one.shape for one in values]),
        input=front.input | padding,
        preprocess=front.preprocess,
        source=f"{choice.source or path.name}; SHA-256 {sha256(path)}; {', '.join(layers)}",
        licence=choice.licence,
        golden_items=choice.items or front.made_up_items(),
        files=files,
        model=None,
        original=original,
        back=back,
        weights_folder=apart,
    )
    dim = network.reference({front.name: front.example()}).shape[1]
    return replace(network, dim=dim, model=_wrapped(model, network, dim))


def layers(reference: str, choice: Choice) -> list[Layer]:
    """Return the values that a file's nodes compute; raises ExportError."""
    if choice != Choice():
        raise ExportError("onnx: lists the layers as the file tells them; leave --modality and --preprocess away")
    return layers_of(read_model(Path(reference)))


def _modality(model: ModelProto) -> str:
    return TEXT if TOKENS in real_inputs(model) else "array"


def _with_tokenizer(folder: Path, choice: Choice) -> tuple[Choice, dict[str, bytes]]:
    """Return, for texts, what is chosen with the bound that lies beside the network, and its tokenizer."""
    if choice.modality != TEXT:
        return choice, {}
    facts = {"max_tokens": max_tokens(folder)} | dict(choice.preprocess or {})
    return replace(choice, preprocess=facts), {TOKENIZER_FILE: read_tokenizer(folder)}


def _side_inputs(model: ModelProto, choice: Choice) -> dict[str, str]:
    """Return the graph's inputs beside the items, each with what it is given; those of texts go by their names."""
    known = _TEXTS_OWN if choice.modality == TEXT else {}
    side = {name: what for name, what in known.items() if name in real_inputs(model)}
    named = {choice.lengths: LENGTHS, choice.mask: MASK}
    side |= {name: what for name, what in named.items() if name}
    if choice.pads and not side:
        raise ExportError("items of different lengths can share a batch only by --lengths or --mask; name that input")
    return side


def _kept(model: ModelProto, layers: Sequence[str], side: Mapping[str, str]) -> dict[str, str]:
    inputs = real_inputs(cut(model, layers))
    kept = {name: what for name, what in side.items() if name in inputs}
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if POSITIONS in kept.values() and opset < _COUNTING_OPSET:
        raise ExportError(
            f"'position_ids' are counted by an operator of opset {_COUNTING_OPSET}, and the graph is of {opset}; "
            f"export it again with opset_version={_COUNTING_OPSET} or later"
        )
    return kept


def _padding_inputs(original: Original, choice: Choice) -> dict[str, Input]:
    """Return the backbone's inputs that say what is padding, where items of different lengths share a batch."""
    if not choice.pads and choice.modality != TEXT:
        return {}
    shapes = {LENGTHS: ("batch",), MASK: original.front.spec.shape[:2]}
    return {what: Input("int64", shapes[what]) for what in original.side.values() if what in shapes}


def _values_input(model: ModelProto, layers: Sequence[str], side: Mapping[str, str], choice: Choice) -> Any:
    """Return the one input that takes the items."""
    known = real_inputs(model)
    unknown = [name for name in side if name not in known]
    if unknown:
        raise ExportError(f"the graph has no input {unknown[0]!r}, only {', '.join(map(repr, known))}")
    inputs = {name: one for name, one in real_inputs(cut(model, layers)).items() if name not in side}
    if choice.modality == TEXT and TOKENS in inputs and len(inputs) > 1:
        strange = [name for name in inputs if name != TOKENS]
        raise ExportError(
            f"the graph takes {', '.join(map(repr, strange[:_SHOWN]))}{', …' if len(strange) > _SHOWN else ''} beside "
            f"{', '.join(map(repr, (TOKENS, *_TEXTS_OWN)))}; export it without, such as for feature extraction"
        )
    if len(inputs) != 1:
        raise ExportError(
            f"the graph takes {', '.join(map(repr, inputs)) or 'no input'} up to {', '.join(layers)}; one input takes "
            "the items, and --lengths and --mask name those that tell their lengths"
        )
    return next(iter(inputs.values()))


def _open(model: ModelProto, layers: Sequence[str], apart: Path | None) -> Any:
    """Open a session on the file as it came, with the layers among its outputs.

    Where the file has more inputs than lead to them, it is one on the part that does.
    """
    part = cut(model, layers)
    if len(real_inputs(part)) < len(real_inputs(model)):
        return reference_session(part, apart)
    shown = ModelProto()
    shown.CopyFrom(model)
    there = {one.name for one in shown.graph.output}
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in layers if name not in there)
    return reference_session(shown, apart)


def _behind(name: str, values: NDArray[Any], choice: Choice, masked: int | None) -> list[Step]:
    """Return what turns a layer's values of one item into (1, dim) float32; `masked` is its length, by a mask."""
    if choice.pooling and choice.pooling not in POOLINGS | MASKED_POOLINGS:
        raise ExportError(f"pooling is {choice.pooling!r}, not one of {', '.join(POOLINGS | MASKED_POOLINGS)}")
    if values.ndim < 2 or len(values) != 1 or values.dtype.kind not in "fiub":
        raise ExportError(
            f"{name!r} is {values.dtype} {values.shape} for one item; a layer has numbers, and the batch comes first: "
            "choose another, headwater layers lists them"
        )
    if values.ndim == 2:
        return [Cast("float32")]
    fitting = poolings_of(values.shape, tokens=choice.modality == "image")
    if values.ndim == 3 and values.shape[1] == masked:
        fitting = MASKED_POOLINGS
    chosen = choice.pooling or by_default(values.ndim)
    if chosen not in fitting:
        raise ExportError(f"{name!r} is {values.shape} for one item; take --pooling {' or '.join(fitting)}")
    return [Cast("float32"), fitting[chosen]]


def _wrapped(model: ModelProto, network: OnnxNetwork, dim: int) -> ModelProto:
    """Return the cut graph between its front end and its pooling, its batch axis free."""
    original = network.original
    body = compose.add_prefix(cut(model, original.layers), PREFIX)
    before, behind = Nodes(f"{_OWN}before/"), Nodes(f"{_OWN}behind/")
    _alias(before, write_all(original.front.steps, before, original.front.name), original.front.graph_input)
    for name, what in original.side.items():
        given = _given(before, network, what)
        (value,) = (one for one in body.graph.input if one.name == PREFIX + name)
        _alias(before, before.add("Cast", [given], to=value.type.tensor_type.elem_type), name)
    rows = [
        write_all(steps, behind, PREFIX + layer) for layer, steps in zip(original.layers, network.back, strict=True)
    ]
    behind.nodes.append(helper.make_node("Concat", rows, [OUTPUT], axis=1))
    graph = helper.make_graph(
        [*before.nodes, *body.graph.node, *behind.nodes],
        network.name,
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), one.shape)
            for name, one in network.input.items()
        ],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", dim])],
        [*before.constants, *body.graph.initializer, *behind.constants],
        sparse_initializer=body.graph.sparse_initializer,
    )
    return helper.make_model(
        graph, opset_imports=body.opset_import, functions=body.functions, ir_version=body.ir_version
    )


def _alias(nodes: Nodes, value: str, graph_input: str) -> None:
    nodes.nodes.append(helper.make_node("Identity", [value], [PREFIX + graph_input]))


def _of_one(values: NDArray[Any], what: str, first: int) -> NDArray[Any]:
    """Return what one item (1, length, …), of which nothing is padding, gives to an input beside it."""
    if what == LENGTHS:
        return np.array([values.shape[1]])
    if what == POSITIONS:
        return np.arange(first, first + values.shape[1])[None]
    return (np.ones if what == MASK else np.zeros)(values.shape[:2])


def _given(nodes: Nodes, network: OnnxNetwork, what: str) -> str:
    """Write the same for a batch, and return the value."""
    if what in network.input:
        return what
    if what == POSITIONS:
        return _positions(nodes, _given(nodes, network, MASK), network.original.first_position)
    return _whole(nodes, network.original.front.name, what)


def _positions(nodes: Nodes, mask: str, first: int) -> str:
    """Write each token's place among those that the mask keeps, from `first`; 0 for padding, on whichever side."""
    place = nodes.add("CumSum", [mask, nodes.constant(np.array(1, np.int64))])
    return nodes.add("Mul", [nodes.add("Add", [place, nodes.constant(np.array(first - 1, np.int64))]), mask])


def _whole(nodes: Nodes, values: str, what: str) -> str:
    """Write it for a batch of items of one length; zeros for token ids."""
    if what == ZEROS:
        return nodes.add("Mul", [values, nodes.constant(np.array(0, np.int64))])
    shape = nodes.add("Shape", [values])
    batch, length = (nodes.add("Gather", [shape, nodes.constant(np.array([axis], np.int64))]) for axis in (0, 1))
    if what == LENGTHS:
        return nodes.add("Expand", [length, batch])
    both = nodes.add("Concat", [batch, length], axis=0)
    return nodes.add("Expand", [nodes.constant(np.array([[1]], np.int64)), both])
