"""An ONNX model -> its file, the same bytes at every export, and one for weights that the first cannot hold."""

from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import Message
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from extractor.spec import WEIGHTS_FILE

MAX_BYTES = (1 << 31) - (1 << 20)  # one protobuf message holds 2 GiB
INSIDE = 1 << 16  # bytes; tensors below that stay in the graph's own file: some are shapes that ONNX has to read
_ALIGNMENT = 1 << 16  # of each tensor's place, so that runtimes can map it
_PIECE = 1 << 24  # bytes that are copied at once
_LOOSE_FIELDS = {"doc_string", "metadata_props", "value_info"}


def save_onnx(model: Any, path: Path, base: Path | None = None) -> None:
    """Write a model without what is about the machine that made it, and check it.

    Names of Python files, the exporter's version and shapes between the nodes are left out: so the fingerprint is the
    same wherever the graph and the weights are. Raises what ONNX's checker raises.

    Parameters
    ----------
    model : onnx.ModelProto
        Its weights leave it where they are larger than one file can be.
    path : Path
    base : Path, optional
        The folder of the files in which the model keeps weights, if it does.
    """
    model.producer_version = ""
    _clear_loose_fields(model)
    if base is not None or sum(map(tensor_bytes, model.graph.initializer)) > MAX_BYTES:
        _move_out(model, path.with_name(WEIGHTS_FILE), base)
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the size of a tensor, wherever its numbers are kept; protobuf cannot tell it above 2 GiB."""
    if uses_external_data(tensor):
        return _place(tensor)[2]
    return len(tensor.raw_data) if tensor.HasField("raw_data") else int(tensor.ByteSize())


def _place(tensor: TensorProto) -> tuple[str, int, int]:
    """Return the file, the offset and the length of what is kept outside."""
    facts = {one.key: one.value for one in tensor.external_data}
    return facts["location"], int(facts.get("offset", 0)), int(facts["length"])


def _move_out(model: Any, weights: Path, base: Path | None) -> None:
    """Move the large tensors into one file, in the graph's order."""
    with weights.open("wb") as file:
        for tensor in model.graph.initializer:
            if not uses_external_data(tensor) and tensor_bytes(tensor) < INSIDE:
                continue
            offset = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
            file.seek(offset)
            _copy(tensor, file, base)
            _name_place(tensor, weights.name, offset, file.tell() - offset)


def _name_place(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _copy(tensor: TensorProto, file: BinaryIO, base: Path | None) -> None:
    if base is None or not uses_external_data(tensor):
        _make_raw(tensor)
        file.write(tensor.raw_data)
        return
    location, offset, left = _place(tensor)
    with (base / location).open("rb") as source:
        source.seek(offset)
        while left and (piece := source.read(min(left, _PIECE))):
            left -= file.write(piece)


def _make_raw(tensor: TensorProto) -> None:
    if not tensor.HasField("raw_data"):
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))


def _clear_loose_fields(message: Message) -> None:
    if isinstance(message, TensorProto):  # whose numbers are not to be looked through
        for name in ("doc_string", "metadata_props"):
            message.ClearField(name)
        return
    for field, value in message.ListFields():
        if field.name in _LOOSE_FIELDS:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                _clear_loose_fields(child)
