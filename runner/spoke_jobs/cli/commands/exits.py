"""How a command ends: its exit code, and what is wrong in a sentence rather than in a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import typer
from sqlalchemy.exc import DBAPIError

from spoke_jobs.cli.commands.opening import close
from spoke_jobs.errors import SpokeJobsError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Exit(IntEnum):
    """The exit codes of every command but `run`, whose codes are the operator's (contract/termination.py)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    RESTART = 75
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "it failed or was refused, or a watched job failed: the message names what is wrong and the way out",
    Exit.USAGE: "the command line itself is wrong",
    Exit.NOT_FOUND: "there is no such job",
    Exit.RESTART: "`tasks` lost slots to tasks that hang, and is to be started anew",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
"""What `--help` and docs/reference/cli.md say of them."""
EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


def speaks_plainly(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """A command whose expected faults are said in a sentence, with the exit code that is documented for them."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except SpokeJobsError as error:
            fail(str(error))
        except DBAPIError as error:
            fail(f"the database refuses: {str(error.orig).strip().partition(chr(10))[0]}")
        except BrokenPipeError:
            # `ls | head`: whoever read has enough. What is still buffered must not be tried again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.DONE) from None
        finally:
            close()

    return wrapped


def say_wrong(message: str) -> None:
    """Name what is wrong, on standard error."""
    word = typer.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"
    typer.echo(f"{word} {message}", err=True)


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Name what is wrong and end."""
    say_wrong(message)
    raise typer.Exit(code)


def wrong_usage(message: str) -> NoReturn:
    """Refuse the command line as typer itself does."""
    raise typer.BadParameter(message)
