"""What the runtimes of this machine have, for the tests that need it."""

import pytest

from extractor import runtime

_OPENVINO = runtime.available().get("openvino", {}).get("cpu", ())
HAS_BF16 = "bf16" in _OPENVINO

needs_openvino = pytest.mark.skipif(not _OPENVINO, reason="openvino is not installed")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="no openvino here, or the processor does not compute in bf16")
