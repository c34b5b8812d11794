"""A network in fp32 -> the same in fp16, but for what it takes and gives; for GPUs, and slowly for any processor."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from onnx import TensorProto

from extractor.errors import ExportError
from extractor.precision.graphs import load, ordered, weighted
from extractor.precision.rounding import FP16, rounded_at


class Fp16:
    """The network of an ONNX file.

    Parameters
    ----------
    model : onnx.ModelProto
        Stays as it is.
    """

    mixes = True
    alone_in = "fp32"

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = tuple(node.name for node in weighted(model))

    @classmethod
    def load(cls, path: Path) -> "Fp16":
        """Read an ONNX file; raises ExportError where it computes in float64, which would stay so."""
        model = load(str(path))
        if weighted(model, TensorProto.DOUBLE):
            raise ExportError("the graph computes in float64, which fp16 cannot be made of; bring it in float32")
        return cls(model)

    def graph(self, kept: Collection[str]) -> Any:
        """Return the network in fp16, but for the layers that are kept."""
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        copy = type(self.model)()
        copy.CopyFrom(self.model)
        made = convert_float_to_float16(
            copy, keep_io_types=True, op_block_list=list(DEFAULT_OP_BLOCK_LIST), node_block_list=list(kept)
        )
        return ordered(made)

    def alone(self, layer: str) -> Any:
        """Return the network where what one layer takes is rounded to fp16."""
        return rounded_at(self.model, layer, FP16)
