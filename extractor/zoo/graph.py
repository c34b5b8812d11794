"""A network -> the bytes of one ONNX file, the same at every export."""

import warnings
from typing import Any

import onnx
import torch
from google.protobuf.message import Message

from extractor.errors import ExportError
from extractor.spec import Input
from extractor.zoo.network import Network

OPSET = 20
OUTPUT = "embeddings"  # not `embedding`: BERT has a node of that name, and the exporter would define it twice
_EXAMPLE = 2  # a batch or a token axis of 1 would be taken for a constant
_LOOSE_FIELDS = {"doc_string", "metadata_props", "value_info"}


def to_onnx(network: Network) -> bytes:
    """Trace the network with `torch.onnx.export`, weights inside; axes that the spec names stay free.

    Names of Python files, of torch's version and of shapes between the nodes are left out: no machine is in
    the bytes, and so the fingerprint is the same wherever the graph and the weights are.

    Raises
    ------
    ExportError
        The exporter cannot trace the network, or gives a graph that ONNX's checker refuses.
    """
    try:
        model = _trace(network)
        _strip(model)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # torch's and onnx's exceptions share no root
        raise ExportError(
            f"{network.name} cannot be exported by torch {torch.__version__} and onnx {onnx.__version__}: {error}"
        ) from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _trace(network: Network) -> Any:
    inputs = network.input
    with warnings.catch_warnings():  # the exporter warns of its own insides, which no caller can mend
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.module,
            kwargs={name: _example(value) for name, value in inputs.items()},
            input_names=list(inputs),
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes={name: _free_axes(value) for name, value in inputs.items()},
            dynamo=True,
            verbose=False,
        )
    if program is None:  # only torch's older exporter gives nothing
        raise ExportError("torch.onnx.export returned no program")
    return program.model_proto


def _example(value: Input) -> torch.Tensor:
    shape = [_EXAMPLE if isinstance(axis, str) else axis for axis in value.shape]
    return torch.ones(shape, dtype=getattr(torch, value.dtype))


def _free_axes(value: Input) -> dict[int, str]:
    return {position: axis for position, axis in enumerate(value.shape) if isinstance(axis, str)}


def _strip(model: Any) -> None:
    model.producer_version = ""
    _clear_loose_fields(model)


def _clear_loose_fields(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in _LOOSE_FIELDS:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                _clear_loose_fields(child)
