"""What a forge does with the one command of an ssh session: fetch, ask for LFS, or be told that it knows no more.

Run by sshd as its forced command: ``python git_ssh_forge.py SETTINGS``, the client's command in SSH_ORIGINAL_COMMAND.
``git-lfs-authenticate PATH OPERATION`` is answered as in git-lfs, docs/api/server-discovery.md, "SSH".
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text())
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    with open(settings["log"], "a") as log:
        log.write(json.dumps(command) + "\n")
    match shlex.split(command):
        case ["git-upload-pack", path]:
            os.execvp("git", ["git", "upload-pack", f"{settings['root']}/{path.lstrip('/')}"])
        case ["git-lfs-authenticate", path, "download" | "upload"] if settings["lfs"] is not None:
            repository = path.strip("/").removesuffix(".git")
            answer = settings["lfs"].get(repository)
            if answer is None:
                print(f"no such repository: {repository}", file=sys.stderr)
                return 1
            print(json.dumps(answer))
            return 0
    print(f"{command.partition(' ')[0]}: command not found", file=sys.stderr)
    return 127


if __name__ == "__main__":
    sys.exit(main())
