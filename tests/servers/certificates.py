"""A certificate authority of the tests' own, and a server certificate for localhost and 127.0.0.1."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Paths of PEM files: ``chain_file`` is what a server shows, ``client_file`` what a client does that is called
    client.example; ``client_both_file`` has its key too, ``client_locked_file`` the key with a password;
    ``stranger_ca_file`` signed nothing.
    """

    ca_file: str
    chain_file: str
    key_file: str
    stranger_ca_file: str
    client_file: str
    client_key_file: str
    client_both_file: str
    client_locked_file: str

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
    client = authority.issue_cert("client.example")
    names_of_files = ("ca", "chain", "key", "stranger", "client", "client-key", "client-both", "client-locked")
    files = {name: str(directory / f"{name}.pem") for name in names_of_files}
    authority.cert_pem.write_to_path(files["ca"])
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(files["chain"], append=True)
    certificate.private_key_pem.write_to_path(files["key"])
    trustme.CA().cert_pem.write_to_path(files["stranger"])
    client.private_key_pem.write_to_path(files["client-key"])
    client.private_key_and_cert_chain_pem.write_to_path(files["client-both"])
    for blob in client.cert_chain_pems:
        blob.write_to_path(files["client"], append=True)
    key = load_pem_private_key(client.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    Path(files["client-locked"]).write_bytes(locked)
    return Certificates(
        ca_file=files["ca"],
        chain_file=files["chain"],
        key_file=files["key"],
        stranger_ca_file=files["stranger"],
        client_file=files["client"],
        client_key_file=files["client-key"],
        client_both_file=files["client-both"],
        client_locked_file=files["client-locked"],
    )
