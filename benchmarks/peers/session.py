"""A backbone folder -> an onnxruntime session with the options that Headwater sets."""

from pathlib import Path
from typing import Any

import onnxruntime


def open_session(folder: Path, threads: int = 1, *, spin: bool = False) -> Any:
    """Open `model.onnx` on the CPU; threads that spin serve one loop that has the machine to itself, and no other."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
