"""`AdminClient`: changes what a running server serves. Loads neither onnxruntime nor Pillow nor scikit-learn."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from headwater import status
from headwater.channel import Access, open_channel
from headwater.errors import ClientClosed
from headwater.v1 import admin_pb2 as pb
from headwater.v1 import admin_pb2_grpc

LAST_WORD_S = 30.0  # beyond the time that a drain may take


class AdminClient:
    """Asks a Headwater server to change; use it as a context manager.

    Every method raises an ExtractorError where the server refuses, a ServiceError for any other failure of a call, and
    ClientClosed once the client is closed.

    Parameters
    ----------
    target : str
        `host:port`.
    timeout_s : float
        For the answer to a call; a server carries a change through also when its caller waits no longer.
    key, ca, cert, cert_key : optional
        API key, with the role `admin`, authorities, certificate and its private key: see `headwater.channel.Access`.

    Examples
    --------
    >>> with AdminClient("127.0.0.1:50051") as admin:  # doctest: +SKIP
    ...     admin.load("minilm-l6")
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 300.0,
        key: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        cert_key: str | Path | None = None,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        access = Access(key=key, ca=ca, cert=cert, cert_key=cert_key)
        self._metadata = access.metadata()
        self._closed = False
        self._channel = open_channel(target, access)
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)

    def load(self, name: str) -> pb.BackboneStatus:
        """Serve an installed backbone beside the others."""
        backbone: pb.BackboneStatus = self._ask("LoadBackbone", pb.LoadBackboneRequest(name=name)).backbone
        return backbone

    def unload(self, name: str) -> int:
        """Serve a backbone no longer; return how many requests still run on it."""
        users: int = self._ask("UnloadBackbone", pb.UnloadBackboneRequest(name=name)).users
        return users

    def replace(
        self, name: str, *, expected_fingerprint: str = "", allow_new_fingerprint: bool = False
    ) -> pb.ReplaceBackboneResponse:
        """Load a served backbone anew from its folder, and swap.

        Parameters
        ----------
        name : str
        expected_fingerprint : str, optional
            What the new one must have; by default what the old one has.
        allow_new_fingerprint : bool
            Take any fingerprint.

        Raises
        ------
        BackboneChanged
            The folder's fingerprint is another; the old backbone goes on serving.
        """
        request = pb.ReplaceBackboneRequest(
            name=name, expected_fingerprint=expected_fingerprint, allow_new_fingerprint=allow_new_fingerprint
        )
        done: pb.ReplaceBackboneResponse = self._ask("ReplaceBackbone", request)
        return done

    def drain(self, *, timeout_s: float | None = None, stop: bool = False) -> pb.DrainResponse:
        """Let a server take no more work, and wait until that which runs has ended, or the time is over.

        Parameters
        ----------
        timeout_s : float, optional
            By default what the server was started with.
        stop : bool
            End the server's process afterwards.
        """
        request = pb.DrainRequest(timeout_s=timeout_s, stop=stop)
        wait_s = self.timeout_s if timeout_s is None else timeout_s + LAST_WORD_S
        done: pb.DrainResponse = self._ask("Drain", request, wait_s)
        return done

    def set_log_level(self, level: str, *, logger: str = "") -> str:
        """Set the level of a logger, by default of the root; return the old one."""
        old: str = self._ask("SetLogLevel", pb.SetLogLevelRequest(level=level, logger=logger)).old_level
        return old

    def status(self) -> pb.GetServerStatusResponse:
        """Return how the server and each of its backbones are."""
        found: pb.GetServerStatusResponse = self._ask("GetServerStatus", pb.GetServerStatusRequest())
        return found

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._channel.close()

    def _ask(self, method: str, request: Any, timeout_s: float | None = None) -> Any:
        if self._closed:
            raise ClientClosed(f"the client of {self.target} is closed; make another one")
        try:
            return getattr(self._stub, method)(request, timeout=timeout_s or self.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise status.call_error(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
