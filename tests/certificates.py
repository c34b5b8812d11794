"""Certificates of a test's own authorities, as files."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from headwater.tls import TlsFiles


@dataclass(frozen=True)
class Authority:
    """An authority whose certificates are written into one folder.

    Parameters
    ----------
    folder : Path
    ca : trustme.CA
    """

    folder: Path
    ca: trustme.CA

    @property
    def path(self) -> Path:
        """The authority's own certificate."""
        path = self.folder / f"ca-{id(self.ca)}.pem"
        self.ca.cert_pem.write_to_path(path)
        return path

    def server(self, name: str = "server", client_ca: Path | None = None) -> TlsFiles:
        """Write a server's certificate for this machine; the files of that name are replaced."""
        cert, key = self._write(self.ca.issue_cert("localhost", "127.0.0.1"), name)
        return TlsFiles(cert=cert, key=key, client_ca=client_ca)

    def client(self, name: str) -> dict[str, Path]:
        """Write a client's certificate with a common name; it is what a Client takes."""
        cert, key = self._write(self.ca.issue_cert(f"{name}@example.org", common_name=name), name)
        return {"cert": cert, "cert_key": key}

    def _write(self, leaf: trustme.LeafCert, name: str) -> tuple[Path, Path]:
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        leaf.private_key_pem.write_to_path(key)
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return cert, key
