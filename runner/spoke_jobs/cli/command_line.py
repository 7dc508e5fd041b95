"""The list of commands. Each is a module of `commands`.

Every call loads the modules that are imported here. If only one command needs a large module (rich, Alembic, the
worker, a web server), its function imports it.
"""

from __future__ import annotations

import copy
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

import typer

from spoke_jobs.cli.commands import batches_command, limits_command, mutes_command, outbox_command, schedules_command
from spoke_jobs.cli.commands.cancel_command import cancel
from spoke_jobs.cli.commands.check_command import check
from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.dispatch_command import dispatch
from spoke_jobs.cli.commands.events_command import events
from spoke_jobs.cli.commands.exits import EPILOG
from spoke_jobs.cli.commands.limits_command import pause, resume
from spoke_jobs.cli.commands.logs_command import logs
from spoke_jobs.cli.commands.ls_command import ls
from spoke_jobs.cli.commands.migrate_command import migrate
from spoke_jobs.cli.commands.notify_command import notify
from spoke_jobs.cli.commands.prune_command import prune
from spoke_jobs.cli.commands.retry_command import retry
from spoke_jobs.cli.commands.run_command import run
from spoke_jobs.cli.commands.show_command import show
from spoke_jobs.cli.commands.sizes_command import sizes
from spoke_jobs.cli.commands.start_commands import priority, run_now, suspend
from spoke_jobs.cli.commands.stats_command import stats
from spoke_jobs.cli.commands.sync_command import sync
from spoke_jobs.cli.commands.tasks_command import tasks
from spoke_jobs.cli.commands.watch_command import watch
from spoke_jobs.cli.commands.web_command import web
from spoke_jobs.cli.commands.why_command import why
from spoke_jobs.cli.commands.worker_command import worker
from spoke_jobs.cli.printing import print_text
from spoke_jobs.shared.log_setup import VisibleFormatter

PANELS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Set-up": (check, migrate),
    "Read jobs": (ls, stats, sizes, show, why, logs, watch, events),
    "Change jobs": (dispatch, cancel, retry, run_now, priority, suspend, prune, pause, resume),
    "Run jobs and tasks (containers start these)": (worker, tasks, sync, run),
    "See jobs in a browser": (web,),
    "Tell people about failed jobs": (notify,),
}
"""The headings of `--help`, each with its commands."""
_CONSEQUENTIAL = (cancel, prune, pause, suspend)
_TABLES_FROM = 80
"""Columns of a terminal."""


def _shows_tables() -> bool:
    """Return whether help and errors are shown in tables: on a terminal that is wide enough for their cells."""
    return sys.stdout.isatty() and sys.stderr.isatty() and shutil.get_terminal_size().columns >= _TABLES_FROM


app = typer.Typer(
    cls=CommandGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if _shows_tables() else None,  # else help and errors are plain
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from spoke_jobs import __version__

        print_text(f"spoke-jobs {__version__}")
        raise typer.Exit


@app.callback()
def _spoke_jobs(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Background jobs that an application can trust."""
    # Commands that do not configure logging print warnings by this handler.
    cast(logging.Handler, logging.lastResort).setFormatter(VisibleFormatter())


app.add_typer(batches_command.app, name="batches", rich_help_panel="Change jobs")
app.add_typer(outbox_command.app, name="outbox", rich_help_panel="Change jobs")
app.add_typer(limits_command.app, name="limits", rich_help_panel="Change jobs")
app.add_typer(schedules_command.app, name="schedules", rich_help_panel="Change jobs")
app.add_typer(mutes_command.app, name="mutes", rich_help_panel="Tell people about failed jobs")
for _panel, _commands in PANELS.items():
    for _command in _commands:
        _class = Consequential if _command in _CONSEQUENTIAL else PlainErrors
        app.command(cls=_class, rich_help_panel=_panel)(_command)


def called_with(arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the one command that the arguments name first, or with all if they name none.

    typer builds every command that it has at each call, which would take longer than most commands do.
    """
    first = arguments[0] if arguments else ""
    commands = [
        info for info in app.registered_commands if getattr(info.callback, "__name__", "").replace("_", "-") == first
    ]
    groups = [info for info in app.registered_groups if info.name == first]
    if not commands and not groups:
        return app
    narrowed = copy.copy(app)
    narrowed.registered_commands, narrowed.registered_groups = commands, groups
    return narrowed
