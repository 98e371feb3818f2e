"""What of the cache goes, and what the site and the user allow it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager.errors import HostError
from stager.host.cache_settings import CacheSettings, chosen_quota, user_cache
from stager.host.site import site_cache
from stager.keeping import Amount, Item, Quota, Room, longest_unused, over_quota, too_much_pinned, total


def item(name: str, size: int, used: int, *, inodes: int = 10, pinned: bool = False, in_use: bool = False) -> Item:
    return Item(
        name=name, path=f"/c/{name}", source=f"s3://b/{name}", bytes=size, inodes=inodes, last_use_s=used,
        is_pinned=pinned, in_use=in_use,
    )  # fmt: skip


def free(size: int, inodes: int = 0, whole: int = 0, whole_inodes: int = 0) -> Room:
    return Room(Amount(size, inodes), Amount(whole, whole_inodes))


def names(items: list[Item]) -> list[str]:
    return [each.name for each in items]


KEPT = [item("new", 100, 9), item("old", 50, 1), item("middle", 70, 5, inodes=1000), item("never", 5, 0)]


@pytest.mark.parametrize(
    ("needed", "goes"),
    [
        (Amount(0, 0), []),
        (Amount(1, 0), ["never"]),
        (Amount(6, 0), ["never", "old"]),
        (Amount(1, 21), ["never", "old", "middle"]),
        (Amount(10**9, 0), ["never", "old", "middle", "new"]),
    ],
)
def test_longest_unused_goes_first_and_no_more_than_needed(needed: Amount, goes: list[str]) -> None:
    assert names(longest_unused(KEPT, needed)) == goes
    assert names(longest_unused(list(reversed(KEPT)), needed)) == goes


def test_pinned_used_and_spared_stay_however_little_room_there_is() -> None:
    kept = [item("pinned", 50, 1, pinned=True), item("used", 50, 2, in_use=True), item("a", 5, 3), item("b", 5, 4)]
    assert names(longest_unused(kept, Amount(10**9, 10**9), spared="a")) == ["b"]


@pytest.mark.parametrize(
    ("quota", "room", "goes"),
    [
        (Quota(share=1.0), free(0), []),
        (Quota(share=0.5), free(225), []),  # 225 kept of 450
        (Quota(share=0.5), free(224), ["never"]),
        (Quota(share=1.0, bytes=170), free(10**6), ["never", "old"]),
        (Quota(share=1.0, inodes=1020), free(10**6), ["never"]),
        (Quota(share=1.0, inodes=0), free(10**6), ["never", "old", "middle", "new"]),
        (Quota(share=1.0, floor_bytes=100), free(95), ["never"]),
        (Quota(share=1.0, floor_bytes=100, floor_share=0.15), free(95, whole=1000), ["never", "old"]),
        (Quota(share=1.0, floor_bytes=500), free(0), ["never", "old", "middle", "new"]),
        (Quota(share=1.0, floor_share=0.1), free(500, 90, 1000, 1000), ["never"]),
        (Quota(share=1.0, floor_share=0.1), free(500, 0, 1000), []),  # inodes are not counted
    ],
)
def test_quota_is_kept_to_and_the_floor_is_free(quota: Quota, room: Room, goes: list[str]) -> None:
    assert names(over_quota(KEPT, quota, room)) == goes


def test_what_is_pinned_counts_in_the_quota() -> None:
    kept = [item("pinned", 90, 1, pinned=True), item("a", 5, 3), item("b", 5, 4)]
    assert total(kept) == Amount(100, 30)
    assert names(over_quota(kept, Quota(share=1.0, bytes=95), free(0))) == ["a"]
    assert names(over_quota(kept, Quota(share=1.0, bytes=80), free(0))) == ["a", "b"]
    assert too_much_pinned(kept, Quota(share=1.0, bytes=90, inodes=10), free(0)) == ""
    assert too_much_pinned(kept, Quota(share=1.0, bytes=80), free(0)).endswith("takes 90 B of the 80 B it may have")
    assert "takes 10 inodes of the 9 it" in too_much_pinned(kept, Quota(share=1.0, inodes=9), free(0))


def test_of_site_and_user_the_smaller_counts(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[cache]\nmax_bytes = "100G"\nmax_inodes = 1000\nshare = "80%"\n')
    settings = tmp_path / ".config/stager/stager.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('[cache]\nmax_bytes = "200G"\nmax_inodes = 10\n')
    from_site = site_cache(str(site), owner=site.stat().st_uid)
    both = chosen_quota(from_site, user_cache({"HOME": str(tmp_path)}))
    assert both == Quota(share=0.8, bytes=100 << 30, inodes=10)
    assert chosen_quota(CacheSettings(), CacheSettings()) == Quota()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cache = 4\n", r"cache: is a table"),
        ("[cache]\nmax = 4\n", r"cache\.max: no such key; known are share, max_bytes, max_inodes"),
        ('[cache]\nshare = "101%"\n', r"cache\.share: a share"),
        ("[cache]\nshare = 0.5\n", r"cache\.share: a share"),
        ('[cache]\nmax_bytes = "5"\n', r"cache\.max_bytes: '5' has no unit"),
        ('[cache]\nmax_inodes = "5K"\n', r"cache\.max_inodes: a whole number"),
        ("[cache]\nmax_inodes = true\n", r"cache\.max_inodes: a whole number"),
        ("[cache]\nmax_bytes = -1\n", r"cache\.max_bytes: an amount"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    settings = tmp_path / ".config/stager/stager.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(text)
    with pytest.raises(HostError, match=said):
        user_cache({"HOME": str(tmp_path)})
