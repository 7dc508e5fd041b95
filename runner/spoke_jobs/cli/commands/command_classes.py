"""How the program and its commands read their arguments and print their help, where it differs from typer."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from spoke_jobs.shared.clean_text import visible

_NO_LIMIT = 10_000
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Click's UsageError. typer has its own copy of click, and does not export this class."""
_KINDS = {"int": "whole number", "float": "number", "str": "text"}


@contextmanager
def _visible_errors() -> Iterator[None]:
    """Print the control characters of a wrong argument as escapes, in the messages that typer makes and prints."""
    try:
        yield
    except _USAGE_ERROR as error:
        error.message = visible(error.message)
        raise


class PlainErrors(TyperCommand):
    """A command with usage errors in our own words. typer would print pydantic's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        :raises typer.BadParameter: naming the option, its value and what is expected.
        """
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise typer.BadParameter(_plain(error.param, error.__cause__), ctx=error.ctx, param=error.param) from None


class Consequential(PlainErrors):
    """A command that ends, deletes or holds something. It is not suggested for a mistyped one.

    A suggestion is easily typed without a thought, and what such a command does is not easily undone.
    """


class CommandGroup(TyperGroup):
    """The program. Its plain help has the whole first sentence of each command, on as many lines as that takes."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the program's own options and the command's name."""
        with _visible_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's arguments and run it."""
        with _visible_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name. For a mistyped one, suggest others, but no consequential one."""
        self.suggest_commands = False  # typer's own suggestions
        try:
            return super().resolve_command(ctx, args)
        except _USAGE_ERROR as error:
            harmless = [name for name, command in self.commands.items() if not isinstance(command, Consequential)]
            close = difflib.get_close_matches(args[0], harmless)
            if close:
                error.message = f"{error.message.rstrip('.')}. Did you mean {' or '.join(map(repr, close))}?"
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        rows = [(name, command.get_short_help_str(_NO_LIMIT)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def value_kind(param: Any) -> str:
    """Return what kind of value a parameter takes: ``whole number from 1 to 10,000``."""
    kind = _KINDS[param.bare_type()]
    limits = [
        f"from {param.min:,}" if param.min is not None else "",
        f"to {param.max:,}" if param.max is not None else "",
    ]
    return " ".join(filter(None, (kind, *limits)))


def _plain(param: Any, error: ValidationError) -> str:
    item = error.errors()[0]
    own: Any = item.get("ctx", {}).get("error")
    if isinstance(own, ValidationError):  # the error of one of several values
        return _plain(param, own)
    if own is not None:  # a parser's own message
        return str(own).rstrip(".")
    return f"{_quoted(item['input'])} is not a {value_kind(param)}"


def _quoted(value: object) -> str:
    return ", ".join(map(repr, value)) if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
