"""Headwater: transfer learning as a service.

The clients are loaded on first use, and load neither onnxruntime nor Pillow nor scikit-learn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.admin_client import AdminClient
    from headwater.aio import AsyncClient
    from headwater.client import Client

__all__ = ["AdminClient", "AsyncClient", "Client"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Client":
        from headwater.client import Client

        return Client
    if name == "AsyncClient":
        from headwater.aio import AsyncClient

        return AsyncClient
    if name == "AdminClient":
        from headwater.admin_client import AdminClient

        return AdminClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
