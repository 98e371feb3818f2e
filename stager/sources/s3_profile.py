"""A profile of the AWS configuration and credentials files, where both files are plain.

Plain is a subset of what botocore reads with configparser: sections, comments, ``name = value`` in one line; ASCII.
Source: AWS SDKs and Tools Reference Guide, "Format of the shared config and credentials files".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = ["Profile", "read_profile"]

_NAME: Final = r"[A-Za-z0-9_.-]+"
_SECTION: Final = r"\[([A-Za-z0-9_.-]+(?: [A-Za-z0-9_.-]+)?)\]"
_SETTING: Final = r"([A-Za-z0-9_]+)[ \t]*=[ \t]*([!-~](?:[ -~]*[!-~])?)"
_KEYS: Final = frozenset({"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
_UNDERSTOOD: Final = frozenset({"cli_pager", "endpoint_url", "output", "region"})

Sections = dict[str, dict[str, str]]


class Profile(Struct, frozen=True, kw_only=True):
    """What a profile says; empty or None where it does not."""

    region: str | None = None
    endpoint_url: str | None = None
    access_key: str = ""
    secret_key: str = ""
    token: str | None = None


def read_profile(named: str | None, environment: Mapping[str, str]) -> Profile | None:
    """The profile that is asked for by option or environment, or the default one; None where it is not plain.

    None also where one was asked for that is not there. Raises nothing.
    """
    if named is None:
        named = environment.get("AWS_DEFAULT_PROFILE", environment.get("AWS_PROFILE"))
    name = "default" if named is None else named
    config = _read(environment.get("AWS_CONFIG_FILE", "~/.aws/config"))
    secrets = _read(environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    if not re.fullmatch(_NAME, name) or config is None or secrets is None:
        return None
    in_config = [config[key] for key in _sections_of(name) if key in config]
    if len(in_config) > 1 or (named is not None and not in_config and name not in secrets):
        return None
    own = secrets.get(name, {})
    merged = {**dict(*in_config), **own}
    if not merged.keys() <= _UNDERSTOOD | (_KEYS & own.keys()):
        return None
    return Profile(
        region=merged.get("region"),
        endpoint_url=merged.get("endpoint_url"),
        access_key=own.get("aws_access_key_id", ""),
        secret_key=own.get("aws_secret_access_key", ""),
        token=own.get("aws_session_token"),
    )


def _sections_of(name: str) -> tuple[str, ...]:
    """Under what a profile may stand in the configuration file; in the credentials file its name stands alone."""
    return ("default", "profile default") if name == "default" else (f"profile {name}",)


def _read(path: str) -> Sections | None:
    """The sections of a file, none when it is not there; None when it cannot be read or is not plain."""
    path = os.path.expanduser(os.path.expandvars(path))
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="ascii", newline="") as file:
            return _parse(file.read())
    except (OSError, ValueError):
        return None


def _parse(text: str) -> Sections | None:
    sections: Sections = {}
    section: dict[str, str] | None = None
    if "\r" in text:
        return None
    for line in text.split("\n"):
        if not line.strip() or line.startswith(("#", ";")):
            continue
        line = line.rstrip(" \t")
        if header := re.fullmatch(_SECTION, line):
            name = header[1]
            if name in sections or name == "DEFAULT" or (name.startswith("profile") and name[7:8] != " "):
                return None  # configparser's own defaults, and what botocore takes for a profile too
            section = sections[name] = {}
        elif (setting := re.fullmatch(_SETTING, line)) and section is not None and setting[1].lower() not in section:
            section[setting[1].lower()] = setting[2]
        else:
            return None
    return sections
