"""Headwater: transfer learning as a service.

`Client` and `AsyncClient` are loaded on first use; they load neither onnxruntime nor Pillow nor scikit-learn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.aio import AsyncClient
    from headwater.client import Client

__all__ = ["AsyncClient", "Client"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Client":
        from headwater.client import Client

        return Client
    if name == "AsyncClient":
        from headwater.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
