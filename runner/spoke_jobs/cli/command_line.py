"""The list of commands. Each is a module of `commands`.

Every call loads the modules that are imported here. If only one command needs a large module (rich, Alembic, the
worker, a web server), its function imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from spoke_jobs.cli.commands.cancel import cancel
from spoke_jobs.cli.commands.check import check
from spoke_jobs.cli.commands.dispatch_command import dispatch
from spoke_jobs.cli.commands.exits import EPILOG
from spoke_jobs.cli.commands.logs_command import logs
from spoke_jobs.cli.commands.ls import ls
from spoke_jobs.cli.commands.migrate import migrate
from spoke_jobs.cli.commands.prune import prune
from spoke_jobs.cli.commands.retry_command import retry
from spoke_jobs.cli.commands.run_command import run
from spoke_jobs.cli.commands.show import show
from spoke_jobs.cli.commands.sync_command import sync
from spoke_jobs.cli.commands.tasks_command import tasks
from spoke_jobs.cli.commands.watch_command import watch
from spoke_jobs.cli.commands.why_command import why
from spoke_jobs.cli.commands.worker_command import worker

PANELS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Set-up": (check, migrate),
    "Read jobs": (ls, show, why, logs, watch),
    "Change jobs": (dispatch, cancel, retry, prune),
    "Processes, until SIGTERM": (worker, tasks, sync, run),
}
"""The headings of `--help`, each with its commands."""

app = typer.Typer(
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,  # else help and errors are plain
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from spoke_jobs import __version__

        print(f"spoke-jobs {__version__}")
        raise typer.Exit


@app.callback()
def _spoke_jobs(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Background jobs that an application can trust."""


for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
