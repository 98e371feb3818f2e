"""What the site shows in every job, added to what the job file names."""

from __future__ import annotations

import errno

from msgspec.structs import replace

from stager.host.probe import probe_directories
from stager.host.view_settings import ViewSettings
from stager.model import DatasetSpec, JobSpec, PublicSpec, SourceRef

__all__ = ["with_site_data"]

_ANSWER_WITHIN_S = 10.0


def with_site_data(spec: JobSpec, site: ViewSettings) -> JobSpec:
    """``spec`` with the site's directories; of one name the job's own counts. What this user may not enter is left out.
    Blocks.
    """
    binds = {name: path for name, path in site.binds.items() if name not in {one.name for one in spec.datasets}}
    public = {name: path for name, path in site.public.items() if name not in {one.name for one in spec.public}}
    paths = [*binds.values(), *public.values()]
    if not paths:
        return spec
    probes = probe_directories(paths, limit_s=_ANSWER_WITHIN_S)
    closed = {probe.path for probe in probes if probe.error in (errno.EACCES, errno.EPERM)}
    return replace(
        spec,
        datasets=(*spec.datasets, *(_bound(name, path) for name, path in binds.items() if path not in closed)),
        public=(
            *spec.public,
            *(PublicSpec(name=name, source=path) for name, path in public.items() if path not in closed),
        ),
    )


def _bound(name: str, path: str) -> DatasetSpec:
    return DatasetSpec(name=name, source=SourceRef(scheme="bind", location=path, text=f"bind:{path}"))
