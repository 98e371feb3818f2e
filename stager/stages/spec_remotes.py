"""``[s3.NAME]``: how an S3 endpoint is reached, as `Remote` values."""

from __future__ import annotations

import re

import msgspec

from stager.config import ACCOUNT, Remote
from stager.errors import UsageError
from stager.host.proxies import check_proxy_setting
from stager.model import JOB_NAME
from stager.stages.spec_file import one_line
from stager.stages.spec_schema import Problems, S3Table, convert_table, shown

__all__ = ["read_remotes"]

_ADDRESSING_STYLES = ("auto", "path", "virtual")
_LISTING_ORDERS = ("auto", "byte-order", "unordered")
_ENDPOINT = re.compile(r"https?://[^/@\s]+(/[^@\s]*)?")


def read_remotes(given: object, problems: Problems) -> dict[str, Remote]:
    """The remotes of all ``[s3.NAME]``, by name; what is wrong with them goes to ``problems``."""
    if not isinstance(given, dict):
        problems.add("s3", "must hold tables such as [s3.ceph]")
        return {}
    remotes: dict[str, Remote] = {}
    for name, table in given.items():
        place = f"s3.{name}" if JOB_NAME.fullmatch(name) else f"s3.{shown(name)}"
        if not JOB_NAME.fullmatch(name):
            problems.add(place, "is no name for a remote: letters, digits, '.', '_' and '-'")
        found = convert_table(place, table, S3Table, problems)
        if found is None:
            remotes[name] = Remote()
            continue
        if found.endpoint_url is not None and not _ENDPOINT.fullmatch(found.endpoint_url):
            problems.add(f"{place}.endpoint_url", "must be http://HOST or https://HOST, without a user in it")
        for key, path in (("ca_bundle", found.ca_bundle), ("sse_c_key_file", found.sse_c_key_file)):
            if path is not None and (not path.startswith("/") or "\0" in path):
                problems.add(f"{place}.{key}", "must be an absolute path")
        if found.expected_bucket_owner is not None and not ACCOUNT.fullmatch(found.expected_bucket_owner):
            problems.add(f"{place}.expected_bucket_owner", "must be an account's 12 digits")
        if found.proxy is not None:
            _check_proxy(f"{place}.proxy", found.proxy, problems)
        _check_choice(f"{place}.addressing_style", found.addressing_style, _ADDRESSING_STYLES, problems)
        _check_choice(f"{place}.listing_order", found.listing_order, _LISTING_ORDERS, problems)
        remotes[name] = Remote(**msgspec.structs.asdict(found))
    return remotes


def _check_proxy(place: str, setting: str, problems: Problems) -> None:
    try:
        check_proxy_setting(setting, where="")
    except UsageError as error:
        problems.add(place, one_line(str(error)))


def _check_choice(place: str, given: str, choices: tuple[str, ...], problems: Problems) -> None:
    if given not in choices:
        problems.add(place, f"is one of {', '.join(choices)}, not {shown(given)}")
