"""The list of commands. Each is a module of `commands`.

A call imports the module of the command that it names, and no other. What only one way to call a command needs (rich,
Alembic, a web server), its function imports.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, cast

import typer

from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.exits import EPILOG
from spoke_jobs.cli.printing import print_text
from spoke_jobs.shared.log_setup import VisibleFormatter

PANELS: dict[str, tuple[str, ...]] = {
    "Set-up": ("check", "migrate"),
    "Read jobs": ("ls", "stats", "sizes", "show", "why", "logs", "watch", "events"),
    "Change jobs": (
        *("batches", "outbox", "limits", "schedules"),
        *("dispatch", "cancel", "retry", "run-now", "priority", "suspend", "prune", "pause", "resume"),
    ),
    "Run jobs and tasks (containers start these)": ("worker", "tasks", "sync", "run"),
    "See jobs in a browser": ("web",),
    "Tell people about failed jobs": ("mutes", "notify"),
}
"""The headings of `--help`, each with its commands."""
_GROUPS = {"batches", "outbox", "limits", "schedules", "mutes"}
"""Those that have commands of their own: the module's ``app``."""
_CONSEQUENTIAL = {"cancel", "prune", "pause", "suspend"}
_MODULES = {
    **dict.fromkeys(("pause", "resume"), "limits_command"),
    **dict.fromkeys(("priority", "run-now", "suspend"), "start_commands"),
}
"""Where a command is that shares a module; ``why`` is in ``why_command``."""
_TABLES_FROM = 80
"""Columns of a terminal."""


def _shows_tables() -> bool:
    """Return whether help and errors are shown in tables: on a terminal that is wide enough for their cells."""
    return sys.stdout.isatty() and sys.stderr.isatty() and shutil.get_terminal_size().columns >= _TABLES_FROM


def _print_version(wanted: bool) -> None:
    if wanted:
        from spoke_jobs import __version__

        print_text(f"spoke-jobs {__version__}")
        raise typer.Exit


def _spoke_jobs(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Background jobs that an application can trust."""
    # Commands that do not configure logging print warnings by this handler.
    cast(logging.Handler, logging.lastResort).setFormatter(VisibleFormatter())


def called_with(arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the one command that the arguments name first, or with all if they name none.

    To import all commands and to build them, as typer does at each call, takes longer than most of them do.
    """
    program = typer.Typer(
        cls=CommandGroup,
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if _shows_tables() else None,  # else help and errors are plain
    )
    program.callback()(_spoke_jobs)
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    first = arguments[0] if arguments else ""
    for name in [first] if first in panels else panels:
        _add(name, program, panels[name])
    return program


def _add(name: str, program: typer.Typer, panel: str) -> None:
    module = import_module(f"spoke_jobs.cli.commands.{_MODULES.get(name, f'{name}_command')}")
    if name in _GROUPS:
        program.add_typer(module.app, name=name, rich_help_panel=panel)
    else:
        command = program.command(cls=Consequential if name in _CONSEQUENTIAL else PlainErrors, rich_help_panel=panel)
        command(getattr(module, name.replace("-", "_")))
