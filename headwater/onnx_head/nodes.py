"""Operators, one after another -> the nodes and constants of an ONNX graph. All of it computes in double.

A narrowing to float32 half-way would cost what a head's answer is proved to, and a head is small beside its backbone.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # onnxruntime 1.20 reads it
IR_VERSION = 10
BOOL, DOUBLE, FLOAT, INT64 = TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64


class Nodes:
    """The nodes of a graph, as they are added; each value is called by the name that adding it gave."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return that output's name."""
        return self.add_many(operator, *inputs, n_outputs=1, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node of several outputs and return their names."""
        name = f"head/{operator}_{len(self.nodes)}"
        outputs = [f"{name}:{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs

    def output(self, name: str, value: str, kind: int, *width: int) -> None:
        """Make a value (batch, *width) an output of the graph, as a type of `onnx.TensorProto`."""
        self.nodes.append(helper.make_node("Cast", [value], [name], name=f"head/{name}", to=kind))
        self.outputs.append(helper.make_tensor_value_info(name, kind, ["batch", *width]))

    def double(self, value: NDArray[Any] | float) -> str:
        """Add a constant and return it as double; it is kept as float32 where that loses nothing."""
        array = np.asarray(value, np.float64)
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        if narrow.size < 2 or not np.array_equal(narrow, array):
            return self._constant(array)
        return self.cast(self._constant(narrow), DOUBLE)

    def int64(self, value: NDArray[Any] | list[int]) -> str:
        """Add a constant of whole numbers, int64."""
        return self._constant(np.asarray(value, np.int64))

    def bool(self, value: NDArray[np.bool_]) -> str:
        """Add a constant of truth values."""
        return self._constant(value)

    def cast(self, name: str, kind: int) -> str:
        """Add a conversion to a type of `onnx.TensorProto`."""
        return self.add("Cast", name, to=kind)

    def sum(self, name: str, axis: int, *, keepdims: int = 0) -> str:
        """Add a sum over an axis."""
        return self.add("ReduceSum", name, self.int64([axis]), keepdims=keepdims)

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"head/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name
