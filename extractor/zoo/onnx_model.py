"""An ONNX file -> its model with its weights; its layers and their shapes; the part that leads to some of them.

Nothing of the file is executed here, and nothing but the file and the data that it names beside it is read.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from extractor.errors import ExportError
from extractor.zoo.choice import PENULTIMATE
from extractor.zoo.layer import Layer
from extractor.zoo.onnx_save import INSIDE, MAX_BYTES, tensor_bytes

_MATMULS = {"Gemm", "MatMul"}
_SHOWN = 5  # names that an error lists
_ENCODED = ("sentence_embedding", "last_hidden_state", "token_embeddings")  # of Sentence Transformers, first and last
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # as onnxruntime calls it


def read_model(path: Path) -> ModelProto:
    """Read an ONNX file, with the tensors that it keeps in files beside it.

    Where the whole is larger than one file can be, the large tensors stay where they are, and the model names their
    places: see `is_apart`.

    Raises
    ------
    ExportError
        The file is missing, no ONNX graph, or cut short; or a file beside it is missing, elsewhere or cut short.
    """
    _check_size(path)
    if not path.is_file():
        raise ExportError(f"{path} is no file; name an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's exceptions share no public root
        raise ExportError(f"{path} is no ONNX file, or was cut short ({error}); copy it again") from None
    if not model.graph.node or not model.opset_import:
        raise ExportError(f"{path} has no whole ONNX graph in it ({_size(path):,} bytes); copy it again")
    external = [tensor for tensor in _all_tensors(model) if uses_external_data(tensor)]
    _check_external(path, external)
    weights = {tensor.name for tensor in model.graph.initializer}
    apart = _size(path) + sum(map(tensor_bytes, external)) > MAX_BYTES
    try:
        for tensor in external:
            if not apart or tensor.name not in weights or tensor_bytes(tensor) < INSIDE:
                load_external_data_for_tensor(tensor, str(path.parent))
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")  # so that it is as if it had always been inside
    except Exception as error:  # as above
        raise ExportError(f"{path} is no whole ONNX graph: {error}; export it again") from None
    return model


def is_apart(model: ModelProto) -> bool:
    """Tell whether a model keeps weights outside."""
    return any(map(uses_external_data, model.graph.initializer))


def reference_session(model: ModelProto, folder: Path | None = None) -> Any:
    """Return a session of onnxruntime on a model as it came, by which a cut one is measured.

    Parameters
    ----------
    model : onnx.ModelProto
    folder : Path, optional
        Of the weights that it keeps outside.

    Raises
    ------
    ExportError
        onnxruntime does not run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if folder is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public root
        raise ExportError(f"onnxruntime {onnxruntime.__version__} cannot run the graph: {error}") from None


def layers(model: ModelProto) -> list[Layer]:
    """Return the values that a graph's nodes compute, in its order, with the shapes that can be inferred."""
    inferred = _inferred(model)
    shapes = {one.name: _shape(one) for one in (*inferred.graph.value_info, *inferred.graph.output)}
    return [
        Layer(output, node.name, node.op_type, shapes.get(output))
        for node in model.graph.node
        for output in node.output
        if output and node.op_type != "Constant"
    ]


def find_layer(model: ModelProto, name: str) -> str:
    """Return the value that a name means: a value's, a node's, whose first output it then is, or `penultimate`.

    Raises
    ------
    ExportError
        There is none; the message lists names that are near.
    """
    known = layers(model)
    values = {one.name for one in known}
    nodes = {one.node: one.name for one in reversed(known) if one.node}
    if name in values:
        return name
    if name in nodes:
        return nodes[name]
    if name == PENULTIMATE:
        return _penultimate(model, values)
    near = get_close_matches(name, values | nodes.keys(), n=_SHOWN, cutoff=0.4) or [one.name for one in known[-_SHOWN:]]
    raise ExportError(
        f"the graph has no node or value {name!r}; near it are {', '.join(map(repr, near))}; "
        "list all with headwater layers"
    )


def cut(model: ModelProto, values: Sequence[str]) -> ModelProto:
    """Return the part of a model that leads to some values, which are its outputs."""
    graph = model.graph
    needed = set(values)
    nodes: list[NodeProto] = []
    for node in reversed(graph.node):  # a graph's nodes stand in the order in which they are computed
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(_read_by(node))
    part = helper.make_graph(
        nodes[::-1],
        graph.name or "graph",
        [one for one in graph.input if one.name in needed],
        [helper.make_empty_tensor_value_info(name) for name in values],
        [one for one in graph.initializer if one.name in needed],
        sparse_initializer=[one for one in graph.sparse_initializer if one.values.name in needed],
    )
    return helper.make_model(
        part,
        opset_imports=model.opset_import,
        functions=model.functions,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )


def real_inputs(model: ModelProto) -> dict[str, Any]:
    """Return the inputs that a caller gives, by name: old graphs list their weights among the inputs too."""
    weights = {one.name for one in model.graph.initializer}
    return {one.name: one for one in model.graph.input if one.name not in weights}


def shape_of(value: Any) -> tuple[int | str, ...]:
    """Return the shape of an input or output, a name for each free axis; () where the file tells none."""
    return _shape(value) or ()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}; name an ONNX file") from None


def _check_size(path: Path) -> None:
    if (n_bytes := _size(path)) > MAX_BYTES:
        raise ExportError(
            f"{path} has {n_bytes / 2**30:.2f} GiB, one ONNX file holds at most 2; save its weights beside it: "
            "onnx.save(…, save_as_external_data=True)"
        )


def _check_external(path: Path, tensors: Sequence[TensorProto]) -> None:
    """Check that the data which tensors name is there, beside the file and whole, before any of it is read."""
    for tensor in tensors:
        facts = {one.key: one.value for one in tensor.external_data}
        location = facts.get("location", "")
        file = path.parent / location
        if not location or not file.resolve().is_relative_to(path.parent.resolve()):
            raise ExportError(f"{path} names {location!r} for a tensor; its data must be in a file beside it")
        if not file.is_file():
            raise ExportError(f"{path} keeps weights in {location!r}, which is not beside it; copy that too")
        left = file.stat().st_size
        try:
            offset = int(facts.get("offset", 0))
            n_bytes = int(facts.get("length", left - offset))
        except ValueError:
            raise ExportError(f"{path} names no place in {location!r} for a tensor; export it again") from None
        if offset < 0 or n_bytes < 0 or offset + n_bytes > left:
            raise ExportError(f"{file} has {left:,} bytes, {path.name} needs {offset + n_bytes:,}: it was cut short")
        if "length" not in facts:  # which says: all that is left
            tensor.external_data.add(key="length", value=str(n_bytes))


def _all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _constants(function.node)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _constants(graph.node)


def _constants(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    """Yield the tensors among nodes' attributes."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
        for inner in _subgraphs(node):
            yield from _tensors(inner)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _read_by(node: NodeProto) -> Collection[str]:
    """Return the values that a node reads; the branches of If and Loop read those of the graph around them too."""
    read = set(node.input)
    for graph in _subgraphs(node):
        for inner in graph.node:
            read.update(_read_by(inner))
        read.update(one.name for one in graph.output)  # a branch may give what is outside it
    return read - {""}


def _penultimate(model: ModelProto, values: set[str]) -> str:
    """Return what an encoder gives, as exporters call it; else what the last Gemm or MatMul by constant weights takes.

    The latter are the features of a classifier; in an encoder, which ends in none, they would be of its last block's
    inside.
    """
    given = {one.name for one in model.graph.output}
    for name in _ENCODED:
        if name in given:
            return name
    weights = {one.name for one in model.graph.initializer}
    weights.update(output for node in model.graph.node if node.op_type == "Constant" for output in node.output)
    for node in reversed(model.graph.node):
        if node.op_type in _MATMULS and weights.intersection(node.input) and node.input[0] in values:
            return str(node.input[0])
    raise ExportError("the graph ends in no Gemm or MatMul by weights; name a layer: list them with headwater layers")


def _inferred(model: ModelProto) -> ModelProto:
    bare = ModelProto()
    bare.CopyFrom(model)
    try:
        return onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # a graph that the runtime takes, and whose shapes ONNX cannot tell
        return bare


def _shape(value: Any) -> tuple[int | str, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(_axes(value.type.tensor_type.shape.dim))


def _axes(axes: Iterable[Any]) -> Iterator[int | str]:
    for axis in axes:
        named = axis.dim_param and not axis.dim_param.startswith("unk__")  # as ONNX calls what it cannot tell
        yield axis.dim_value if axis.HasField("dim_value") else axis.dim_param if named else "?"
