"""How a client reaches a server: a key, an authority, a certificate -> call metadata and channel credentials."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from headwater.errors import CredentialsInvalid
from headwater.exposure import is_loopback
from headwater.v1 import classifier_pb2_grpc, extractor_pb2_grpc, fewshot_pb2_grpc

SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a client proves itself with, and whom it trusts.

    Parameters
    ----------
    key : str, optional
        An API key. Without TLS it travels in clear, for all on the way to read.
    ca : str or Path, optional
        The authorities that may vouch for the server, a file in PEM; "system" for those that gRPC brings. Without it
        and without `cert` there is no TLS.
    cert : str or Path, optional
        The client's own certificate, a file in PEM, for a server that asks for one.
    cert_key : str or Path, optional
        Its private key.
    """

    key: str | None = None
    ca: str | Path | None = None
    cert: str | Path | None = None
    cert_key: str | Path | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what each call must bring; raises CredentialsInvalid for what cannot be a key."""
        if self.key is None:
            return ()
        key = self.key.strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise CredentialsInvalid("the key is none: it is empty or has characters that no key has; copy it anew")
        return (("authorization", f"Bearer {key}"),)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the channel's credentials, or None for a channel without TLS; raises CredentialsInvalid."""
        if (self.cert is None) != (self.cert_key is None):
            raise CredentialsInvalid("a client's certificate needs its private key, and the other way round; give both")
        if self.ca is None and self.cert is None:
            return None
        roots = None if self.ca in (None, SYSTEM) else _read(self.ca)
        return grpc.ssl_channel_credentials(roots, _read(self.cert_key), _read(self.cert))


def open_channel(target: str, access: Access, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """Return a channel with its credentials; each call must bring `access.metadata()` itself."""
    credentials, options = access.credentials(), (*options, *options_for(target))
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def open_aio_channel(target: str, access: Access, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
    """Return a channel for asyncio; each call must bring `access.metadata()` itself."""
    credentials, options = access.credentials(), (*options, *options_for(target))
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


class Stub:
    """The methods of all services that a client asks, by their names, which no two have.

    Parameters
    ----------
    channel : grpc.Channel or grpc.aio.Channel
    """

    def __init__(self, channel: Any) -> None:
        for service in (
            extractor_pb2_grpc.ExtractorServiceStub,
            classifier_pb2_grpc.ClassifierServiceStub,
            fewshot_pb2_grpc.FewShotServiceStub,
        ):
            vars(self).update(vars(service(channel)))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no service has the method {name!r}")


def options_for(target: str) -> tuple[tuple[str, int], ...]:
    """Return the channel options that a target needs: no proxy stands between this machine and itself."""
    host = target.removeprefix("dns:///").rpartition(":")[0]
    return (("grpc.enable_http_proxy", 0),) if is_loopback(host) else ()


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CredentialsInvalid(f"cannot read {path}: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise CredentialsInvalid(f"{path} holds nothing in PEM; give the file that begins with -----BEGIN")
    return content
