"""What this node offers a job, asked without changing anything: programs, credentials by name, never by value."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Final

from stager.errors import HostError
from stager.host.git import GitFailure, local_environment, run_git

__all__ = ["find_credentials", "git_version", "kernel", "openssl_version"]

_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "SSH_AUTH_SOCK", "GIT_ASKPASS", "GIT_SSH_COMMAND",
)  # fmt: skip
_FILES: Final = ("~/.aws/credentials", "~/.aws/config", "~/.netrc", "~/.git-credentials", "~/.ssh/config")


def kernel() -> str:
    """The kernel's name and release."""
    found = os.uname()
    return f"{found.sysname} {found.release} {found.machine}"


def openssl_version() -> str:
    """The OpenSSL that this Python is linked with; the native engine uses the system's."""
    return ssl.OPENSSL_VERSION


async def git_version(environ: Mapping[str, str]) -> str | None:
    """What `git --version` says; None when there is none."""
    try:
        output = await run_git(["--version"], local_environment("/nonexistent", environ))
    except (GitFailure, HostError):
        return None
    return output.decode("utf-8", "replace").strip().removeprefix("git version ")


def find_credentials(environ: Mapping[str, str]) -> list[str]:
    """Names of variables that are set and of files that are there and would be used."""
    files = {name: os.path.expanduser(name) for name in _FILES}
    found = [name for name in _VARIABLES if environ.get(name)]
    return found + [name for name, path in files.items() if os.access(path, os.R_OK)]
