"""A network in fp32 and what it computes of a few items -> the same in int8, with ranges that no batch changes.

onnxruntime's own quantisation: weights of 8 bits with a scale for each channel, activations of 8 bits with ranges that
are fixed beforehand (static), as Jacob et al. have it ("Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018).
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from extractor.errors import ExportError
from extractor.precision.graphs import load, ordered, weighted

FOLLOWERS = ("Clip", "Relu")  # of a convolution: its output has their range, and they cost nothing any more
OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "Add", *FOLLOWERS)
_OPSET = 13  # the first whose DequantizeLinear has an axis
_OPTIONS = {
    "WeightSymmetric": True,
    "ActivationSymmetric": False,
    # Their sums stay in fp32: the range of a transformer's outputs is that of a few large ones.
    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
}


class Int8:
    """A network whose ranges are known.

    Parameters
    ----------
    model : onnx.ModelProto
        In fp32; stays as it is.
    ranges : onnxruntime.quantization.calibrate.TensorsData
        The least and the largest value of each activation.
    """

    mixes = True
    alone_in = "int8"

    def __init__(self, model: Any, ranges: Any) -> None:
        self.model = model
        self.ranges = ranges
        self._nodes = _layers(model)  # of each layer: itself and what follows it
        self.layers = tuple(self._nodes)

    @classmethod
    def calibrate(cls, path: Path, batches: Iterable[Mapping[str, NDArray[Any]]], workspace: Path) -> "Int8":
        """Take the ranges of a network's activations.

        Parameters
        ----------
        path : Path
            An ONNX file.
        batches : iterable of mapping of str to ndarray
            Its inputs.
        workspace : Path
            A folder for files that nobody needs afterwards.

        Raises
        ------
        ExportError
            The graph is older than scales of channels.
        """
        whole, prepared, augmented = (str(workspace / f"{what}.onnx") for what in ("whole", "prepared", "augmented"))
        model = load(str(path))
        _check_opset(model)
        onnx.save(model, whole)  # with the weights that stand beside it
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        model = load(prepared)
        onnx.save(model, prepared)  # with the names that it was given
        calibrator = create_calibrator(prepared, OPS, augmented, calibrate_method=CalibrationMethod.MinMax)
        calibrator.collect_data(_Reader(batches))
        return cls(model, calibrator.compute_data())

    def graph(self, kept: Collection[str]) -> Any:
        """Return the network in int8, but for the layers that are kept."""
        return self._quantised([layer for layer in self.layers if layer not in kept])

    def alone(self, layer: str) -> Any:
        """Return the network in fp32, but for one layer."""
        return self._quantised([layer])

    def _quantised(self, layers: Collection[str]) -> Any:
        copy = type(self.model)()
        copy.CopyFrom(self.model)
        chosen = [node for layer in layers for node in self._nodes[layer]]
        if not chosen:  # onnxruntime would take none for all
            return copy
        quantizer = QDQQuantizer(
            copy, True, False, QuantType.QInt8, QuantType.QUInt8, self.ranges, chosen, [], OPS, _OPTIONS
        )
        quantizer.quantize_model()
        return ordered(quantizer.model.model)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Gives one batch after the other, then None."""

    def __init__(self, batches: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        return next(self._batches, None)


def _check_opset(model: Any) -> None:
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < _OPSET:
        raise ExportError(
            f"the graph is of opset {opset}, and weights with a scale for each channel take {_OPSET}: export the "
            f"network again with opset_version={_OPSET} or later, or stay with fp32"
        )


def _layers(model: Any) -> dict[str, list[str]]:
    """Return the layers in the order of the graph, each with its node and what follows it.

    These are what has weights, tables of embeddings, and sums of what convolutions give, whose bits would else be
    turned to fp32 and back. Sums of a transformer are not among them.
    """
    weights = {node.name for node in weighted(model)}
    constants = {tensor.name for tensor in model.graph.initializer if tensor.data_type == tensor.FLOAT}
    found: dict[str, list[str]] = {}
    maps: dict[str, str] = {}  # values that convolutions, or sums of these, give -> the layer
    for node in model.graph.node:
        if node.op_type in FOLLOWERS and node.input[0] in maps:
            layer = maps[node.output[0]] = maps[node.input[0]]
            found[layer].append(node.name)
        elif (
            node.name in weights
            or (node.op_type == "Gather" and node.input[0] in constants)
            or (node.op_type == "Add" and all(name in maps for name in node.input))
        ):
            found[node.name] = [node.name]
            if node.op_type in ("Conv", "ConvTranspose", "Add"):
                maps[node.output[0]] = node.name
    return found
