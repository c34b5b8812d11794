"""Items -> embeddings: frozen backbones, run by onnxruntime, batched and cached.

`Extractor` is loaded on first use, so that `import extractor` stays light.
"""

from typing import TYPE_CHECKING, Any

from extractor.outcome import Outcome

if TYPE_CHECKING:
    from extractor.pipeline import Extractor

__all__ = ["Extractor", "Outcome"]


def __getattr__(name: str) -> Any:
    if name == "Extractor":
        from extractor.pipeline import Extractor

        return Extractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
