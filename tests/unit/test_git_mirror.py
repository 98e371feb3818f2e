"""The mirror's own files: what it takes for a record, and where it works."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stager.errors import HostError
from stager.host.git_mirror import Loan, Mirror

COMMIT, OTHER = "a" * 40, "b" * 40
PACK = f"pack-{'c' * 40}.pack"
URL = "https://git.example/words"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


def keep(scratch: Path, commit: str, name: str = PACK) -> None:
    """As a run does that has fetched a commit in one pack."""
    mirror = Mirror(str(scratch), URL, "commits")
    packs = Path(mirror.run.path, "packs")
    packs.mkdir()
    (packs / name).write_bytes(b"packed")
    mirror.keep(str(packs), Loan(shallow=frozenset({commit})), commit=commit)
    mirror.close()


def lend(scratch: Path, commit: str) -> Loan | None:
    mirror = Mirror(str(scratch), URL, "commits")
    try:
        return mirror.lend(commit)
    finally:
        mirror.close()


def the_record(scratch: Path, commit: str) -> Path:
    (found,) = scratch.glob(f"mirrors/*/commits.1/{commit}.json")
    return found


def test_commit_that_was_kept_is_lent_with_its_packs_and_another_is_not(scratch: Path) -> None:
    keep(scratch, COMMIT)
    loan = lend(scratch, COMMIT)
    assert loan is not None
    assert (loan.tips, loan.shallow, list(loan.packs)) == ({COMMIT}, {COMMIT}, [PACK])
    assert Path(loan.packs[PACK]).read_bytes() == b"packed"
    assert lend(scratch, OTHER) is None
    assert lend(scratch, "../../x") is None


@pytest.mark.parametrize(
    "changed",
    [b"", b"[" * 100_000, b"{}", b"\xff", {"packs": {"../../x.pack": 6}}, {"packs": {PACK: 7}}, {"packs": {}},
     {"shallow": ["0\n1"]}, {"tips": [COMMIT + "\n"]}, {"schema": 2}, {"commit": OTHER}],
)  # fmt: skip
def test_record_of_another_form_lends_nothing(scratch: Path, changed: bytes | dict[str, object]) -> None:
    keep(scratch, COMMIT)
    record = the_record(scratch, COMMIT)
    told = json.loads(record.read_bytes())
    record.write_bytes(changed if isinstance(changed, bytes) else json.dumps({**told, **changed}).encode())
    assert lend(scratch, COMMIT) is None


@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_pack_or_record_that_is_no_file_lends_nothing(scratch: Path, tmp_path: Path, what: str) -> None:
    keep(scratch, COMMIT)
    (tmp_path / "elsewhere").write_bytes(b"packed")
    record = the_record(scratch, COMMIT)
    for path in (record.with_name(PACK), record):
        path.unlink()
        if what == "link":
            path.symlink_to(tmp_path / "elsewhere")
        elif what == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
        assert lend(scratch, COMMIT) is None


def test_what_is_discarded_goes_when_nobody_reads_it_any_more(scratch: Path) -> None:
    keep(scratch, COMMIT)
    reader, finder = Mirror(str(scratch), URL, "commits"), Mirror(str(scratch), URL, "commits")
    loan = reader.lend(COMMIT)
    assert loan is not None
    assert finder.lend(COMMIT) is not None
    finder.discard()
    finder.discard()  # what it was lent is no longer in use: somebody else's fresh start is left alone
    assert finder.lend(COMMIT) is None
    finder.close()
    assert Path(loan.packs[PACK]).exists()
    reader.close()
    lend(scratch, COMMIT)
    assert [path.name for path in scratch.glob("mirrors/*/commits.*")] == ["commits.2"]


def test_pack_without_a_record_is_removed_after_a_while(scratch: Path) -> None:
    keep(scratch, COMMIT)
    orphan = the_record(scratch, COMMIT).with_name(f"pack-{'d' * 40}.pack")
    orphan.write_bytes(b"of a run that was killed")
    lend(scratch, COMMIT)
    assert orphan.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stager.host.git_mirror._STALE_AFTER_S", -1.0)
        loan = lend(scratch, COMMIT)
    assert not orphan.exists()
    assert loan is not None
    assert Path(loan.packs[PACK]).exists()


@pytest.mark.parametrize("how", ["a file", "a link", "another's", "open to others"])
def test_place_that_is_not_the_users_own_is_refused_and_left_alone(scratch: Path, tmp_path: Path, how: str) -> None:
    place = scratch / "mirrors"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if how == "a file":
        place.write_bytes(b"")
    elif how == "a link":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o777 if how == "open to others" else 0o700)
        os.chown(place, 1234 if how == "another's" else os.geteuid(), -1)
    with pytest.raises(HostError):
        Mirror(str(scratch), URL, "commits")
    assert os.listdir(tmp_path / "elsewhere") == []
    assert place.is_file() or os.listdir(place) == []
