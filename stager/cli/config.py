"""``stager config``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import msgspec
from click.core import ParameterSource
from msgspec import Struct

from stager.amounts import show_bytes
from stager.cli.job_options import scratch_option
from stager.cli.options import common, limits_of, speed_options
from stager.cli.state import State
from stager.cli.tell import tell
from stager.config import Limits, SiteLimits
from stager.errors import UsageError
from stager.host import site
from stager.host.advice_settings import AdviceSettings, chosen_large_file, user_advice
from stager.host.cache_settings import CacheSettings, chosen_quota, user_cache
from stager.host.cloud_settings import CloudSettings
from stager.host.node_settings import NodeSettings
from stager.host.placement_settings import Chosen, user_file
from stager.host.principal_settings import PrincipalSettings
from stager.host.proxies import proxy_for
from stager.host.storage_settings import StorageSettings
from stager.names import lossless, show
from stager.scheduler import scheduler_facts
from stager.stages.place_candidates import asked_scratch, placement_in_force

__all__ = ["command"]

_DEFAULT: Final = "default"
_LIMITS: Final[tuple[tuple[str, str, bool], ...]] = (
    ("max_connections", "--max-connections", False),
    ("max_bandwidth", "--max-bandwidth", True),
    ("max_requests_per_second", "--max-requests-per-second", False),
    ("memory_bytes", "--memory", True),
)
"""Name in `Limits`, option, whether it is bytes."""

_VARIABLES: Final = (
    ("s3.profile", ("AWS_PROFILE",)),
    ("s3.region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
    ("s3.ca_bundle", ("AWS_CA_BUNDLE", "SSL_CERT_FILE")),
)
"""What a variable sets, where it is set; the first that is."""


class Setting(Struct, frozen=True, kw_only=True):
    """``value`` for programs, ``text`` for people; ``source``: "default", a file, a variable, or an option."""

    name: str
    value: Any
    text: str
    source: str


@click.command("config")
@scratch_option
@speed_options
@common
@click.pass_context
def command(ctx: click.Context, /, scratch: str | None, **options: Any) -> None:
    """Show every setting with its value and where it comes from.

    In this order, the first that says it: the command line, the environment, the user's file
    (~/.config/stager/stager.toml), the site's (/etc/stager/site.toml), the default. What a site limits cannot be
    raised, and of floors the larger one counts.

    Example: stager config
    """
    state: State = ctx.obj
    given = {
        option.name or ""
        for option in ctx.command.params
        if ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    }
    settings = [
        *_files(os.environ),
        *_placement(scratch, placement_in_force(os.environ), os.environ),
        *_cache(site.site_cache(), user_cache(os.environ)),
        *_advice(site.site_advice(), user_advice(os.environ)),
        *_limits(given, options),
        *_node(site.site_node()),
        *_principals(site.site_principals()),
        *_storage(site.site_storage()),
        *_cloud(site.site_cloud()),
        *_environment(os.environ),
    ]
    width = max(len(setting.name) for setting in settings)
    for setting in settings:
        body = {"name": setting.name, "value": lossless(setting.value), "source": lossless(setting.source)}
        text = f"{setting.name:{width}}  {setting.text}  [{show(os.fsencode(setting.source))}]"
        tell(state, "setting", body, text)


def _files(environ: Mapping[str, str]) -> Iterator[Setting]:
    for name, path in (("file.site", site.SITE_FILE), ("file.user", user_file(environ))):
        if path is None:
            continue
        there = os.path.lexists(path)
        yield Setting(name=name, value=path, text=f"{show(os.fsencode(path))}{'' if there else ' (not there)'}",
                      source=_DEFAULT)  # fmt: skip


def _placement(option: str | None, chosen: Chosen, environ: Mapping[str, str]) -> Iterator[Setting]:
    asked = asked_scratch(option, environ)
    sources = {"option": "--scratch", "environment": "STAGER_SCRATCH"}
    if asked is not None:
        shown = show(os.fsencode(asked.path))
        yield Setting(name="scratch", value=asked.path, text=shown, source=sources[asked.origin])
    else:
        yield Setting(name="scratch", value=None, text="chosen among places for data", source=_DEFAULT)
    roots = [{"path": root.path, "class": root.device_class} for root in chosen.roots]
    listed = ", ".join(
        show(os.fsencode(root.path)) + (f" ({root.device_class})" if root.device_class else "") for root in chosen.roots
    )
    yield Setting(name="placement.roots", value=roots, text=listed or "none", source=chosen.roots_from or _DEFAULT)
    yield Setting(
        name="placement.discover", value=chosen.discover, text="true" if chosen.discover else "false",
        source=chosen.discover_from or _DEFAULT,
    )  # fmt: skip
    rules = chosen.rules
    floors = [show_bytes(rules.floor_bytes)] if rules.floor_bytes else []
    floors += [f"{rules.floor_share * 100:g}%"] if rules.floor_share else []
    yield Setting(
        name="placement.floor", value={"bytes": rules.floor_bytes, "share": rules.floor_share},
        text=", or more: ".join(floors) or "0", source=chosen.floor_from or _DEFAULT,
    )  # fmt: skip


def _cache(site_says: CacheSettings, user_says: CacheSettings) -> Iterator[Setting]:
    quota = chosen_quota(site_says, user_says)
    for name, value, text in (
        ("share", quota.share, f"{quota.share * 100:g}%"),
        ("max_bytes", quota.bytes, "no limit" if quota.bytes is None else show_bytes(quota.bytes)),
        ("max_inodes", quota.inodes, "no limit" if quota.inodes is None else str(quota.inodes)),
    ):
        said = [each.file for each in (site_says, user_says) if getattr(each, name) == value is not None]
        yield Setting(name=f"cache.{name}", value=value, text=text, source=said[0] if said else _DEFAULT)


def _advice(site_says: AdviceSettings, user_says: AdviceSettings) -> Iterator[Setting]:
    large = chosen_large_file(site_says, user_says)
    said = [each.file for each in (user_says, site_says) if each.large_file is not None]
    yield Setting(name="advice.large_file", value=large, text=show_bytes(large), source=said[0] if said else _DEFAULT)
    connections = site.site_connections()
    for glob, most in connections.limits:
        text = f"{most} jobs of this node"
        yield Setting(name=f"connections.{show(os.fsencode(glob))}", value=most, text=text, source=connections.file)


def _limits(given: set[str], options: dict[str, Any]) -> Iterator[Setting]:
    allowed, usual = site.site_limits(), Limits()
    limits, timeouts, retry = limits_of(options)
    for name, option, is_bytes in _LIMITS:
        value = getattr(limits, name)
        text = "no limit" if not value else show_bytes(value) if is_bytes else f"{value:g}"
        source = option if name in given else _source_of_limit(name, value, allowed, usual)
        key = f"limits.{'memory' if name == 'memory_bytes' else name}"
        yield Setting(name=key, value=value or None, text=text, source=source)
    for name, option, number in (("stall_timeout", "--stall-timeout", timeouts.stall_s),
                                 ("retries", "--retries", retry.attempts)):  # fmt: skip
        text = f"{number:g}{' s' if name == 'stall_timeout' else ''}"
        yield Setting(name=name, value=number, text=text, source=option if name in given else _DEFAULT)


def _node(settings: NodeSettings) -> Iterator[Setting]:
    source, told = settings.file or _DEFAULT, settings.told()
    values = msgspec.structs.asdict(settings)
    values["reserved_per_user"] = {"bytes": settings.reserved_bytes, "share": settings.reserved_share}
    text = show(os.fsencode(settings.directory)) or "none: each user's stagers see one another"
    yield Setting(name="node.directory", value=settings.directory or None, text=text,
                  source=source if settings.directory else _DEFAULT)  # fmt: skip
    for name in ("max_bandwidth", "max_requests_per_second", "reserved_per_user", "trees_per_user",
                 "jobs_per_node"):  # fmt: skip
        usual = "50% of each disk, as others count it" if name == "reserved_per_user" else "no limit"
        yield Setting(name=f"node.{name}", value=values[name], text=told.get(name, usual),
                      source=source if name in told else _DEFAULT)  # fmt: skip


def _principals(settings: PrincipalSettings) -> Iterator[Setting]:
    """What root mounts for users."""
    for name in ("allowed_binds", "allowed_public"):
        paths: tuple[str, ...] = getattr(settings, name)
        text = ", ".join(show(os.fsencode(path)) for path in paths) or "none"
        source = settings.file if paths else _DEFAULT
        yield Setting(name=f"principals.{name}", value=list(paths), text=text, source=source)


def _storage(settings: StorageSettings) -> Iterator[Setting]:
    for name in ("cluster", "user", "shared"):
        path = getattr(settings, name)
        text = show(os.fsencode(path)) or "this node's, in the scratch of each user"
        yield Setting(name=f"storage.{name}", value=path or None, text=text,
                      source=settings.file if path else _DEFAULT)  # fmt: skip


def _source_of_limit(name: str, value: float, allowed: SiteLimits, usual: Limits) -> str:
    if value == getattr(usual, name):
        return _DEFAULT
    return site.SITE_FILE if value == getattr(allowed, name) else "the limit of open files, ulimit -n"


def _cloud(settings: CloudSettings) -> Iterator[Setting]:
    if settings.bucket:
        where = settings.artifact_storage
        yield Setting(name="cloud.artifact_storage", value=where, text=where, source=site.SITE_FILE)
        yield Setting(name="cloud.region", value=settings.region, text=settings.region, source=site.SITE_FILE)


def _environment(environ: Mapping[str, str]) -> Iterator[Setting]:
    facts = scheduler_facts(environ)
    if facts.job_id:
        array = "SLURM_ARRAY_JOB_ID" if facts.array_index is not None else "SLURM_JOB_ID"
        source = array if facts.kind == "slurm" else "POD_UID"
        yield Setting(name="job.id", value=facts.job_id, text=show(os.fsencode(facts.job_id)), source=source)
    for name, variables in _VARIABLES:
        found = next((variable for variable in variables if environ.get(variable)), None)
        if found is not None:
            yield Setting(name=name, value=environ[found], text=show(os.fsencode(environ[found])), source=found)
    for scheme in ("https", "http"):
        yield from _proxy(scheme, environ)
    exempt = next((name for name in ("no_proxy", "NO_PROXY") if name in environ), None)
    if exempt is not None:
        shown = show(os.fsencode(environ[exempt]))
        yield Setting(name="proxy.none_for", value=environ[exempt], text=shown, source=exempt)


def _proxy(scheme: str, environ: Mapping[str, str]) -> Iterator[Setting]:
    """Without who one is to it. One that is wrong is named, and nothing of it shown."""
    try:
        proxy = proxy_for(f"{scheme}://host.invalid/", None, {**environ, "NO_PROXY": "", "no_proxy": ""})
    except UsageError as error:
        yield Setting(name=f"proxy.{scheme}", value=None, text=error.what, source=error.where)
        return
    if proxy is not None:
        yield Setting(name=f"proxy.{scheme}", value=proxy.url, text=proxy.url, source=proxy.setting)
