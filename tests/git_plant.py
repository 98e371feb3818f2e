"""A Git repository in which all that git could run makes a canary: what a job may have left where stager works."""

from __future__ import annotations

from pathlib import Path

__all__ = ["plant"]


def plant(git_dir: Path, canary: Path) -> None:
    """A repository in which everything that git could run makes ``canary``."""
    command = f"touch {canary}"
    git_dir.mkdir(exist_ok=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    for name in ("objects", "refs", "hooks", "info"):
        (git_dir / name).mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\n")
    for hook in HOOKS:
        (git_dir / "hooks" / hook).write_text(f"#!/bin/sh\n{command}\n")
        (git_dir / "hooks" / hook).chmod(0o755)
    (git_dir / "evil.config").write_text(f"[core]\n\tfsmonitor = {command}\n")
    lines = [f"[{section}]\n\t{key} = {value}\n" for section, key, value in executable_keys(str(git_dir), command)]
    (git_dir / "config").write_text("[core]\n\trepositoryformatversion = 0\n" + "".join(lines))


HOOKS = (
    "applypatch-msg", "pre-applypatch", "post-applypatch", "pre-commit", "pre-merge-commit", "prepare-commit-msg",
    "commit-msg", "post-commit", "pre-rebase", "post-checkout", "post-merge", "pre-push", "pre-receive", "update",
    "proc-receive", "post-receive", "post-update", "reference-transaction", "push-to-checkout", "pre-auto-gc",
    "post-rewrite", "sendemail-validate", "fsmonitor-watchman", "post-index-change",
)  # fmt: skip
"""githooks(5)"""


def executable_keys(git_dir: str, command: str) -> list[tuple[str, str, str]]:
    """(section, key, value) of what git-config(1) lets a repository run, or lead to what does."""
    ext = f"ext::sh -c {command.replace(' ', '% ')}"
    return [
        ("core", "fsmonitor", command), ("core", "sshCommand", command), ("core", "hooksPath", f"{git_dir}/hooks"),
        ("core", "pager", command), ("core", "editor", command), ("core", "askPass", command),
        ("core", "gitProxy", command), ("core", "alternateRefsCommand", command), ("core", "worktree", "/"),
        ("core", "attributesFile", f"{git_dir}/info/attributes"), ("credential", "helper", f"!{command}"),
        ("sequence", "editor", command), ("pager", "log", command), ("diff", "external", command),
        ('diff "evil"', "command", command), ('diff "evil"', "textconv", command),
        ('merge "evil"', "driver", command), ('filter "evil"', "smudge", command),
        ('filter "evil"', "clean", command), ('filter "evil"', "process", command),
        ('filter "evil"', "required", "true"), ('filter "lfs"', "smudge", command),
        ('filter "lfs"', "process", command), ("uploadpack", "packObjectsHook", command),
        ('remote "origin"', "url", ext), ('remote "origin"', "vcs", "ext"),
        ('remote "origin"', "uploadpack", command), ('remote "origin"', "receivepack", command),
        ('remote "origin"', "promisor", "true"), ("extensions", "partialClone", "origin"),
        (f'url "{ext}"', "insteadOf", "http:"), (f'url "{ext}"', "insteadOf ", "git@"),
        ("protocol", "allow", "always"), ('protocol "ext"', "allow", "always"),
        ('submodule "sub"', "update", f"!{command}"), ("gpg", "program", command),
        ('gpg "ssh"', "defaultKeyCommand", command), ("alias", "fetch", f"!{command}"),
        ("alias", "ls-tree", f"!{command}"), ("include", "path", "evil.config"),
        ('includeIf "gitdir:/"', "path", "evil.config"), ("safe", "directory", "*"),
        ('trailer "evil"', "command", command), ("sendemail", "smtpServer", command), ("instaweb", "httpd", command),
        ("man", "viewer", command), ('browser "x"', "cmd", command), ('difftool "x"', "cmd", command),
        ('mergetool "x"', "cmd", command), ("interactive", "diffFilter", command),
        ("receive", "procReceiveRefs", "refs"), ('guitool "x"', "cmd", command),
        ("http", "proxy", "http://127.0.0.1:1"), ("gc", "recentObjectsHook", command),
        ('hook "evil"', "command", command), ('hook "evil"', "event", "pre-commit"),
    ]  # fmt: skip
