# Sets a fresh machine up, builds, tests and shows stager. `make` lists the targets.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# The tests start stager a thousand times: each would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
PYTHON := $(VENV)/bin/python
PACKAGES := libssl-dev libxxhash-dev fuse3 openssh-client openssh-server git-lfs xfsprogs btrfs-progs python3-venv \
	python3-dev runc bubblewrap sshfs slurmctld slurmd slurm-client munge $(if $(shell command -v docker),,docker.io)
WORKERS ?= 3

SYSTEM_STAMP := build/stamps/system
VENV_STAMP := $(VENV)/installed
BUILD_STAMP := build/stamps/extension
CLANG_STAMP := build/stamps/clang
LIBCURL_STAMP := build/stamps/libcurl
ARM_STAMP := build/stamps/arm
NFS_STAMP := build/stamps/nfs
NFS_PACKAGES := user-mode-linux kmod nfs-common iproute2
ARM_PACKAGES := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
NATIVE_SOURCES := setup.py pyproject.toml $(wildcard csrc/*.c csrc/*.h stager/*.pyx stager/*.pxi stager/*.pxd)

.PHONY: help setup build test test-arm test-nfs pytest demo lint check-c soak fuzz fuzz-minute bench bench-full bench-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV_STAMP) ## system packages where missing, a virtual environment with the locked versions

build: $(BUILD_STAMP) ## the package in that environment, its extension compiled

# What compiles and what one core can do go first, side by side; then, alone, what measures. The Python tests wait for
# servers and disks half of the time: the fuzzers and a worker more than there are cores have that time.
test: ## everything that has to pass, in under ten minutes
	$(MAKE) --no-print-directory --jobs 2 lint check-c
	$(MAKE) --no-print-directory bench-check
	$(MAKE) --no-print-directory --jobs 2 fuzz-minute pytest

pytest: build ## the Python tests alone
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadgroup

demo: build ## the main job, on servers it starts itself
	$(PYTHON) tests/demo.py

lint: build ## ruff and mypy --strict
	$(VENV)/bin/ruff check .
	$(PYTHON) -m mypy --strict

check-c: $(SYSTEM_STAMP) ## the C code: unit tests, then the same under ASan+UBSan and TSan
	$(MAKE) --silent --no-print-directory -C csrc check asan tsan

test-arm: $(ARM_STAMP) ## the C code built for aarch64, its unit tests run under qemu-user (Debian)
	$(MAKE) --silent --no-print-directory -C csrc arm

test-nfs: build $(NFS_STAMP) ## stager on a real NFS mount, in User Mode Linux (Debian, x86-64); a minute
	$(PYTHON) -m pytest -n 0 --timeout 600 -s tests/nfs/nfs_client.py

soak: build ## the same tests at larger counts, for hours; prints its seeds
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadgroup --soak

fuzz-minute: $(CLANG_STAMP) ## the parsers of what comes from the network, fuzzed for a minute
	nice -n 19 $(MAKE) --silent --no-print-directory -C csrc fuzz FUZZ_SECONDS=60

fuzz: $(CLANG_STAMP) ## the same for an hour; FUZZ_SEED=n for another one
	$(MAKE) --silent --no-print-directory -C csrc fuzz FUZZ_SECONDS=3600

bench: build $(LIBCURL_STAMP) ## stager, the best peers and the C ceiling on one local server; some minutes
	$(PYTHON) bench/run.py

bench-full: build $(LIBCURL_STAMP) ## every workload and peer, shown in bench/README.md; two hours on an idle machine
	$(PYTHON) bench/run.py --full --fresh --out bench/results/full.jsonl
	$(PYTHON) bench/report.py bench/results/full.jsonl --readme > /dev/null

bench-check: build ## single functions, and the CPU of an object against the ceiling's: it fails outside its band
	$(PYTHON) -m pytest -q bench/test_ratio.py bench/test_report.py bench/micro --benchmark-min-rounds=5 \
		--benchmark-max-time=0.2 --benchmark-columns=min,median,rounds --benchmark-sort=name

clean: ## remove what was built; the virtual environment stays
	rm -rf build stager/_native.c stager/_native*.so *.egg-info
	$(MAKE) -C csrc clean

# Python headers and venv belong to the Python that is found, so they are asked of it; the rest is asked of the compiler.
define FIND_PYTHON
find_python() { \
	for name in python3 python3.11 python3.12 python3.13 python3.14; do \
		"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$name"; return; }; \
	done; \
	echo "stager needs Python 3.11 or later; none was found" >&2; return 1; \
}
endef

define HAS_ALL
has_sbin() { PATH=$$PATH:/usr/sbin:/sbin command -v "$$1" >/dev/null; }; \
has_all() { \
	printf '#include <openssl/ssl.h>\n#include <xxhash.h>\n' | $(CC) -E - >/dev/null 2>&1 \
	&& command -v fusermount3 >/dev/null && command -v ssh >/dev/null && command -v git-lfs >/dev/null \
	&& has_sbin sshd && has_sbin mkfs.xfs && has_sbin mkfs.btrfs && has_sbin runc && command -v bwrap >/dev/null \
	&& command -v sshfs >/dev/null && command -v docker >/dev/null \
	&& has_sbin slurmctld && has_sbin slurmd && command -v sbatch >/dev/null \
	&& "$$1" -c 'import ensurepip, os, sys, sysconfig; \
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null; \
}
endef

# The tests run an sshd and a Slurm of their own: this machine gets no such service by it, but for those it had.
$(SYSTEM_STAMP): Makefile
	@$(FIND_PYTHON); $(HAS_ALL); python=$$(find_python) || exit; \
	if ! has_all "$$python"; then \
		as_root=; [ "$$(id -u)" -eq 0 ] || as_root=sudo; \
		if ! command -v apt-get >/dev/null || ! command -v $${as_root:-true} >/dev/null; then \
			echo "missing system packages; as root, run: apt-get install $(PACKAGES)" >&2; exit 1; \
		fi; \
		new=; has_sbin sshd || new=ssh; \
		for name in munge:munged slurmctld:slurmctld slurmd:slurmd docker.socket:docker docker:docker; do \
			has_sbin $${name#*:} || new="$$new $${name%:*}"; \
		done; \
		$$as_root apt-get update -qq && \
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) || exit; \
		[ -z "$$new" ] || [ ! -d /run/systemd/system ] || $$as_root systemctl disable --now --quiet $$new || exit; \
		has_all "$$python" || { echo "$$python lacks headers or venv although $(PACKAGES) are installed" >&2; exit 1; }; \
	fi
	@mkdir -p $(@D) && touch $@

$(ARM_STAMP): Makefile
	@if ! { command -v aarch64-linux-gnu-gcc && command -v qemu-aarch64-static; } >/dev/null; then \
		as_root=; [ "$$(id -u)" -eq 0 ] || as_root=sudo; \
		if ! command -v apt-get >/dev/null || ! command -v $${as_root:-true} >/dev/null; then \
			echo "a cross compiler and qemu are missing; as root, run: apt-get install $(ARM_PACKAGES)" >&2; exit 1; \
		fi; \
		$$as_root apt-get update -qq && \
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(ARM_PACKAGES) || exit; \
	fi
	@mkdir -p $(@D) && touch $@

# The server's package is unpacked and not installed: a machine gets no NFS service by a test.
$(NFS_STAMP): Makefile tests/nfs/xstate.c
	@as_root=; [ "$$(id -u)" -eq 0 ] || as_root=sudo; \
	has() { PATH=$$PATH:/usr/sbin:/sbin command -v "$$1" >/dev/null; }; \
	if ! { has linux.uml && has modprobe && has mount.nfs && has ip; }; then \
		$$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(NFS_PACKAGES) || exit; \
	fi; \
	rm -rf build/nfs && mkdir -p build/nfs/modules/lib && cd build/nfs && ln -s /usr/lib/uml/modules modules/lib/modules && \
	apt-get download -qq nfs-kernel-server && dpkg -x nfs-kernel-server_*.deb server
	$(CC) -O1 -shared -fPIC -o build/nfs/xstate.so tests/nfs/xstate.c
	@mkdir -p $(@D) && touch $@

# libFuzzer comes with clang; without it our own driver mutates the corpus, and finds less.
$(CLANG_STAMP): $(SYSTEM_STAMP)
	@as_root=; [ "$$(id -u)" -eq 0 ] || as_root=sudo; \
	install() { $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$@"; }; \
	if command -v apt-get >/dev/null && command -v $${as_root:-true} >/dev/null; then \
		command -v clang >/dev/null || { $$as_root apt-get update -qq && install clang; } || exit; \
		runtime=libclang-rt-$$(clang -dumpversion | cut -d . -f 1)-dev; \
		dpkg -s "$$runtime" >/dev/null 2>&1 || install "$$runtime" || exit; \
	else \
		echo "for libFuzzer, install clang and its runtime libraries" >&2; \
	fi
	@mkdir -p $(@D) && touch $@

# The check on the ceiling is a libcurl loop; without it the bench runs and says that nothing checks the ceiling.
$(LIBCURL_STAMP): $(SYSTEM_STAMP)
	@as_root=; [ "$$(id -u)" -eq 0 ] || as_root=sudo; \
	has_libcurl() { printf '#include <curl/curl.h>\n' | $(CC) -E - >/dev/null 2>&1; }; \
	has_libcurl || $$as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends libcurl4-openssl-dev || true
	@mkdir -p $(@D) && touch $@

$(VENV_STAMP): requirements.lock $(SYSTEM_STAMP)
	@$(FIND_PYTHON); [ -x $(PYTHON) ] || { python=$$(find_python) && "$$python" -m venv $(VENV); }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $@

$(BUILD_STAMP): $(NATIVE_SOURCES) $(VENV_STAMP)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@mkdir -p $(@D) && touch $@
