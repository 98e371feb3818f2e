"""The certificates that this host trusts."""

from __future__ import annotations

import importlib
import os
from typing import Final

__all__ = ["system_ca_file"]

_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_ca_file() -> str:
    """The system's bundle in one of its known places; else certifi's, or botocore's own, which is imported then."""
    found = next((path for path in _SYSTEM_BUNDLES if os.path.isfile(path)), None)
    return found or str(importlib.import_module("botocore.httpsession").get_cert_path(True))
