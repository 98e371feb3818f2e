"""What the administrator of this node lays down: ``/etc/stager/site.toml``, which only root may have written.

::

    [limits]                          # each process; a user can ask for less, never for more
    max_connections = 64
    max_bandwidth = "500M"            # a second; B, K, M, G, T are powers of 1024
    max_requests_per_second = 2000
    memory = "256M"                   # receive buffers

    [node]                            # of all stagers of this node together: see stager.host.node_settings
    directory = "/run/stager"

    [placement]                       # see stager.host.placement_settings
    roots = ["/nvme0", "/nvme1"]

    [view.public]                     # in every job: see stager.host.view_settings
    imagenet = "/srv/public/imagenet"

    [storage]                         # see stager.host.storage_settings
    user = "/nfs/stager/users"

    [cache]                           # see stager.host.cache_settings
    max_bytes = "500G"

    [principals]                      # see stager.host.principal_settings
    allowed_binds = ["/mnt/efs"]

    [cloud]                           # see stager.host.cloud_settings
    bucket = "acme-training"

    [advice]                          # see stager.host.advice_settings
    large_file = "10G"

    [connections]                     # see stager.host.connection_settings
    limits = { "10.0.0.2:/vol1" = 20 }
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from stager.config import LEAST_MEMORY_BYTES, SiteLimits
from stager.host.advice_settings import AdviceSettings, advice_in
from stager.host.cache_settings import CacheSettings, cache_in
from stager.host.cloud_settings import CloudSettings, cloud_in
from stager.host.connection_settings import ConnectionSettings, connections_in
from stager.host.node_settings import NodeSettings, node_in
from stager.host.placement_settings import PlacementSettings, placement_in
from stager.host.principal_settings import PrincipalSettings, principals_in
from stager.host.settings_file import as_bytes, as_count, as_rate, read_settings, read_table, refuse
from stager.host.storage_settings import StorageSettings, storage_in
from stager.host.view_settings import ViewSettings, view_in

__all__ = [
    "SITE_FILE",
    "site_advice",
    "site_cache",
    "site_cloud",
    "site_connections",
    "site_limits",
    "site_node",
    "site_placement",
    "site_principals",
    "site_storage",
    "site_view",
]

SITE_FILE: Final = "/etc/stager/site.toml"
"""Fixed: an option or a variable that names another file would let a user choose the limits."""

_WHAT: Final = "the site's configuration"
_KNOWN: Final = (
    "limits", "node", "placement", "storage", "view", "cache", "principals", "cloud", "advice",
    "connections",
)  # fmt: skip
_OWNER: Final = 0
_MOST_CONNECTIONS: Final = 4096


def site_limits(path: str | None = None, *, owner: int | None = None) -> SiteLimits:
    """The limits in force; none where there is no such file.

    ``path`` and ``owner`` (left out: `SITE_FILE`, root) are for tests. Raises `HostError`: the file could be somebody
    else's than root's, cannot be read, or says what is not understood; half a limit is none.
    """
    path = SITE_FILE if path is None else path
    return _limits_in(_tables(path, owner), path)


def site_placement(path: str | None = None, *, owner: int | None = None) -> PlacementSettings:
    """What the file says of the places for data. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return placement_in(_tables(path, owner), path, _WHAT)


def site_node(path: str | None = None, *, owner: int | None = None) -> NodeSettings:
    """What the file says of all stagers of the node together. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return node_in(_tables(path, owner), path, _WHAT)


def site_cache(path: str | None = None, *, owner: int | None = None) -> CacheSettings:
    """What the file says of the cache. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return cache_in(_tables(path, owner), path, _WHAT)


def site_view(path: str | None = None, *, owner: int | None = None) -> ViewSettings:
    """What the file shows in every job. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return view_in(_tables(path, owner), path, _WHAT)


def site_storage(path: str | None = None, *, owner: int | None = None) -> StorageSettings:
    """What the file says of the storages below /mnt. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return storage_in(_tables(path, owner), path, _WHAT)


def site_principals(path: str | None = None, *, owner: int | None = None) -> PrincipalSettings:
    """What the file says of jobs that root starts for users: root mounts for them what every job shows, too.

    The rest as `site_limits`.
    """
    path = SITE_FILE if path is None else path
    tables = _tables(path, owner)
    found, shown = principals_in(tables, path, _WHAT), view_in(tables, path, _WHAT)
    return replace(
        found,
        file=found.file or (path if shown.binds or shown.public else ""),
        allowed_binds=(*found.allowed_binds, *shown.binds.values()),
        allowed_public=(*found.allowed_public, *shown.public.values()),
    )


def site_cloud(path: str | None = None, *, owner: int | None = None) -> CloudSettings:
    """What the file says of the cloud that its jobs belong to. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return cloud_in(_tables(path, owner), path, _WHAT)


def site_advice(path: str | None = None, *, owner: int | None = None) -> AdviceSettings:
    """What the file says of what is too large for a network file system. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return advice_in(_tables(path, owner), path, _WHAT)


def site_connections(path: str | None = None, *, owner: int | None = None) -> ConnectionSettings:
    """What the file says of exports and the jobs that have them. The rest as `site_limits`."""
    path = SITE_FILE if path is None else path
    return connections_in(_tables(path, owner), path, _WHAT)


def _tables(path: str, owner: int | None) -> dict[str, Any]:
    tables = read_settings(path, what=_WHAT, whose="root", owners=(_OWNER if owner is None else owner,)) or {}
    for name in tables:
        if name not in _KNOWN:
            raise refuse(path, _WHAT, name, f"no such key; known are {', '.join(f'[{known}]' for known in _KNOWN)}")
    return tables


def _limits_in(tables: dict[str, Any], path: str) -> SiteLimits:
    found = read_table(tables, "limits", _READERS, path=path, what=_WHAT)
    return SiteLimits(**{"memory_bytes" if name == "memory" else name: value for name, value in found.items()})


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "max_connections": partial(as_count, most=_MOST_CONNECTIONS),
    "max_bandwidth": partial(as_bytes, least=1 << 10),
    "max_requests_per_second": as_rate,
    "memory": partial(as_bytes, least=LEAST_MEMORY_BYTES),
}
