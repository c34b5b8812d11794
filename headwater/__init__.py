"""Headwater: transfer learning as a service.

`Client` is loaded on first use; it loads neither onnxruntime nor Pillow nor scikit-learn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.client import Client

__all__ = ["Client"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Client":
        from headwater.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
