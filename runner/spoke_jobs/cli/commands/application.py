"""Load the application, from the working directory too."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from spoke_jobs.errors import ConfigurationError, SpokeJobsError
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.settings import Settings


def add_working_directory() -> None:
    """Put the working directory first on the Python path, as uvicorn, Celery and Alembic do.

    A command calls this just before it imports the application, so that a file of the working directory hides no module
    that the command line imports first. ``python -m spoke_jobs`` has the directory on its path already.
    """
    try:
        here = str(Path.cwd())
    except FileNotFoundError:  # the directory was removed: there is nothing to import from
        return
    if not {here, ""} & set(sys.path):
        sys.path.insert(0, here)


def load_application(settings: Settings) -> Registry:
    """Import what SPOKE_APP names. An exception of the application's own modules is passed on."""
    add_working_directory()
    return load_app(settings.app)


def open_application(settings: Settings) -> Registry:
    """Import what SPOKE_APP names.

    :raises ConfigurationError: for any failure; for an exception of the application's modules, with file and line.
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
