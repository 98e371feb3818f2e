"""Repositories made to do harm, over http and from the disk: refused by name before anything is in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.git_staging import described, stage
from servers.git_http import GitHttp
from servers.raw_packs import RawPack
from servers.repositories import git, make_repository
from stager.config import GitOptions
from stager.errors import BadKeysError, IntegrityError, StagerError
from stager.sources import git_tree
from stager.sources.git_names import what_git_refuses

FILE, LINK, TREE, MODULE = b"100644", b"120000", b"40000", b"160000"


@pytest.fixture(params=["http", "file"])
def url(request: pytest.FixtureRequest, git_server: GitHttp) -> str:
    """Of the repository ``evil``."""
    return f"git+{git_server.url('evil')}" if request.param == "http" else f"git+file://{git_server.root}/evil"


def refused(url: str, tmp_path: Path, **options: bool) -> StagerError:
    with pytest.raises(StagerError) as caught:
        stage(url, tmp_path / "out", git=GitOptions(submodules=True, **options))
    assert described(tmp_path / "out" / "tree") == {}
    return caught.value


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b".git", "hasDotgit"), (b".GIT", "hasDotgit"), (b"GIT~1", "hasDotgit"), (b".git ", "hasDotgit"),
        ("\u200c.git".encode(), "hasDotgit"), (".g\u200cit".encode(), "hasDotgit"), (b".git...", "hasDotgit"),
        (b"..", "hasDotdot"), (b".", "hasDot"), (b"a/b", "fullPathname"), (b"", "empty filename"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("deep", [False, True])
def test_names_that_are_gits_own_or_lead_elsewhere_are_refused(
    url: str, git_server: GitHttp, tmp_path: Path, name: bytes, told: str, deep: bool
) -> None:
    pack = RawPack()
    tree = pack.tree((FILE, name, pack.add("blob", b"x")))
    commit = pack.commit(pack.tree((TREE, b"a", tree)) if deep else tree)
    pack.write(git_server.root / "evil", commit)
    error = refused(url, tmp_path)
    assert (type(error), error.exit_code) == (IntegrityError, 4)
    assert told in str(error)


@pytest.mark.parametrize("path", [b".git", b".GIT/config", b"a/GIT~1/x", "a/.g\u200cit".encode(), b"a/.git. /x",
                                  b".git::$INDEX_ALLOCATION/config", b"a\\.git\\config", b".Git:x"])  # fmt: skip
def test_names_of_gits_own_directory_are_known_without_git(path: bytes) -> None:
    assert what_git_refuses(path)


@pytest.mark.parametrize("path", [b"git", b".gitattributes", b".github/x", b"a.git/x", b"git~10", b".gitx",
                                  "\u00fc.git".encode(), b"\xff.git", b".git1"])  # fmt: skip
def test_names_that_only_look_like_it_are_none(path: bytes) -> None:
    assert not what_git_refuses(path)


def test_names_of_ours_in_any_spelling_are_all_listed(url: str, git_server: GitHttp, tmp_path: Path) -> None:
    """They are no bad names to git; `stager.names` judges them with all others (integration/test_sync_names.py)."""
    from stager.names import compile_names

    names = [b".STAGER", b".stager", ".st\u200bager".encode()]
    pack = RawPack()
    below = pack.tree((FILE, b"x", pack.add("blob", b"x")))
    pack.write(git_server.root / "evil", pack.commit(pack.tree(*((TREE, name, below) for name in sorted(names)))))
    snapshot, _ = stage(url, tmp_path / "out")
    assert {problem.key for problem in compile_names(snapshot.table).bad} == {name + b"/x" for name in names}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(LINK, b"a"), (TREE, b"a")], "duplicateEntries"),
        ([(FILE, b"a"), (FILE, b"a")], "duplicateEntries"),
        ([(FILE, b"a"), (FILE, b"a.b"), (TREE, b"a")], "duplicateEntries"),
        ([(FILE, b"b"), (FILE, b"a")], "treeNotSorted"),
        ([(LINK, b".gitmodules")], "gitmodulesSymlink"),
    ],
)
def test_trees_that_contradict_themselves_are_refused(
    url: str, git_server: GitHttp, tmp_path: Path, rows: list[tuple[bytes, bytes]], told: str
) -> None:
    pack = RawPack()
    blob = pack.add("blob", b"/tmp")
    below = pack.tree((FILE, b"passwd", blob))
    tree = pack.tree(*((mode, name, below if mode == TREE else blob) for mode, name in rows))
    pack.write(git_server.root / "evil", pack.commit(tree))
    error = refused(url, tmp_path)
    assert error.exit_code == 4
    assert told in str(error)


def test_links_that_no_link_can_be_are_all_named(url: str, git_server: GitHttp, tmp_path: Path) -> None:
    pack = RawPack()
    bad = {b"empty": b"", b"long": b"x" * 5000, b"nul": b"a\0b"}
    rows = [(LINK, name, pack.add("blob", target)) for name, target in sorted(bad.items())]
    pack.write(git_server.root / "evil", pack.commit(pack.tree(*rows)))
    error = refused(url, tmp_path)
    assert isinstance(error, BadKeysError)
    assert {problem.partition(":")[0] for problem in error.problems} == {"empty", "long", "nul"}


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        (b'[submodule "../../x"]\n path = a\n url = ../b\n', "gitmodulesName"),
        (b'[submodule "a"]\n path = a\n url = -u./payload\n', "gitmodulesUrl"),
        (b'[submodule "a"]\n path = -p\n url = ../b\n', "gitmodulesPath"),
        (b'[submodule "a"]\n path = a\n url = ../b\n update = !touch canary\n', "gitmodulesUpdate"),
        (b"[submodule \"a\"]\n path = a\n url = " + b"../" * 60 + b"b\n", "leads above the root"),
        (b'[submodule "a"]\n path = a\n url = ext::sh\n', "remote helper"),
        (b'[submodule "a"]\n path = a\n url = https://u:secret@h/x\n', "has a user or a password"),
        (b'[submodule "a"]\n path = a\n url = ssh://-oProxyCommand=x/y\n', "'-'"),
        (b'[submodule "b"]\n path = b\n url = ../b\n', "says nothing"),
        (b"[submodule", "gitmodulesParse|bad config"),
        (b"", "says nothing"),
    ],
)
def test_submodules_that_would_run_or_reach_something_are_refused(
    url: str, git_server: GitHttp, tmp_path: Path, modules: bytes, told: str
) -> None:
    pack = RawPack()
    other = bytes.fromhex("d" * 40)
    tree = pack.tree((FILE, b".gitmodules", pack.add("blob", modules)), (MODULE, b"a", other))
    pack.write(git_server.root / "evil", pack.commit(tree))
    error = refused(url, tmp_path)
    assert error.exit_code in (2, 4)
    assert any(one in str(error) for one in told.split("|")), str(error)
    assert "secret" not in str(error)


def test_few_objects_that_name_any_number_of_files_are_refused(
    url: str, git_server: GitHttp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten trees, each ten times in the next one, are 10^10 files; the second time they are in the mirror."""
    monkeypatch.setattr(git_tree, "_FILES_MAX", 20_000)
    pack = RawPack()
    tree = pack.tree(*((FILE, b"f%d" % n, pack.add("blob", b"x")) for n in range(10)))
    for _ in range(9):
        tree = pack.tree(*((TREE, b"d%d" % n, tree) for n in range(10)))
    pack.write(git_server.root / "evil", pack.commit(tree))
    for _ in range(2):
        error = refused(url, tmp_path)
        assert error.exit_code == 2
        assert "over 20,000 files" in str(error)


def test_one_blob_under_many_names_is_read_as_often_as_it_is_written(
    url: str, git_server: GitHttp, tmp_path: Path
) -> None:
    pack = RawPack()
    blob = pack.add("blob", b"the same")
    pack.write(git_server.root / "evil", pack.commit(pack.tree(*((FILE, b"f%04d" % n, blob) for n in range(3000)))))
    stage(url, tmp_path / "out")
    assert set(described(tmp_path / "out" / "tree").values()) == {("file", b"the same")}


def test_path_too_long_for_any_table_is_refused(url: str, git_server: GitHttp, tmp_path: Path) -> None:
    """280 names of 250 bytes are 70,000; what is longer than a path may be here is a bad name like others."""
    pack = RawPack()
    tree = pack.tree((FILE, b"f", pack.add("blob", b"x")))
    for _ in range(280):
        tree = pack.tree((TREE, b"d" * 250, tree))
    pack.write(git_server.root / "evil", pack.commit(tree))
    error = refused(url, tmp_path)
    assert (type(error), error.exit_code) == (BadKeysError, 2)
    assert "a path of 70,281 bytes" in str(error)


def test_well_known_repositories_keep_their_old_spellings(url: str, git_server: GitHttp, tmp_path: Path) -> None:
    """Modes with a zero in front, times without a zone of this world: in commits of the first years of git."""
    pack = RawPack()
    inner = pack.tree((FILE, b"f", pack.add("blob", b"x")))
    tree = pack.tree((b"040000", b"d", inner))
    who = b"a <a@example.org> 1 +51800"
    body = b"tree %s\nauthor %s\ncommitter %s\n\nx\n" % (tree.hex().encode(), who, who)
    pack.write(git_server.root / "evil", pack.add("commit", body).hex())
    stage(url, tmp_path / "out")
    assert described(tmp_path / "out" / "tree") == {"d/f": ("file", b"x")}


def test_nothing_hostile_is_kept_for_the_next_run(git_server: GitHttp, tmp_path: Path) -> None:
    """A good commit of the same repository comes after a bad one, from the same mirror."""
    good = make_repository(git_server.root / "evil", {"a": b"a"})
    pack = RawPack()
    pack.write(git_server.root / "evil", pack.commit(pack.tree((FILE, b".git", pack.add("blob", b"x")))))
    refused(f"git+{git_server.url('evil')}", tmp_path)
    git(git_server.root / "evil", "update-ref", "refs/heads/main", good)
    stage(f"git+{git_server.url('evil')}", tmp_path / "out")
    assert described(tmp_path / "out" / "tree") == {"a": ("file", b"a")}
