"""A certificate authority of the tests' own, and a server certificate for localhost and 127.0.0.1."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Paths of PEM files: ``chain_file`` is what a server shows; ``stranger_ca_file`` signed nothing."""

    ca_file: str
    chain_file: str
    key_file: str
    stranger_ca_file: str

    def handshakes(self, address: tuple[str, int]) -> bool:
        """Whether a server at ``address`` completes TLS as localhost. OSError: it does not."""
        context = ssl.create_default_context(cafile=self.ca_file)
        with (
            socket.create_connection(address, timeout=10) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as wrapped,
        ):
            return wrapped.version() is not None


def make_certificates(directory: Path, *names: str) -> Certificates:
    """Issue a server certificate for ``names`` (default: localhost and 127.0.0.1)."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    files = {name: str(directory / f"{name}.pem") for name in ("ca", "chain", "key", "stranger")}
    authority.cert_pem.write_to_path(files["ca"])
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(files["chain"], append=True)
    certificate.private_key_pem.write_to_path(files["key"])
    trustme.CA().cert_pem.write_to_path(files["stranger"])
    return Certificates(
        ca_file=files["ca"],
        chain_file=files["chain"],
        key_file=files["key"],
        stranger_ca_file=files["stranger"],
    )
