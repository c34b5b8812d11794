"""A torch network -> an ONNX file, the same bytes at every export."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

from extractor.errors import ExportError
from extractor.spec import Input
from extractor.zoo.onnx_save import save_onnx
from extractor.zoo.torch_network import TorchNetwork

OPSET = 20
OUTPUT = "embeddings"  # not `embedding`: BERT has a node of that name, and the exporter would define it twice
_EXAMPLE = 2  # a batch of 1 would be taken for a constant


def write_graph(network: TorchNetwork, path: Path) -> None:
    """Trace the network with `torch.onnx.export`; axes that the spec names stay free.

    Raises
    ------
    ExportError
        The exporter cannot trace the network, or gives a graph that ONNX's checker refuses.
    """
    try:
        save_onnx(_trace(network), path)
    except OSError:
        raise  # of the disk
    except Exception as error:  # torch's and onnx's exceptions share no root
        raise ExportError(
            f"{network.name} cannot be exported by torch {torch.__version__} and onnx {onnx.__version__}: "
            f"{_root(error)}; choose a layer before what cannot be traced, or bring an ONNX file: onnx:FILE"
        ) from error


def _root(error: BaseException) -> str:
    """Return what the exporter stumbled over: its own message is a page of advice on its own code."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling of its own insides, which no caller can mend."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx", "torch.fx")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def _trace(network: TorchNetwork) -> Any:
    inputs = network.input
    with _quiet():
        program = torch.onnx.export(
            network.module,
            kwargs={name: _example(value, network.traced_length) for name, value in inputs.items()},
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


def _example(value: Input, length: int) -> torch.Tensor:
    shape = [_EXAMPLE, *(length if isinstance(axis, str) else axis for axis in value.shape[1:])]
    fill = length if len(shape) == 1 else 1  # lengths themselves have no axis but the batch's
    return torch.full(shape, fill, dtype=getattr(torch, value.dtype))


def _free_axes(value: Input) -> dict[int, str]:
    return {position: axis for position, axis in enumerate(value.shape) if isinstance(axis, str)}
