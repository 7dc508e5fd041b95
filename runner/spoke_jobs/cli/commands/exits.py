"""How a command ends: its exit code, and one sentence on standard error instead of a traceback."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import typer
from sqlalchemy.exc import DBAPIError

from spoke_jobs.cli.commands.open_engines import close_engines
from spoke_jobs.cli.printing import print_error
from spoke_jobs.errors import SpokeJobsError
from spoke_jobs.ledger.engine import is_locked, is_not_allowed, reason_of
from spoke_jobs.shared.log_setup import configure_logging, logs_json

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_in_log: ContextVar[bool] = ContextVar("spoke_errors_in_log", default=False)
"""Whether an error that ends the command is logged, and not printed."""


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
    Exit.NOT_FOUND: "there is no such job or task",
    Exit.RESTART: "`tasks` has to be restarted, because tasks that hang occupy its slots",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
"""The meaning of each code, for `--help` and docs/reference/cli.md."""
LOCKED = (
    "another transaction has locked the row, perhaps one of the job itself: try again when it has ended, "
    "or end it (pg_blocking_pids() names it)"
)
"""The message for a row that stays locked."""
NOT_ALLOWED = (
    ". Commands that only read need the database role `reader`, those that change something `application`: "
    "docs/deploying.md#database-roles. After an upgrade, the roles need `spoke-jobs migrate --grants` again"
)
"""What to add to the message of a database that refuses a statement for lack of a privilege."""
EPILOG = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."


_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write to standard output may meet: it is a file on a full disk, or a terminal that is gone."""


def reports_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a command: report an expected error in one sentence, with its documented exit code."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except SpokeJobsError as error:
            fail(str(error), cause=error.__cause__)
        except DBAPIError as error:
            if is_locked(error):
                fail(LOCKED)
            roles = NOT_ALLOWED if is_not_allowed(error) else ""
            fail(f"the database returned an error: {reason_of(error)}{roles}")
        except BrokenPipeError:
            # The reader closed the pipe (`ls | head`). Python must not flush the rest of the buffer at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.DONE) from None
        except OSError as error:
            if error.errno not in _NOT_WRITTEN or error.filename is not None:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            text = f"the output could not be written ({error.strerror})"
            fail(f"{text}: the command ended there; what it has changed stays")
        finally:
            close_engines()

    return wrapped


def logs_errors(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap the command of a process, such as `worker`: as :func:`reports_errors`, but errors are lines of its log.

    Where the process logs in JSON, a collector of logs can thus read why it did not start.
    """

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        configure_logging()
        token = _in_log.set(logs_json())
        try:
            return reports_errors(command)(*args, **kwargs)
        except typer.BadParameter as error:
            if not _in_log.get():
                raise
            fail(str(error), Exit.USAGE)
        except Exception as error:
            if isinstance(error, typer.Exit) or not _in_log.get():
                raise
            logger.exception("unexpected error")
            raise typer.Exit(Exit.FAILED) from error
        finally:
            _in_log.reset(token)

    return wrapped


def fail(message: str, code: Exit = Exit.FAILED, cause: BaseException | None = None) -> NoReturn:
    """Print an error and exit.

    :param cause: the error behind it, whose traceback a log in JSON gets.
    """
    if _in_log.get():
        logger.error("%s", message, exc_info=cause)
    else:
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
