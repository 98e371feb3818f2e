"""Text of emitted files: names from outside cannot end a word, a line or a string, nor colour a terminal."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from stager.errors import UsageError

__all__ = ["command_line", "json_of", "quoted", "yaml_of"]

_PLAIN: Final = re.compile(r"[ -~]*")
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_ONE_LINE: Final = 100


def quoted(word: str) -> str:
    """``word`` for bash: what is not printable ASCII, byte for byte, in ANSI-C quotes (bash(1), QUOTING)."""
    if _PLAIN.fullmatch(word):
        return shlex.quote(word)
    return "$'" + "".join(_in_dollar_quotes(byte) for byte in os.fsencode(word)) + "'"


def _in_dollar_quotes(byte: int) -> str:
    if byte in b"'\\":
        return f"\\{byte:c}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def command_line(parts: Sequence[Sequence[str]]) -> str:
    """A command for bash: words that are quoted already, those of a part on one line."""
    lines = [" ".join(part) for part in parts if part]
    if sum(map(len, lines)) <= _ONE_LINE:
        return " ".join(lines) + "\n"
    return " \\\n  ".join(lines) + "\n"


def json_of(value: object, *, where: str) -> str:
    """JSON for people. `UsageError` for a name that is no Unicode, which JSON cannot hold."""
    _refuse_bytes(value, where)
    return json.dumps(value, indent=2) + "\n"


def yaml_of(value: object, *, where: str) -> str:
    """Block YAML 1.2 with every text in double quotes: no name is a number, a truth, an alias or a line more.

    `UsageError` for a name that is no Unicode.
    """
    _refuse_bytes(value, where)
    return "\n".join(_yaml_lines(value)) + "\n"


def _yaml_lines(value: object) -> list[str]:
    if isinstance(value, Mapping) and value:
        lines = []
        for key, inner in value.items():
            name = key if _KEY.fullmatch(key) else _scalar(key)
            below = _yaml_lines(inner)
            if isinstance(inner, Mapping | list) and inner:
                lines += [f"{name}:", *(f"  {line}" for line in below)]
            else:
                lines.append(f"{name}: {below[0]}")
        return lines
    if isinstance(value, list) and value:
        lines = []
        for inner in value:
            first, *rest = _yaml_lines(inner)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        return lines
    return [_scalar(value)]


def _scalar(value: object) -> str:
    """A JSON scalar is one of YAML, but for the characters that YAML calls unprintable."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _refuse_bytes(value: object, where: str) -> None:
    for text in _texts(value):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{ascii(text)[:200]} is no Unicode text, which this format is made of", where=where,
                hint="use another path, or another format (--emit docker, --emit bwrap)",
            ) from None  # fmt: skip


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for inner in pair for text in _texts(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _texts(inner)]
    return []
