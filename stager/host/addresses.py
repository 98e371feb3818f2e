"""The addresses of a host's name, asked of this host's resolver."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from stager.errors import NotFoundError, TransientError

__all__ = ["NAME_SHOWN", "resolve"]

NAME_SHOWN: Final = 255
"""Characters of a name in an error; no name is longer."""

_ATTEMPTS: Final = 3


async def resolve(host: str, port: int) -> list[tuple[int, bytes]]:
    """Every address of a host, as (family, packed).

    Raises `NotFoundError` when the name does not exist, `TransientError` when the resolver gave no answer.
    """
    loop = asyncio.get_running_loop()
    for attempt in range(_ATTEMPTS):
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a label of over 63 characters, or of none, or what is no text
            raise _no_such_host(host) from error
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise _no_such_host(host) from error
            reason = error
            await asyncio.sleep(0.2 * 2**attempt)
        else:
            addresses = [(int(family), socket.inet_pton(family, str(address[0]))) for family, _, _, _, address in found]
            return list(dict.fromkeys(addresses))
    raise TransientError(f"the host's name cannot be resolved ({reason.strerror})", where=host)


def _no_such_host(host: str) -> NotFoundError:
    return NotFoundError("no such host", where=host[:NAME_SHOWN], hint="check the endpoint's name")
