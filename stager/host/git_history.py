"""A repository of one run that receives all branches and tags of a remote with their whole history, and gives it on.

It is what a ``.git`` directory is made of. Packs of earlier runs come from the user's mirror, as ever believed by
nobody: before they are given on, git computes the ids of all objects in the copies anew, and finds everything that
the refs lead to under these ids.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from stager.errors import IntegrityError, NoSpaceError, NotFoundError, SourceError, from_os_error
from stager.host.clones import clone_file
from stager.host.git import GitFailure, error_from, local_environment, run_git
from stager.host.git_bare import make_bare_repository, read_shallow
from stager.host.git_mirror import Loan
from stager.host.git_refs import REMOTE_REFS, format_of, is_ref_name
from stager.host.gitrepo import FULL_ID, PINNED, Pin, PinnedRepository
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.trash import remove_temporary
from stager.names import show, steps_above

__all__ = ["HistoryRepository"]

_REFS_MAX: Final = 200_000  # each is a file for a moment
_REFS_MAX_BYTES: Final = 64 << 20
_TIPS_MAX: Final = 100_000  # that a mirror's record names
_SHOWN: Final = 3
_COPY_BYTES: Final = 16 << 20
_OLD_HABITS: Final = (
    "badDate", "badEmail", "badName", "missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeEmail",
    "zeroPaddedDate",
)  # fmt: skip
"""In long histories, of who wrote a commit and when; git-clone(1) does not mind (git-config(1), "fsck.<msg-id>")."""
_FETCH: Final = (
    *(word for habit in _OLD_HABITS for word in ("-c", f"fetch.fsck.{habit}=ignore")),
    "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow",
)  # fmt: skip
_EVERYTHING: Final = (f"+refs/heads/*:{REMOTE_REFS.decode()}*", "+refs/tags/*:refs/tags/*")


class HistoryRepository(PinnedRepository):
    """See the module. ``default``: the branch that the remote's HEAD is, None where nobody has said so."""

    default: str | None = None

    async def give(self, directory: str, commit: str) -> bytes:
        """Put packs with all of the history into a directory, none of them shared with what lies here, and return an
        index of the commit, as git makes it. Raises `IntegrityError`, `NoSpaceError`, `HostError`.
        """
        git_dir = f"{self._git_dir}.given"
        environment = local_environment(git_dir, self._environ, GIT_INDEX_FILE=f"{git_dir}/index")
        lent = await stoppable(self._copy, directory)
        packs = await blocking(self._make_given, git_dir, commit)
        for pack in lent:
            await self._judge(environment, "index-pack", "-o", f"{pack.removesuffix('.pack')}.idx", pack)
        await blocking(_link_all, directory, packs)
        if lent:
            tips = b"".join([identity.encode() + b"\n" for identity in sorted(self._tips(commit))])
            await self._judge(environment, "rev-list", "--objects", "--quiet", "--stdin", stdin=tips)
        await self._judge(environment, "read-tree", "--end-of-options", commit)
        return await blocking(_read, f"{git_dir}/index")

    async def _ask_remote(self, names: Sequence[str]) -> dict[str, str]:
        found = await super()._ask_remote(["HEAD", *names])
        self.default = found.get("symref HEAD", "").removeprefix("ref: ") or None
        return found

    async def _borrow(self, wanted: Pin) -> Pin | None:
        return None  # which refs there are only the remote knows; what they lead to may all be here

    async def _bring(self, wanted: Pin, loan: Loan) -> Pin:
        await self._begin(wanted.commit if FULL_ID.fullmatch(wanted.commit) else "", loan)
        await self._survey(wanted.ref)
        if self.default is None:
            await self._ask_remote([])
        await self._network(*_FETCH, "--", self._url, *_EVERYTHING)
        commit = await self._commit_here(wanted)
        if await blocking(read_shallow, self._git_dir):
            what = "the repository has only a part of its history itself (it is a shallow clone)"
            raise SourceError(what, where=self._url, hint="leave history out")
        form = "--format=%(objectname) %(refname)"
        listing = await self._local("for-each-ref", form, REMOTE_REFS.decode(), "refs/tags/")
        rows = [line.partition(b" ") for line in listing.split(b"\n") if line]
        self.refs = [(identity.decode(), name) for identity, _, name in rows]
        return Pin(commit=commit, ref=wanted.ref)

    async def _survey(self, asked: str | None) -> None:
        """Look at the names first: git leaves out without a word those that can be none, and makes a file of each."""
        command = ("ls-remote", "--quiet", "--heads", "--tags", "--", self._url)
        lines = (await self._network(*command, most_bytes=_REFS_MAX_BYTES)).split(b"\n")[:-1]
        rows = [line.partition(b"\t") for line in lines]
        names = {name.removesuffix(b"^{}") for _, _, name in rows}
        if asked is not None and asked != "HEAD":
            names.add(os.fsencode(asked))
        bad = sorted(
            name for name in names if not is_ref_name(name) or any(above in names for above in steps_above(name))
        )
        bad += [line for line, _, _ in rows if not FULL_ID.fullmatch(line.decode("latin-1"))]
        if bad:
            more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            what = f"the server has refs that can be none: {', '.join(map(show, bad[:_SHOWN]))}{more}"
            raise IntegrityError(what, where=self._url)
        if len(lines) > _REFS_MAX:
            raise SourceError(f"the repository has over {_REFS_MAX:,} refs", where=self._url, hint="leave history out")

    async def _commit_here(self, wanted: Pin) -> str:
        """The pinned commit's whole id. One that no branch or tag leads to (any more) is fetched by its id or name."""
        names = [wanted.commit] if FULL_ID.fullmatch(wanted.commit) else []
        names += [wanted.ref] if wanted.ref else []
        while True:
            try:
                return await self._commit_of(wanted.commit)
            except NotFoundError:
                if not names:
                    raise
            with suppress(NotFoundError):
                await self._network(*_FETCH, "--", self._url, f"+{names.pop(0)}:{PINNED}")

    async def _keep(self, pin: Pin) -> None:
        """Let later runs have it, if anything of it is new: beside what is there, or all in one pack."""
        mirror, tips = self._place.mirror, self._tips(pin.commit)
        if mirror is None or tips <= self._loan.tips:
            return
        kept = Loan(packs=self._loan.packs, tips=frozenset(sorted(tips)[:_TIPS_MAX]))
        if not await blocking(mirror.is_full, self._loan):
            await blocking(mirror.keep, self._packs, kept, commit=pin.commit)
            return
        anew = os.path.join(self._git_dir, "anew")
        await blocking(os.mkdir, anew)
        wanted = "".join(f"{identity}\n" for identity in sorted(tips)).encode()
        await self._local("pack-objects", "--revs", "--quiet", "--delta-base-offset", f"{anew}/pack", stdin=wanted)
        await blocking(mirror.keep, anew, Loan(tips=kept.tips), commit=pin.commit, anew=True)

    def _tips(self, commit: str) -> frozenset[str]:
        return frozenset([commit, *(identity for identity, _ in self.refs)])

    def _copy(self, checkpoint: Checkpoint, directory: str) -> list[str]:
        """Copies of all packs: of those that this run has received with the index that git made of them then. Returns
        the others, which were lent.
        """
        lent = []
        try:
            for name in sorted(os.listdir(self._packs)):
                source = os.path.join(self._packs, name)
                is_lent = os.path.islink(source)
                if name.endswith(".pack") or (name.endswith(".idx") and not is_lent):
                    _copy_file(checkpoint, source, os.path.join(directory, name))
                if name.endswith(".pack") and is_lent:
                    lent.append(os.path.join(directory, name))
        except OSError as error:
            raise from_os_error(error, doing="copy the history", where=directory) from error
        return lent

    def _make_given(self, git_dir: str, commit: str) -> str:
        """A repository of our own, for what is given on: git reads no configuration where that lies."""
        try:
            remove_temporary(git_dir)
            return make_bare_repository(git_dir, object_format=format_of(commit))
        except OSError as error:
            raise from_os_error(error, doing="make a repository", where=git_dir) from error

    async def _judge(self, environment: dict[str, str], *arguments: str, stdin: bytes = b"") -> None:
        """Of what was lent a failure is damage."""
        try:
            await run_git(arguments, environment, stdin=stdin)
        except GitFailure as failure:
            error = error_from(failure, where=self._url)
            if isinstance(error, NoSpaceError):
                raise error from None
            raise IntegrityError(error.what, where=self._url, hint="run this again") from None


def _copy_file(checkpoint: Checkpoint, source: str, target: str) -> None:
    """A copy that shares its blocks where the file system can, until one is written to. OSError."""
    with open(source, "rb") as reading, open(target, "xb", opener=_read_only) as writing:
        if clone_file(reading.fileno(), writing.fileno()):
            return
        left = os.fstat(reading.fileno()).st_size
        while left:
            checkpoint()
            count = os.sendfile(writing.fileno(), reading.fileno(), None, min(left, _COPY_BYTES))
            if not count:
                raise OSError(errno.EIO, "it became shorter while it was copied", source)
            left -= count


def _read_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o444)


def _link_all(source: str, directory: str) -> None:
    for name in os.listdir(source):
        os.symlink(os.path.join(source, name), os.path.join(directory, name))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
