"""In the place of a user's stager: asks root's part of it for what no stager asks for. Prints what came of each.

Runs as the user, with the socket that a stager would have. A request whose view is made runs a command that tells what
it sees; one that is refused is told with the words of the refusal.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

channel, mine, others = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3]
told: dict[str, str] = {}


def ask(question: object, descriptors: list[int]) -> tuple[dict[str, Any], list[int]]:
    data = question if isinstance(question, bytes) else json.dumps(question).encode()
    socket.send_fds(channel, [data], descriptors)
    answer, received, _, _ = socket.recv_fds(channel, 1 << 16, 4)
    return json.loads(answer) if answer else {"failed": ["hung up", "", ""]}, received


def mount(source: str, target: str = "/data/a/d", kind: str = "bind", **also: Any) -> dict[str, Any]:
    found = os.stat(source)
    return {"kind": kind, "source": source, "target": target, "read_only": False, "lower": None, "owner": None,
            "pinned": [found.st_dev, found.st_ino], "address": None, **also}  # fmt: skip


def keep(name: str, mounts: list[dict[str, Any]], argv: list[str], *, strict: bool = False, **also: Any) -> None:
    ours, theirs = socket.socketpair()
    answer, received = ask({"do": "keep"}, [theirs.fileno(), 0, 1, 2])
    theirs.close()
    if not received:
        told[name] = str(answer["failed"][0])
        return
    request = {
        "view": {"mounts": mounts, "masked": [], "ramdisk": None, "strict": strict},
        "join": None, "holds": False, "context": "c",
        "argv": argv, "environment": {"PATH": "/usr/bin:/bin"}, "workdir": "/", **also,
    }  # fmt: skip
    with ours.makefile("rb") as lines:
        ours.sendall(json.dumps(request).encode() + b"\n")
        ready = json.loads(lines.readline() or '{"event": "failed", "what": "ended without a word"}')
        if ready["event"] == "ready":
            look_at(name, answer["pid"], ready)
            ours.sendall(b"0\n")
            ready = json.loads(lines.readline())
        told[name] = str(ready.get("what") or f"status {ready.get('status')}")
    os.close(received[0])
    ours.close()


def look_at(name: str, keeper: int, ready: dict[str, Any]) -> None:
    """The keeper is root's: nobody signals it or looks into it; and of its descriptors root shows one alone."""
    for what, attempt in (
        ("kill", lambda: os.kill(keeper, 9)),
        ("stop", lambda: os.kill(keeper, 19)),
        ("root", lambda: os.listdir(f"/proc/{keeper}/root")),
        ("descriptors", lambda: os.listdir(f"/proc/{keeper}/fd")),
        ("memory", lambda: os.open(f"/proc/{keeper}/mem", os.O_RDONLY)),
    ):
        try:
            attempt()
            told[f"{name}: {what} the keeper"] = "done"
        except PermissionError:
            pass
    for number in range(3, 40):
        _, received = ask({"do": "context", "keeper": keeper, "descriptor": number}, [])
        for descriptor in received:
            shown = os.readlink(f"/proc/self/fd/{descriptor}")
            told[f"{name}: descriptor"] = shown
            os.close(descriptor)
    for pid in (1, os.getppid(), os.getpid()):
        for question in ({"do": "join", "keeper": pid}, {"do": "context", "keeper": pid, "descriptor": 3}):
            answer, received = ask(question, [0, 0, 1, 2])
            told[f"{question['do']} {'broker' if pid == os.getppid() else pid == 1}"] = str(answer["failed"][0])


def main() -> None:
    show = ["sh", "-c", f"cat {others}/* /data/*/*/* 2>&1; touch /etc/stager-was-here; exit 9"]
    keep("own directory as a copy", [mount(mine, kind="copy")], ["true"])
    keep("another's as a copy", [mount(others, kind="copy")], show)
    keep("another's as code", [mount(others, "/code", "own")], show)
    keep("not allowed", [mount("/usr")], show)
    keep("not allowed as public", [mount("/usr", "/public/x", "public")], show)
    keep("not the shared storage", [mount("/usr", "/mnt/shared_storage", "storage")], show)
    keep("another's as user storage", [mount(others, "/mnt/user_storage", "storage")], show)
    keep("overlay", [mount(mine, kind="copy", lower=others)], show)
    export = {"source": "filer:/x", "address": "127.0.0.1"}
    keep("an export", [{**mount(mine, kind="nfs"), **export}], show)
    keep("an export as a copy", [{**mount(mine, kind="copy"), **export}], show)
    keep("unknown kind", [mount("/usr", kind="odd")], show)
    for target in ("/etc", "/etc/stager-x", "/data/../etc/x", "/data/a", "/data/a/d/e", "/code/x", "//code", "data/a/d",
                   "/mnt/x", "/public/../usr", "/public/x/y", "/"):  # fmt: skip
        keep(f"target {target}", [mount(mine, target, "copy")], show)
    keep("twice", [mount(mine, "/code", "copy"), mount(mine, "/code", "copy")], show)
    keep("join", [], show, join={"namespaces": {}, "job": 0, "keeper": 0})
    keep("workdir of another", [], ["true"], workdir=others)
    keep("program of another", [], [f"{others}/file"])
    keep("command", [mount(mine, kind="copy")], show)
    keep("strict", [mount(mine, kind="copy")], show, strict=True)
    keep("another's, strict", [mount(others, kind="copy")], show, strict=True)
    told["end of init"] = str(ask({"do": "end", "keeper": 1}, [])[0])
    told["nonsense"] = str(ask(b'{"do": ["keep"', [0, 0, 1, 2])[0]["failed"][0])
    sys.stdout.write(json.dumps(told) + "\n")


main()
