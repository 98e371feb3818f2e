"""What one user asks of root's stager never reaches another user's data, however it is asked.

Alice's requests aim at Bob's directories with every kind of source, target and command: by their own path, and by a
path of hers on which a process of hers puts a symlink to them and takes it away, all the time. What Bob has is compared
before and after with everything the kernel keeps of a file; times of access too, so that what was read shows.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from integration.job_driver import Outcome
from integration.two_users import ALICE, BOB, TwoUsers, two_users
from stager.host.rights import NO_EXPORT
from unit.scripted_http import Request, response, scripted

pytestmark = pytest.mark.root

CANARY = "what only bob may read"
AT_ONCE = 3
JOB = 'version = 1\n[job]\nname = "aimed"\ncommand = "true"\n'
SHOW = ["--", "sh", "-c", "find /data /public /code /task -type f | xargs cat"]

LOOK = """
import json, os, sys
def look(path, rows):
    found = os.lstat(path)
    kind = {name: getattr(found, name) for name in ("st_mode", "st_uid", "st_gid", "st_nlink", "st_size", "st_ino")}
    times = [found.st_mtime_ns, found.st_ctime_ns, found.st_atime_ns if os.path.isfile(path) else 0]
    rows[path] = [kind, times]
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            look(f"{path}/{name}", rows)
    return rows
print(json.dumps(look(sys.argv[1], {})))
"""


@pytest.fixture(scope="module")
def node() -> Iterator[TwoUsers]:
    if os.geteuid() != 0:
        pytest.skip("root has to act for somebody")
    with two_users() as here:
        furnish(here)
        yield here


@pytest.fixture(autouse=True)
def no_scratch_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAGER_SCRATCH")


def furnish(node: TwoUsers) -> None:
    """Bob: private data, a repository, a staged job of his. Alice: the same of her own, in ``alices``."""
    fs = node.fs
    node.site(f"""
[placement]
roots = ["/var/tmp"]
floor = "1M"
[principals]
allowed_binds = ["{fs}/bobs", "{fs}/alices"]
allowed_public = ["{fs}/bobs", "{fs}/alices"]
""")
    for user, where, text in ((BOB, "bobs", CANARY), (ALICE, "alices", "alice's own")):
        node.root("sh", "-ec", f"""
            mkdir -p {fs}/{where}/real/sub {fs}/{where}/repo {fs}/{where}/out; cd {fs}/{where}
            echo "{text}" | tee real/file > real/sub/file
            chown -R {user.name}: . && chmod 0700 real repo out""")  # fmt: skip
        git = "git -c user.name=x -c user.email=x@x -c init.defaultBranch=main"
        commit = f"{git} init -q && cp ../real/file . && {git} add . && {git} commit -qm x && echo done"
        assert node.as_user(user, f"cd {fs}/{where}/repo && {commit}") == "done\n"
    staged = node.stager("--as-user", "bob", "stage", "--job-id", "bobs", "--data", f"b/d=file://{fs}/bobs/real")
    assert staged.code == 0, staged.err
    long_ago = ["-type", "f", "-exec", "touch", "-a", "-d", "2001-01-01", "{}", "+"]  # reading it shows then
    node.root("find", f"{fs}/bobs", f"{fs}/tmp/stager-{BOB.uid}", *long_ago)


def state_of_bob(node: TwoUsers) -> list[object]:
    """As the file system has it, read from outside with an eye that leaves no trace."""
    places = (f"{node.fs}/bobs", f"{node.fs}/tmp/stager-{BOB.uid}", str(node.home(BOB)))
    return [json.loads(node.root(node.python, "-I", "-c", LOOK, place)) for place in places]


@contextmanager
def swapper(node: TwoUsers, own: str, target: str) -> Iterator[str]:
    """A path of Alice's that is a directory like her ``own`` and, now and then, ``target``."""
    place = f"{node.fs}/alices/of-{os.path.basename(target)}"
    script = os.path.join(os.path.dirname(__file__), "two_users_swapper.py")
    program = f"{node.fs}/swapper.py"
    node.root("install", "-m", "0644", script, program)
    node.root("sh", "-ec", f"mkdir {place}; cp -r {node.fs}/alices/{own} {place}/real; chown -R alice: {place}")
    process = node.popen(ALICE, node.python, "-I", program, place, target)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield f"{place}/swap"
    finally:
        process.kill()
        process.communicate()


def aims(node: TwoUsers, data: str, repo: str, out: str, name: str, *, most: bool) -> list[list[str]]:
    """Commands that would read ``data`` and ``repo``, and write, change or remove ``out`` and ``data``. Not ``most``:
    those in which root mounts something, and those that write.
    """
    mine, home = f"{node.fs}/alices/real", node.home(ALICE)
    job = f"{home}/{name}.toml"
    node.write(job, JOB + f'[logs]\npersist = "{out}"\n[[resource]]\nsource = "file://{data}"\n', ALICE)
    kept = f'[logs]\npersist = "{out}"\n[results]\npersist = "{out}"\n'
    node.write(f"{home}/{name}-kept.toml", JOB.replace("true", "touch /logs/x /task/x") + kept, ALICE)
    own = ["--data", f"a/d=file://{mine}"]
    few = [
        ["sync", "--delete=all", f"file://{mine}", data],
        ["run", "--data", f"b/d=bind:{data}", *SHOW],
        ["run", "--public", f"d={data}", *SHOW],
        ["run", f"{home}/{name}-kept.toml"],
        ["run", *own, "--scratch", out, *SHOW],
    ]
    if not most:
        return few
    return [
        *few,
        ["sync", f"git+file://{repo}", f"{home}/{name}-git"],
        ["sync", "--state-dir", out, f"file://{mine}", f"{home}/{name}-state"],
        ["verify", "--repair", data],
        ["run", "--data", f"b/d=file://{data}", *SHOW],
        ["run", "--code", data, *SHOW],
        ["run", "--status-file", f"{out}/status", *own, "--save-listing", out, "--code", f"git+file://{repo}", *SHOW],
        ["stage", *own, "--layout", f"data={out},code={out},logs={out}"],
        ["stage", job],
    ]


def commands_on_bobs_job(node: TwoUsers, *, most: bool) -> list[list[str]]:
    scratch = ["--scratch", f"{node.fs}/tmp/stager-{BOB.uid}"]
    few = [
        ["collect", *scratch, "bobs"],
        ["teardown", *scratch, "--discard-uncollected", "bobs"],
        ["exec", *scratch, "bobs", "--", "cat", "/data/b/d/file"],
        ["logs", *scratch, "bobs"],
        ["gc", *scratch],
        ["cache", "rm", *scratch, "--all"],
        ["run", *scratch, "--job-id", "bobs", "--data", f"a/d=file://{node.fs}/alices/real", "--", "true"],
    ]
    if not most:
        return few
    return [
        *few,
        ["ls", *scratch],
        ["status", *scratch, "bobs"],
        ["cache", "gc", *scratch, "--keep", "0"],
        ["cache", "verify", *scratch],
        ["plan", "--emit", "oci", *scratch, "bobs"],
        ["create", *scratch, "--from", "bobs"],
    ]


def test_nothing_of_another_user_is_read_written_or_removed(node: TwoUsers, soak: int) -> None:
    fs = node.fs
    before = state_of_bob(node)
    with ExitStack() as swapping, ThreadPoolExecutor(AT_ONCE) as pool:
        commands = aims(node, f"{fs}/bobs/real", f"{fs}/bobs/repo", f"{fs}/bobs/out", "plain", most=True)
        direct = len(commands)
        data, repo, out = (
            swapping.enter_context(swapper(node, name, f"{fs}/bobs/{name}")) for name in ("real", "repo", "out")
        )
        commands += commands_on_bobs_job(node, most=soak > 1)
        for turn in range(soak):
            commands += aims(node, data, repo, out, f"swap{turn}", most=soak > 1)
        outcomes = list(pool.map(lambda argv: node.for_alice(*argv), commands))
    assert state_of_bob(node) == before
    for argv, done in zip(commands, outcomes, strict=True):
        assert CANARY not in done.out + done.err, argv
        assert "Traceback" not in done.err, (argv, done.err)
    assert not [argv for argv, done in zip(commands[:direct], outcomes, strict=False) if done.code == 0]
    alices = [f"{fs}/alices", f"{node.home(ALICE)}", f"{fs}/tmp/stager-{ALICE.uid}"]
    assert node.root("sh", "-c", f"grep -rl '{CANARY}' {' '.join(alices)} || true") == ""
    assert node.root("find", *alices, "!", "-user", "alice") == ""


def test_bind_of_an_allowed_directory_that_is_exchanged_meanwhile_never_shows_another(
    node: TwoUsers, soak: int
) -> None:
    """Alice may read both, so that only the site's word is between them."""
    fs = node.fs
    node.root("sh", "-ec", f"mkdir {fs}/elsewhere; cd {fs}/elsewhere; echo '{CANARY}' > file; chmod -R a+rX .")
    with swapper(node, "real", f"{fs}/elsewhere") as path:
        told: list[Outcome] = []
        for turn in range(3 * soak):
            argv = ["run", "--job-id", f"bound{turn}", "--data", f"b/d=bind:{path}", "--public", f"d={path}"]
            told.append(node.for_alice(*argv, "--", "cat", "/data/b/d/file", "/public/d/file"))
    assert not [done for done in told if CANARY in done.out], told
    assert all(done.code in (0, 75, 125) for done in told), told


AS_STAGER = """
import sys; sys.path.insert(0, sys.argv[1])
from stager.host import broker
from stager.host.principal import find_principal
broker._BOOT = f"import sys; sys.argv[:2] = [sys.argv[0]]; exec(open({sys.argv[2]!r}).read())"
sys.exit(broker.run_as(find_principal("alice", {}), sys.argv[3:], {}))
"""


def test_root_believes_nothing_that_the_users_process_asks_for(node: TwoUsers) -> None:
    fs = node.fs
    attacker = os.path.join(os.path.dirname(__file__), "broker_attacker.py")
    node.root("install", "-m", "0644", attacker, f"{fs}/attacker.py")
    before = state_of_bob(node)
    said = node.root(node.python, "-I", "-c", AS_STAGER, str(node.library), f"{fs}/attacker.py", f"{fs}/alices/real",
                     f"{fs}/bobs/real")  # fmt: skip
    assert state_of_bob(node) == before
    assert CANARY not in said
    told: dict[str, str] = json.loads(said.splitlines()[-1])
    targets = [name for name in told if name.startswith("target ")]
    assert len(targets) == 12
    assert {told.pop(name) for name in targets} == {"is no place of a view's for data"}
    ran = {"own directory as a copy": "status 0", "command": "status 9", "strict": "status 9", "join": "status 9",
           "workdir of another": "cannot enter the working directory: Permission denied",
           "program of another": "cannot execute the command: Permission denied"}  # fmt: skip
    assert {name: told.pop(name) for name in ran} == ran
    assert {told.pop(f"{name}: descriptor") for name in ran} == {"/memfd:context (deleted)"}
    assert told.pop("end of init") == "{'done': True}"
    assert told.pop("nonsense") == "hung up"
    joins = [name for name in told if name.startswith(("join ", "context "))]
    assert len(joins) == 6
    assert {told.pop(name) for name in joins} == {"root keeps no such view for this user"}
    site = "this site lets root mount no {} of it for users; the administrator adds it to [principals] {}"
    assert told == {
        "another's as a copy": "is not a directory of the user's",
        "another's, strict": "is not a directory of the user's",
        "another's as code": "is not a directory of the user's",
        "not allowed": site.format("bind mounts", "allowed_binds"),
        "not allowed as public": site.format("public data", "allowed_public"),
        "not the shared storage": "is not a directory of the user's",
        "another's as user storage": "is not a directory of the user's",
        "overlay": "root mounts no overlay for a user",
        "an export": NO_EXPORT,
        "an export as a copy": NO_EXPORT,
        "unknown kind": "is not a directory of the user's",
        "twice": "is mounted twice",
    }
    assert "stager-was-here" not in node.root("ls", "/etc")


def test_requests_are_signed_with_the_principals_credentials_alone(node: TwoUsers) -> None:
    signed: list[str] = []

    def answer(request: Request, connection: socket.socket) -> None:
        signed.extend(re.findall(r"Credential=(\w+)/", str(request.headers)))
        if "list-type=2" in request.path:
            row = "<Contents><Key>p/o</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>"
            text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{row}</ListBucketResult>"
            connection.sendall(response(text.encode()))
        else:
            connection.sendall(response(b"x"))

    for user, key in ((ALICE, "ALICESKEY"), (BOB, "BOBSKEY")):
        node.root("install", "-d", "-o", user.name, "-m", "0700", f"{node.home(user)}/.aws")
        node.write(f"{node.home(user)}/.aws/credentials",
                   f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n", user, "0600")  # fmt: skip
    with scripted(answer) as server:
        options = ["--endpoint-url", f"http://127.0.0.1:{server.port}", "--region", "us-east-1"]
        roots = {"AWS_ACCESS_KEY_ID": "ROOTSKEY", "AWS_SHARED_CREDENTIALS_FILE": f"{node.home(BOB)}/.aws/credentials"}
        done = node.for_alice("sync", *options, "s3://bucket/p/", f"{node.home(ALICE)}/s3", **roots)
    assert done.code == 0, done.err
    assert set(signed) == {"ALICESKEY"}
