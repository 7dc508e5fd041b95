"""The list of commands. Each is a module of `commands`.

A call imports the module of the command that it names, not those of all commands. What a command does not always need
(rich, Alembic, a web server), its function imports.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NamedTuple, cast

import typer

from spoke_jobs.cli.commands.command_classes import CommandGroup, Consequential, PlainErrors
from spoke_jobs.cli.commands.exits import EPILOG
from spoke_jobs.cli.printing import print_text
from spoke_jobs.shared.log_setup import VisibleFormatter


class Listed(NamedTuple):
    """A command, and where it is."""

    name: str
    module: str = ""
    """Empty: ``NAME_command``."""
    is_group: bool = False
    """Whether it has commands of its own: the module's ``app``."""
    is_consequential: bool = False
    """See :class:`.Consequential`."""


PANELS: dict[str, tuple[Listed, ...]] = {
    "Set-up": (Listed("check"), Listed("migrate")),
    "Read jobs": tuple(map(Listed, ("ls", "stats", "sizes", "show", "why", "logs", "watch", "events"))),
    "Change jobs": (
        Listed("dispatch"),
        Listed("cancel", is_consequential=True),
        Listed("retry"),
        Listed("run-now", "start_commands"),
        Listed("priority", "start_commands"),
        Listed("suspend", "start_commands", is_consequential=True),
        Listed("prune", is_consequential=True),
        Listed("pause", "limits_command", is_consequential=True),
        Listed("resume", "limits_command"),
        Listed("batches", is_group=True),
        Listed("outbox", is_group=True),
        Listed("limits", is_group=True),
        Listed("schedules", is_group=True),
    ),
    "Run jobs and tasks (containers start these)": tuple(map(Listed, ("worker", "tasks", "sync", "run"))),
    "See jobs in a browser": (Listed("web"),),
    "Tell people about failed jobs": (Listed("notify"), Listed("mutes", is_group=True)),
}
"""The headings of `--help`, each with its commands."""
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


def build_program(arguments: Sequence[str]) -> typer.Typer:
    """Return the program with the one command that the arguments name first, or with all if they name none.

    Importing and building all commands takes longer than most commands run.
    """
    program = typer.Typer(
        cls=CommandGroup,
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if _shows_tables() else None,  # else help and errors are plain
    )
    program.callback()(_spoke_jobs)
    panels = {command: panel for panel, commands in PANELS.items() for command in commands}
    named = [command for command in panels if [command.name] == list(arguments[:1])]
    for command in () if list(arguments) == ["--version"] else named or panels:
        _add(command, program, panels[command])
    return program


def _add(listed: Listed, program: typer.Typer, panel: str) -> None:
    name = listed.name
    module = import_module(f"spoke_jobs.cli.commands.{listed.module or f'{name}_command'}")
    if listed.is_group:
        program.add_typer(module.app, name=name, rich_help_panel=panel)
    else:
        kind = Consequential if listed.is_consequential else PlainErrors
        program.command(cls=kind, rich_help_panel=panel)(getattr(module, name.replace("-", "_")))
