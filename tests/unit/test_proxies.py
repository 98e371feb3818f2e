"""Which proxy serves a URL, by setting and environment; and that git's libcurl is led the same way."""

from __future__ import annotations

import base64

import pytest

from stager.errors import UsageError
from stager.host.git import network_environment
from stager.host.proxies import check_proxy_setting, git_proxy_environment, proxy_for

P = "http://proxy.example:3128"
Q = "http://other.example:8080"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("https://s3.example", {}, None),
        ("https://s3.example", {"https_proxy": P}, P),
        ("https://s3.example", {"HTTPS_PROXY": P}, P),
        ("https://s3.example", {"HTTPS_PROXY": Q, "https_proxy": P}, P),
        ("https://s3.example", {"http_proxy": P, "HTTP_PROXY": P}, None),
        ("http://s3.example", {"http_proxy": P, "https_proxy": Q}, P),
        ("http://s3.example", {"HTTP_PROXY": P}, P),
        ("http://s3.example", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None),
        ("http://s3.example", {"http_proxy": P, "REQUEST_METHOD": "GET"}, P),
        ("https://s3.example", {"HTTPS_PROXY": P, "REQUEST_METHOD": "GET"}, P),
        ("https://s3.example", {"all_proxy": P}, P),
        ("http://s3.example", {"ALL_PROXY": P}, P),
        ("https://s3.example", {"all_proxy": Q, "https_proxy": P}, P),
        ("https://s3.example", {"https_proxy": "", "HTTPS_PROXY": P}, None),
        ("https://s3.example", {"https_proxy": "", "all_proxy": P}, P),
        ("https://s3.example", {"https_proxy": " "}, None),
        ("https://s3.example", {"https_proxy": "proxy.example:3128"}, P),
        ("https://s3.example", {"https_proxy": "HTTP://proxy.example:3128/"}, P),
        ("https://s3.example", {"https_proxy": "proxy.example"}, "http://proxy.example:80"),
        ("https://s3.example", {"https_proxy": "https://proxy.example"}, "https://proxy.example:443"),
        ("https://s3.example", {"https_proxy": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128"),
        ("https://127.0.0.1:9000", {"https_proxy": P}, P),
        ("https://localhost:9000", {"https_proxy": P}, P),
    ],
)
def test_environment_names_the_proxy(url: str, environment: dict[str, str], expected: str | None) -> None:
    found = proxy_for(url, None, environment)
    assert (found.url if found else None) == expected


@pytest.mark.parametrize(
    ("exempt", "url", "direct"),
    [
        ("*", "https://s3.example", True),
        ("a, *", "https://s3.example", True),
        ("s3.example", "https://s3.example", True),
        ("S3.Example", "https://s3.example", True),
        ("s3.example", "https://S3.EXAMPLE.", True),
        ("s3.example.", "https://s3.example", True),
        ("example", "https://s3.example", True),
        (".example", "https://s3.example", True),
        ("*.example", "https://s3.example", True),
        (".s3.example", "https://s3.example", True),
        ("3.example", "https://s3.example", False),
        ("s3.exampl", "https://s3.example", False),
        ("b.s3.example", "https://s3.example", False),
        ("other,.example", "https://s3.example", True),
        ("other .example", "https://s3.example", True),
        (" , ,", "https://s3.example", False),
        ("..", "https://s3.example", False),
        ("s3.example:443", "https://s3.example", True),
        ("s3.example:9000", "https://s3.example", False),
        ("s3.example:9000", "https://s3.example:9000", True),
        ("s3.example:80", "http://s3.example", True),
        ("localhost", "http://localhost:9000", True),
        ("10.1.2.3", "http://10.1.2.3:9000", True),
        ("10.1.2.3:9000", "http://10.1.2.3:9000", True),
        ("10.1.2.3:9001", "http://10.1.2.3:9000", False),
        ("2.3", "http://10.1.2.3:9000", False),
        ("10.0.0.0/8", "http://10.1.2.3:9000", True),
        ("10.9.9.9/8", "http://10.1.2.3:9000", True),
        ("10.0.0.0/16", "http://10.1.2.3:9000", False),
        ("10.0.0.0/33", "http://10.1.2.3:9000", False),
        ("10.0.0.0/8", "http://s3.example", False),
        ("::1", "http://[::1]:9000", True),
        ("[::1]", "http://[::1]:9000", True),
        ("[::1]:9000", "http://[::1]:9000", True),
        ("[::1]:9001", "http://[::1]:9000", False),
        ("0:0:0:0:0:0:0:1", "http://[::1]:9000", True),
        ("fd00::/8", "http://[fd12::7]", True),
        ("fd00::/8", "http://[fe80::7]", False),
        ("0.0.0.0/0", "http://[::1]:9000", False),
    ],
)
def test_no_proxy_exempts_what_it_covers(exempt: str, url: str, direct: bool) -> None:
    environment = {"https_proxy": P, "http_proxy": P, "no_proxy": exempt}
    assert (proxy_for(url, None, environment) is None) == direct
    environment["NO_PROXY"] = environment.pop("no_proxy")
    assert (proxy_for(url, None, environment) is None) == direct


def test_lower_case_no_proxy_wins() -> None:
    assert proxy_for("http://a.example", None, {"http_proxy": P, "no_proxy": "b", "NO_PROXY": "*"}) is not None


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fd00:ec2::254]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "[fd00:0ec2:0::254]"],
)
def test_metadata_services_never_have_a_proxy(host: str) -> None:
    assert proxy_for(f"http://{host}/latest", None, {"http_proxy": P}) is None
    assert proxy_for(f"http://{host}/latest", P, {}) is None


def test_setting_stands_above_the_environment() -> None:
    environment = {"https_proxy": Q, "no_proxy": "*"}
    found = proxy_for("https://s3.example", P, environment)
    assert found is not None
    assert found.url == P
    for none in ("", "none", "None", " "):
        assert proxy_for("https://s3.example", none, {"https_proxy": Q}) is None


@pytest.mark.parametrize(
    ("user", "raw"),
    [
        ("user:pass", b"user:pass"),
        ("user", b"user:"),
        ("user:", b"user:"),
        ("us%40er:p%3Aa%2fs%25s", b"us@er:p:a/s%s"),
        ("user:p@ss", b"user:p@ss"),
        ("user:p:ss", b"user:p:ss"),
        ("user:%C3%A4%FF", b"user:\xc3\xa4\xff"),
        (":pass", b":pass"),
    ],
)
def test_user_and_password_are_decoded_sent_as_basic_and_never_shown(user: str, raw: bytes) -> None:
    found = proxy_for("https://s3.example", None, {"https_proxy": f"http://{user}@proxy.example:3128"})
    assert found is not None
    assert found.authorization() == f"Basic {base64.b64encode(raw).decode()}"
    assert found.url == P
    assert "user=Secret(...)" in repr(found)
    again = proxy_for("https://s3.example", None, {"https_proxy": found.url_with_user()})
    assert again is not None
    assert again.authorization() == found.authorization()


BAD = [
    "http://user:hunter2@",
    "http://user:hunter2@proxy.example:0",
    "http://user:hunter2@proxy.example:99999",
    "http://user:hunter2@proxy.example:x",
    "http://user:hunter2@proxy.example/path",
    "http://user:hunter2@proxy.example?q",
    "http://user:hunter2@proxy.example#f",
    "http://user:hunter2/x@proxy.example",
    "http://user:hunter2#@proxy.example",
    "http://user:hunter2@pro xy.example",
    "http://user:hunter2@[::1",
    "http://user:hunter2@::1",
    "http://user:hunter2@[proxy]:1",
    "http://user:hunter2@[fe80::1%25eth0]:1",
    "http://us%3Aer:hunter2@proxy.example",
    "http://user:hunter2%0d%0ax@proxy.example",
    "ftp://user:hunter2@proxy.example",
    f"http://user:{'hunter2' * 500}@proxy.example",
    "://user:hunter2@proxy.example",
    "http:////user:hunter2@proxy.example",
]


@pytest.mark.parametrize("url", BAD)
def test_url_that_is_no_proxy_is_refused_by_its_settings_name_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match=r"^HTTPS_PROXY: names no proxy") as caught:
        proxy_for("https://s3.example", None, {"HTTPS_PROXY": url})
    assert "hunter2" not in str(caught.value)
    assert "proxy.example" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h", "SOCKS5"])
def test_socks_proxy_is_refused_by_name(scheme: str) -> None:
    with pytest.raises(UsageError, match="ALL_PROXY: names a SOCKS proxy"):
        proxy_for("https://s3.example", None, {"ALL_PROXY": f"{scheme}://proxy.example"})


def test_setting_with_a_user_is_refused_pointing_at_the_environment() -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        check_proxy_setting("http://user:hunter2@proxy.example", where="--proxy")
    assert "hunter2" not in str(caught.value)
    for good in (P, "proxy.example:1", "", "none"):
        check_proxy_setting(good, where="--proxy")
    for bad in ("http://", "socks5://proxy.example", "http://proxy.example/x"):
        with pytest.raises(UsageError, match=r"^--proxy"):
            check_proxy_setting(bad, where="--proxy")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"HTTP_PROXY": P}, {"http_proxy": P}),
        ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, {}),
        ({"HTTPS_PROXY": Q, "https_proxy": P}, {"https_proxy": P}),
        ({"ALL_PROXY": "socks5://p"}, {"http_proxy": "socks5://p", "https_proxy": "socks5://p"}),
        ({"HTTPS_PROXY": P, "NO_PROXY": "other"}, {"https_proxy": P, "no_proxy": "other"}),
        (
            {"HTTPS_PROXY": P, "no_proxy": "git.example:443"},
            {"https_proxy": P, "no_proxy": "git.example:443,git.example"},
        ),
        ({"HTTPS_PROXY": P, "NO_PROXY": "*"}, {"https_proxy": P, "no_proxy": "*"}),
    ],
)
def test_git_is_told_what_the_environment_says_in_names_that_libcurl_reads(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    assert git_proxy_environment("https://git.example/r", None, given) == expected
    found = network_environment("/r", "https://git.example/r", given)
    assert {name: value for name, value in found.items() if "proxy" in name.lower()} == expected


@pytest.mark.parametrize(("setting", "value"), [(P, P), ("none", ""), ("", "")])
def test_git_is_told_a_setting_above_everything(setting: str, value: str) -> None:
    found = git_proxy_environment("https://git.example/r", setting, {"https_proxy": Q, "no_proxy": "*"})
    assert found == {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.proxy", "GIT_CONFIG_VALUE_0": value}
