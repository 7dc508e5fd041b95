"""Load the application, also from the working directory."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from spoke_jobs.errors import ConfigurationError, SpokeJobsError
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.settings import Settings


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


def load_application(settings: Settings) -> Registry:
    """Import the application that SPOKE_APP names. Exceptions of its own modules are not caught."""
    add_working_directory()
    return load_app(settings.app)


def open_application(settings: Settings) -> Registry:
    """Import the application that SPOKE_APP names.

    :raises ConfigurationError: for any failure. If the application's code raised it, the message has file and line.
    """
    try:
        return load_application(settings)
    except SpokeJobsError:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(str(error).split())[:500]
        raise ConfigurationError(
            f"SPOKE_APP={settings.app} can't be imported: {type(error).__name__}: {message} "
            f"({place.filename}, line {place.lineno})"
        ) from error
