"""An ONNX model -> the bytes of one file, the same at every export."""

from typing import Any

import onnx
from google.protobuf.message import Message

MAX_BYTES = (1 << 31) - (1 << 20)  # one protobuf message holds 2 GiB
_LOOSE_FIELDS = {"doc_string", "metadata_props", "value_info"}


def onnx_bytes(model: Any) -> bytes:
    """Check a model and serialise it, without what is about the machine that made it.

    Names of Python files, the exporter's version and shapes between the nodes are left out: so the fingerprint is the
    same wherever the graph and the weights are. Raises what ONNX's checker raises.
    """
    model.producer_version = ""
    _clear_loose_fields(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _clear_loose_fields(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in _LOOSE_FIELDS:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                _clear_loose_fields(child)
