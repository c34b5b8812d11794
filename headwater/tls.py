"""The server's certificates: files -> gRPC credentials that follow the files as they change, without a restart.

gRPC asks before each handshake. Connections that are open stay as they are; a new one gets what the files hold then.
"""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from headwater.errors import ServerNotStarted

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """What a server proves itself with, and whom it asks for proof; each a file in PEM.

    Parameters
    ----------
    cert : Path
        The server's certificate, with those between it and its authority.
    key : Path
        Its private key, not encrypted.
    client_ca : Path, optional
        Authorities: where given, every client must show a certificate of one of them (mTLS).
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return (self.cert, self.key) if self.client_ca is None else (self.cert, self.key, self.client_ca)


class Certificates:
    """Reads certificates again when their files have changed; new ones that do not fit together are not taken.

    Parameters
    ----------
    files : TlsFiles
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp: _Stamp | None = None
        self._lock = threading.Lock()  # gRPC asks from threads of its own

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Read the files for the first time; raises ServerNotStarted."""
        try:
            self._stamp = self._look()
            return _read(self._files)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ServerNotStarted(f"cannot serve TLS: {_describe(error, self._files)}") from None

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold now, or None where that is as it was or cannot be used."""
        with self._lock:
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    return None
                self._stamp = stamp
                configuration = _read(self._files)
                if self._look() != stamp:  # half of a change: the next handshake sees the whole of it
                    self._stamp = None
                    return None
            except (OSError, ValueError) as error:
                log.error("the former certificate stays in force: %s", _describe(error, self._files))
                return None
            log.info("new certificate from %s", self._files.cert)
            return configuration

    def _look(self) -> _Stamp:
        facts = [path.stat() for path in self._files.paths]
        # The ctime, for a file that could not be read is another one once its mode is mended.
        return tuple((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino) for one in facts)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the files; raises ServerNotStarted where they cannot be used."""
    certificates = Certificates(files)
    return grpc.dynamic_ssl_server_credentials(
        certificates.load(),
        certificates.renewed,  # type: ignore[arg-type]  # the stubs forget that None stands for no change
        require_client_authentication=files.client_ca is not None,
    )


def _read(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Read the files and make sure that certificate and key belong together; raises OSError, ValueError."""
    chain, private = files.cert.read_bytes(), files.key.read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key, password="")  # none: asks nobody at the terminal
    authorities = None
    if files.client_ca is not None:
        authorities = files.client_ca.read_bytes()
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    return grpc.ssl_server_certificate_configuration([(private, chain)], authorities)


def _describe(error: OSError | ValueError, files: TlsFiles) -> str:
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        names = " and ".join(str(path) for path in files.paths)
        return f"{names} are no certificate in PEM with its own private key, not encrypted ({error})"
    return f"cannot read {error.filename}: {error.strerror}"
