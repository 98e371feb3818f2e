"""The commands: one file each, loaded when it is called; and the one switch from errors to exit codes."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from typing import Final, cast

import click

from stager.cli.state import State
from stager.errors import StagerError
from stager.version import __version__

__all__ = ["COMMANDS", "run"]

# name -> (module, what `stager --help` says). A module's command object is called `command`.
COMMANDS: Final = {
    "sync": ("stager.cli.sync", "Bring one source into one directory: parallel, verified, incremental."),
    "plan": ("stager.cli.plan", "Say what a sync or a job would fetch, and change nothing."),
    "verify": ("stager.cli.verify", "Hash a staged tree again, name what differs, and repair it."),
    "init": ("stager.cli.init", "A job file with everything that can stand in one, commented."),
    "check": ("stager.cli.check", "Say what is wrong with a job file, its sources asked, nothing moved."),
    "stage": ("stager.cli.stage", "Bring all of a job's data onto this node and say where."),
    "run": ("stager.cli.run", "Stage a job, run its command in its own view, keep its logs."),
    "exec": ("stager.cli.exec", "Run a command in the view of a job that runs on this node."),
    "create": ("stager.cli.create", "Make a job now, its code and refs pinned, to be started later by its id."),
    "mount": ("stager.cli.mount", "Make a staged job's mounts in the node's own namespace, as root."),
    "umount": ("stager.cli.umount", "Remove them again."),
    "slurm": ("stager.cli.slurm", "Prolog, task prolog and epilog for slurm.conf."),
    "collect": ("stager.cli.collect", "Keep the logs of a job that has ended, also after a crash."),
    "teardown": ("stager.cli.teardown", "Remove a job's tree."),
    "ls": ("stager.cli.ls", "The jobs on this node, and how far each is."),
    "status": ("stager.cli.status", "All that is known of a job."),
    "logs": ("stager.cli.logs", "What a job has written to its /logs, while it runs and after."),
    "gc": ("stager.cli.gc", "Remove the trees of jobs that have ended."),
    "cache": ("stager.cli.cache", "The trees that jobs on this node share."),
    "doctor": ("stager.cli.doctor", "What this node offers and lacks."),
    "config": ("stager.cli.config", "Every setting, its value, and where that comes from."),
}


class _LazyGroup(click.Group):
    """Imports a command's module when that command is asked for, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return cast("click.Command", importlib.import_module(COMMANDS[cmd_name][0]).command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.NoSuchCommand(args[0], possibilities=list(COMMANDS), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="stager %(version)s")
@click.option("--as-user", metavar="USER", expose_value=False, help="For root: do all of it as this user (a name, a "
              "number, or slurm: whose job SLURM_JOB_UID says it is). Stands before or behind the command.")
def _group() -> None:
    """Bring the data of a compute job onto this node, verified, before the job starts.

    Example: stager sync s3://datasets/mnist/ /scratch/mnist
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code of behaviour.md section 4. Never raises."""
    state = State()
    try:
        outcome = _group.main(args=arguments, prog_name="stager", standalone_mode=False, obj=state)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StagerError as error:
        _report(error, state)
        return error.exit_code
    except Exception as error:
        _report(error, state)
        return 1
    return outcome if isinstance(outcome, int) else 0


def _report(error: Exception, state: State) -> None:
    from stager.cli.render import report_error  # only when something went wrong

    report_error(error, json=state.json)
    if state.verbosity >= 2:
        traceback.print_exception(error)
