"""Objects that could not be read: one error that counts them, by the reason that matters most."""

from __future__ import annotations

import pytest

from stager.errors import AccessDeniedError, ArchivedError, SourceError, StagerError
from stager.sources.s3_skipped import raise_skipped

DENIED = [AccessDeniedError("access denied", where=f"s3://b/denied{n}") for n in range(2)]
ARCHIVED = [ArchivedError("is archived", where=f"s3://b/cold{n:02d}") for n in range(30)]
CODED = SourceError("is stored with a Content-Encoding", where="s3://b/coded")


def raised(*skipped: StagerError) -> StagerError:
    sizes = {error.where: 10 for error in skipped}
    with pytest.raises(StagerError) as caught:
        raise_skipped(skipped, sizes, where="s3://b/")
    return caught.value


def test_nothing_skipped_is_no_error() -> None:
    raise_skipped([], {}, where="s3://b/")


def test_archived_objects_are_counted_and_the_first_are_named() -> None:
    error = raised(*reversed(ARCHIVED), *ARCHIVED[:5])
    assert isinstance(error, ArchivedError)
    assert (error.objects, error.size, error.where) == (30, 300, "s3://b/")
    assert error.problems == tuple(f"s3://b/cold{n:02d}" for n in range(20))
    assert str(error).splitlines()[0].startswith("s3://b/: 30 objects are archived and cannot be read now (300 bytes);")


def test_parts_of_one_object_are_its_own_error() -> None:
    assert raised(DENIED[0], DENIED[0]) is DENIED[0]


def test_other_reasons_are_told_before_archives() -> None:
    error = raised(*ARCHIVED[:3], CODED, *DENIED)
    assert type(error) is AccessDeniedError
    assert str(error) == (
        "s3://b/: 6 objects could not be read (3 of them are archived); "
        "the first is s3://b/coded: is stored with a Content-Encoding"
    )
    assert type(raised(ARCHIVED[0], CODED)) is SourceError
