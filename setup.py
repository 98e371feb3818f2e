"""Builds the one extension. STAGER_SANITIZE=address|undefined|thread, STAGER_DEBUG, STAGER_COVERAGE change how."""

from __future__ import annotations

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup


def switch(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def compiler_flags() -> tuple[list[str], list[str]]:
    sanitizers = os.environ.get("STAGER_SANITIZE", "")
    optimise = "-O1" if sanitizers else "-O0" if switch("STAGER_DEBUG") or switch("STAGER_COVERAGE") else "-O3"
    compile_flags = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-fvisibility=hidden", "-Wall", optimise]
    link_flags = ["-pthread"]
    if sanitizers or switch("STAGER_DEBUG"):
        compile_flags += ["-g", "-fno-omit-frame-pointer"]
    if sanitizers:
        compile_flags.append(f"-fsanitize={sanitizers}")
        link_flags.append(f"-fsanitize={sanitizers}")
    if switch("STAGER_COVERAGE"):
        compile_flags.append("--coverage")
        link_flags.append("--coverage")
    return compile_flags, link_flags


compile_flags, link_flags = compiler_flags()
extension = Extension(
    "stager._native",
    sources=["stager/_native.pyx", *sorted(glob("csrc/*.c"))],
    depends=[*sorted(glob("csrc/*.h")), "stager/_csrc.pxd", *sorted(glob("stager/*.pxi"))],
    include_dirs=["csrc"],
    libraries=["ssl", "crypto"],
    extra_compile_args=compile_flags,
    extra_link_args=link_flags,
)
setup(
    ext_modules=cythonize(
        [extension],
        compiler_directives={"language_level": 3, "auto_pickle": False, "boundscheck": False, "wraparound": False},
        annotate=False,
    )
)
