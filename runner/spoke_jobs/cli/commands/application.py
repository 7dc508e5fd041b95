"""Load the application, also from the working directory."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from spoke_jobs.cli.printing import print_note
from spoke_jobs.errors import ConfigurationError, SpokeJobsError
from spoke_jobs.shared import garbage_collection
from spoke_jobs.shared.log_setup import logs_json

if TYPE_CHECKING:
    from spoke_jobs.registry import Registry
    from spoke_jobs.settings import Settings

_IMPORTING = ("<frozen importlib", importlib.__file__, f"{Path(__file__).parents[2]}{os.sep}")
"""The files whose stack frames precede the application's own."""


def add_working_directory() -> None:
    """Put the working directory first on the Python path, as uvicorn, Celery and Alembic do.

    A command calls this just before it imports the application. Before that, a file there could hide a module that
    this package imports. ``python -m spoke_jobs`` has the directory on its path already.
    """
    try:
        here = str(Path.cwd())
    except FileNotFoundError:  # the directory was removed: there is nothing to import from
        return
    if not {here, ""} & set(sys.path):
        sys.path.insert(0, here)


def open_application(settings: Settings, *, with_traceback: bool = False) -> Registry:
    """Import the application that SPOKE_APP names.

    :param with_traceback: if the application's code raises, print its part of the traceback to standard error, unless
        this process logs in JSON.
    :raises ConfigurationError: for any failure. If the application's code raised it, the message has file and line.
    """
    from spoke_jobs.registry import load_app  # most commands import no application

    add_working_directory()
    try:
        with garbage_collection.paused():
            return load_app(settings.app)
    except SpokeJobsError:
        raise
    except (Exception, SystemExit) as error:
        if with_traceback and not logs_json():  # in JSON, the error's own line has the traceback
            print_note(_traceback_of_application(error).rstrip("\n"))
        file, line = _place(error)
        message = " ".join(str(error).split())[:500]
        raise ConfigurationError(
            f"SPOKE_APP={settings.app} can't be imported: {type(error).__name__}: {message} ({file}, line {line}): "
            f"{_way_out(error)}"
        ) from error


def _traceback_of_application(error: BaseException) -> str:
    """Format the traceback from the first frame of the application, without those of this package that import it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_IMPORTING):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _place(error: BaseException) -> tuple[str | None, int | None]:
    if isinstance(error, SyntaxError):  # no frame of the file that has it
        return error.filename, error.lineno
    place = traceback.extract_tb(error.__traceback__)[-1]
    return place.filename, place.lineno


def _way_out(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"install the package that has {error.name!r}, or correct the import"
    return "correct the application, or name another module"
