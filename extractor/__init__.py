"""Items -> embeddings: frozen backbones, run by onnxruntime, batched and cached.

`Extractor` is loaded on first use, so that `import extractor` stays light.
"""

import os
from typing import TYPE_CHECKING, Any

from extractor.outcome import Outcome

if TYPE_CHECKING:
    from extractor.pipeline import Extractor

__all__ = ["Extractor", "Outcome"]

# Wheels of onnxruntime report to their maker when they are imported, and write to the home of a user: not from here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name == "Extractor":
        from extractor.pipeline import Extractor

        return Extractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
