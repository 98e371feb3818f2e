"""Who one is to a Git LFS server: helpers, netrc, headers, ssh, certificates and proxies."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.certificates import Certificates
from servers.giftless_lfs import Giftless
from servers.git_ssh import GitSsh
from servers.http_proxy import HttpProxy
from servers.lfs_fixture import LfsFixture, Reply, lfs_fixture
from stager.errors import AccessDeniedError, NoObjectsError, SourceError, TransientError, UsageError
from unit.lfs_asking import User, ask, pointer, pointers, repository_of

PASSWORD = "hunter2: \u00e9"


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as running:
        running.credentials = ("bob", PASSWORD)
        yield running


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


def give(password: str) -> str:
    return f"[ \"$1\" = get ] && printf 'username=bob\\npassword={password}\\n'; exit 0"


def netrc(user: User, host: str, password: str) -> None:
    (user.home / ".netrc").write_text(f"machine {host} login bob password {password}\n")


def shown(lfs: LfsFixture) -> list[str]:
    """The passwords that the server was shown, one a batch; "" for none."""
    values = [request.headers.get("authorization", "").removeprefix("Basic ") for request in lfs.batches]
    return [base64.b64decode(value).decode().partition(":")[2] for value in values]


def test_helper_is_asked_after_a_401_and_told_that_it_was_right(lfs: LfsFixture, user: User) -> None:
    """git-credential(1); the password is in no argument and no variable of any process on the way."""
    look = 'for p in $$ $PPID; do cat /proc/$p/cmdline /proc/$p/environ; done >>"$HOME/seen"\n'
    user.helper(look + give(PASSWORD))
    wanted = pointers(lfs, [b"%d" % number for number in range(300)])
    assert len(ask(repository_of(lfs), wanted, user)) == 300
    assert shown(lfs) == ["", *[PASSWORD] * 3]
    asked = user.asked()
    host = lfs.url.split("/")[2]
    assert asked.count("get:") == asked.count("store:") == 1 and "erase" not in asked
    assert f"protocol=http\nhost={host}\n" in asked and "path=" not in asked
    assert "hunter2" not in (user.home / "seen").read_bytes().decode("latin-1")


def test_path_is_told_where_git_is_set_so(lfs: LfsFixture, user: User) -> None:
    user.helper(give(PASSWORD))
    user.configure((user.home / ".gitconfig").read_text() + "[credential]\n\tuseHttpPath = true\n")
    assert ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert "path=repository.git/info/lfs\n" in user.asked()


def test_password_that_is_refused_is_forgotten_and_asked_for_once_more(lfs: LfsFixture, user: User) -> None:
    user.helper(give("wrong"))
    with pytest.raises(AccessDeniedError, match="refuses the password") as caught:
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert "wrong" not in str(caught.value)
    asked = user.asked()
    assert asked.count("get:") == 2 and asked.count("erase:") == 1 and "store" not in asked


def test_no_password_known_is_an_error_that_asks_nobody(lfs: LfsFixture, user: User) -> None:
    with pytest.raises(AccessDeniedError, match=r"wants a password.*credential helper"):
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert len(lfs.requests) == 1


def test_netrc_comes_first_and_a_helper_after_it(lfs: LfsFixture, user: User) -> None:
    netrc(user, "127.0.0.1", "stale")
    user.helper(give(PASSWORD))
    assert ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert shown(lfs) == ["", "stale", PASSWORD]
    lfs.credentials = ("bob", "stale")
    assert ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert shown(lfs)[3:] == ["", "stale"]
    (user.home / ".netrc").write_text(
        "machine elsewhere.example login bob password other\ndefault login bob password hunter9\n"
    )
    (user.home / ".gitconfig").unlink()
    with pytest.raises(AccessDeniedError, match="wants a password"):
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    (user.home / ".netrc").write_text("machine 127.0.0.1 hunter9")
    with pytest.raises(UsageError, match="is damaged") as caught:
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert "hunter9" not in str(caught.value)


def test_password_is_shown_at_once_where_git_lfs_has_learned_that_it_is_wanted(lfs: LfsFixture, user: User) -> None:
    """git-lfs-config(5), "lfs.<url>.access"."""
    user.helper(give(PASSWORD))
    config = f'[lfs "{lfs.url}"]\n\taccess = basic\n'.encode()
    assert ask(repository_of(lfs), pointers(lfs, [b"x"]), user, lfsconfig=config)
    assert shown(lfs) == [PASSWORD]


def test_extra_header_is_enough(lfs: LfsFixture, user: User) -> None:
    """As CI systems hand a token to git: http.<url>.extraHeader."""
    value = base64.b64encode(f"bob:{PASSWORD}".encode()).decode()
    origin = "/".join(lfs.url.split("/")[:3])
    user.configure(f'[http "{origin}/"]\n\textraHeader = AUTHORIZATION: basic {value}\n')
    lfs.answer = lambda request: lfs.reply({"message": request.headers["authorization"]}, status=403)
    with pytest.raises(AccessDeniedError, match="denies access") as caught:
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert value not in str(caught.value)
    assert lfs.requests[-1].headers["authorization"] == f"basic {value}"
    user.configure("[http]\n\textraHeader = \"X: a\\nEvil: 1\"\n")
    with pytest.raises(UsageError, match="extraHeader"):
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)


def test_server_that_wants_no_password_but_something_else_is_told_by_name(lfs: LfsFixture, user: User) -> None:
    user.helper(give(PASSWORD))
    lfs.answer = lambda _: Reply(status=401, headers=[("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "NTLM")])
    with pytest.raises(AccessDeniedError, match="Negotiate"):
        ask(repository_of(lfs), pointers(lfs, [b"x"]), user)
    assert user.asked() == ""


def test_certificates_are_those_that_git_trusts(certificates: Certificates, user: User) -> None:
    with lfs_fixture(certificates) as lfs:
        wanted = pointers(lfs, [b"x"])
        user.environ["GIT_SSL_CAINFO"] = certificates.stranger_ca_file
        with pytest.raises(SourceError, match=r"not trusted.*http\.sslCAInfo"):
            ask(repository_of(lfs), wanted, user)
        del user.environ["GIT_SSL_CAINFO"]
        for setting in (f"sslCAInfo = {certificates.ca_file}", "sslVerify = false"):
            user.configure(f'[http "{lfs.url.partition("/repository")[0]}"]\n\t{setting}\n')
            assert ask(repository_of(lfs), wanted, user)
        user.configure("[http]\n\tsslCAInfo = /no/such/file\n")
        with pytest.raises(UsageError, match="no such CA bundle"):
            ask(repository_of(lfs), wanted, user)


@pytest.mark.parametrize("by", ["environment", "http.proxy"])
@pytest.mark.parametrize("secured", [False, True])
def test_proxy_of_git_or_the_environment_is_gone_through(
    by: str, secured: bool, certificates: Certificates, site_proxy: HttpProxy, user: User
) -> None:
    with lfs_fixture(certificates if secured else None) as lfs:
        wanted = pointers(lfs, [b"x"])
        user.environ["GIT_SSL_CAINFO"] = certificates.ca_file
        if by == "environment":
            user.environ.update(site_proxy.environment())
        else:
            user.configure(f"[http]\n\tproxy = {site_proxy.url}\n")
        assert ask(repository_of(lfs), wanted, user)
        host = lfs.url.split("/")[2]
        assert site_proxy.wait_carried(f"CONNECT {host}" if secured else f"POST {host}")
        assert "proxy-authorization" not in lfs.requests[-1].headers
        user.configure("")
        for name in ("http_proxy", "https_proxy"):
            user.environ[name] = site_proxy.bare_url
        with pytest.raises(AccessDeniedError, match="proxy wants other credentials"):
            ask(repository_of(lfs), wanted, user)
        assert ask(repository_of(lfs), wanted, user, proxy="none")


def test_certificate_of_the_user_is_gits_and_goes_through_no_proxy_that_could_ask_for_it(
    certificates: Certificates, user: User
) -> None:
    with lfs_fixture(certificates, clients=ssl.CERT_REQUIRED) as lfs:
        wanted = pointers(lfs, [b"x"])
        trust = f"[http]\n\tsslCAInfo = {certificates.ca_file}\n"
        user.configure(f"{trust}\tsslCert = {certificates.client_both_file}\n")
        assert ask(repository_of(lfs), wanted, user)
        user.configure(trust)
        user.environ |= {"GIT_SSL_CERT": certificates.client_file, "GIT_SSL_KEY": certificates.client_key_file}
        assert ask(repository_of(lfs), wanted, user)
        lfs.requests.clear()
        user.configure(f"{trust}\tproxy = https://127.0.0.1:9\n")
        with pytest.raises(UsageError, match="client certificate is not supported through a proxy over TLS"):
            ask(repository_of(lfs), wanted, user)
        assert lfs.requests == []


def test_ssh_says_where_the_server_is_and_what_to_show_it(
    git_ssh_server: GitSsh, lfs_streaming: Giftless, user: User
) -> None:
    """api/server-discovery.md, "SSH"; the server is giftless, which lets nobody in without a token."""
    contents = [b"one", b"two"]
    lfs_streaming.put("lab/by-ssh", contents)
    user.environ.update(git_ssh_server.environment())
    url = git_ssh_server.url("lab/by-ssh")
    header = {"Authorization": f"Bearer {lfs_streaming.token('lab/by-ssh')}"}
    git_ssh_server.answer_lfs({
        "lab/by-ssh": {"href": lfs_streaming.url("lab/by-ssh"), "header": header, "expires_in": 600},
        "lab/evil": {"href": "https://169.254.169.254/", "header": header},
        "lab/broken": {"href": lfs_streaming.url("lab/by-ssh"), "header": {"X": "a\r\nEvil: 1"}},
        "lab/distant": {"href": "http://192.0.2.1/x"},
    })  # fmt: skip
    found = ask(url, [pointer(content) for content in contents], user)
    assert len(found) == 2 and all("?jwt=" in action.href for action in found.values())
    assert git_ssh_server.commands() == ["git-lfs-authenticate /lab/by-ssh download"]
    for name in ("lab/evil", "lab/broken", "lab/distant"):
        with pytest.raises(SourceError) as caught:
            ask(git_ssh_server.url(name), [pointer(b"one")], user)
        assert "Bearer" not in str(caught.value) and "Evil: 1" not in str(caught.value)
    git_ssh_server.answer_lfs(None)  # no such command there: the derived https server, which is not there either
    with pytest.raises(TransientError, match=r"https://127\.0\.0\.1/lab/by-ssh\.git/info/lfs.*connect to the LFS"):
        ask(url, [pointer(b"one")], user)
    user.environ.update(git_ssh_server.environment(key="stranger"))
    with pytest.raises(AccessDeniedError, match="Permission denied"):
        ask(url, [pointer(b"one")], user)


@pytest.mark.parametrize("kind", ["lfs_streaming", "lfs_in_s3"])
def test_giftless_gives_links_that_lead_to_the_objects(kind: str, user: User, request: pytest.FixtureRequest) -> None:
    """It takes a token as the password of the user _jwt; what it has not, it names."""
    giftless: Giftless = request.getfixturevalue(kind)
    contents = [b"%d" % number for number in range(120)]
    giftless.put("lab/words", contents)
    token = giftless.token("lab/words")
    user.helper(f"[ \"$1\" = get ] && printf 'username=_jwt\\npassword={token}\\n'; exit 0")
    user.configure((user.home / ".gitconfig").read_text() + f"[lfs]\n\turl = {giftless.url('lab/words')}\n")
    wanted = [pointer(content) for content in contents]
    found = ask("https://git.example/lab/words", wanted, user)
    assert found.keys() == {of.oid for of in wanted}
    assert all(token not in f"{action.href}{action.headers}" for action in found.values())  # each link has its own
    lost = [pointer(b"lost %d" % number) for number in range(3)]
    with pytest.raises(NoObjectsError) as caught:
        ask("https://git.example/lab/words", [*wanted, *lost], user)
    assert len(caught.value.problems) == 3 and all(of.oid in str(caught.value) for of in lost)
    with pytest.raises(NoObjectsError) as caught:
        ask("https://git.example/lab/words", lost, user)
    assert len(caught.value.problems) == 3
