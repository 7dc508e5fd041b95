"""How a command ends: its exit code, and one sentence on standard error instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import typer
from sqlalchemy.exc import DBAPIError

from spoke_jobs.cli.commands.ledger_access import close_engines
from spoke_jobs.errors import SpokeJobsError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Exit(IntEnum):
    """The exit codes of every command except `run`, whose codes are in contract/termination.py."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    RESTART = 75
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "the command failed or was refused, or a watched job failed: the message says what to do",
    Exit.USAGE: "the command line is wrong",
    Exit.NOT_FOUND: "there is no such job",
    Exit.RESTART: "`tasks` has to be restarted, because tasks that hang occupy its slots",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
"""The meaning of each code, for `--help` and docs/reference/cli.md."""
EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


def reports_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a command: report an expected error in one sentence, with its documented exit code."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except SpokeJobsError as error:
            fail(str(error))
        except DBAPIError as error:
            fail(f"the database returned an error: {str(error.orig).strip().partition(chr(10))[0]}")
        except BrokenPipeError:
            # The reader closed the pipe (`ls | head`). Python must not flush the rest of the buffer at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.DONE) from None
        finally:
            close_engines()

    return wrapped


def print_error(message: str) -> None:
    """Print an error to standard error."""
    word = typer.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"
    typer.echo(f"{word} {message}", err=True)


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Print an error and exit."""
    print_error(message)
    raise typer.Exit(code)


def fail_not_found(job_id: int) -> NoReturn:
    """Exit because there is no such job."""
    fail(no_such_job(job_id), Exit.NOT_FOUND)


def no_such_job(job_id: int) -> str:
    """Return the message for a job that doesn't exist."""
    return f"there is no job {job_id}: it was pruned, or it is in another database"


def usage_error(message: str) -> NoReturn:
    """Report a mistake in the command line as typer does."""
    raise typer.BadParameter(message)
