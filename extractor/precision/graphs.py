"""An ONNX graph -> its layers, which can each be left in fp32, and what makes graphs of another precision from it."""

from collections.abc import Collection
from typing import Any, Protocol

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Caster(Protocol):
    """What each precision has: it makes graphs, as `onnx.ModelProto`, from one in fp32."""

    mixes: bool  # whether layers may stay in fp32
    alone_in: str  # the precision in which `alone` is run

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of nodes, in the order of the graph."""

    def graph(self, kept: Collection[str]) -> Any:
        """Return the network in this precision, but for the layers that are kept; only where these may be."""

    def alone(self, layer: str) -> Any:
        """Return the network in fp32, but for one layer."""


def named(model: Any) -> Any:
    """Give each node of a model that has none a name, in place, so that it can be told from others."""
    taken = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{number}"
            node.name = name if name not in taken else f"{name}_{len(taken)}"
            taken.add(node.name)
    return model


def weighted(model: Any, kind: int = onnx.TensorProto.FLOAT) -> list[Any]:
    """Return the nodes that multiply by weights of a dtype: these cost the time, and hold the bytes."""
    constants = {tensor.name for tensor in model.graph.initializer if tensor.data_type == kind}
    return [
        node
        for node in model.graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in constants
    ]


def load(path: str) -> Any:
    """Read a model, its nodes named."""
    return named(onnx.load(path))


def ordered(model: Any) -> Any:
    """Return a model whose nodes stood in any order with each behind what it takes."""
    made = ONNXModel(model)
    made.topological_sort()
    return made.model
