"""`sync`: create missing SpokeJobs, and copy their outcomes to the ledger."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.exits import fail, logs_errors
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.loader import check_runner
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection
from spoke_jobs.shared.log_setup import logs_json


@logs_errors
def sync(
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Serve /healthz on this port.")
    ] = None,
) -> None:
    """Create missing SpokeJobs and copy outcomes to the ledger, until SIGTERM.

    If several processes run, one is active and the others stand by.
    """
    try:
        with garbage_collection.paused():
            from spoke_jobs.sync.sync_process import run as run_sync
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs sync` needs the Python package {error.name!r}: pip install 'spoke-jobs[kubernetes]'")

    settings = load_settings()
    check_runner(settings)  # sync serves the rows of `kubernetes` whatever runner the application has chosen since
    registry = None
    if settings.app:
        try:
            registry = open_application(settings, with_traceback=True)
        except ConfigurationError as error:  # the jobs that are dispatched need no application here
            cause = error.__cause__ if logs_json() else None  # else its traceback is printed
            logging.getLogger(__name__).error("schedules are not dispatched: %s", error, exc_info=cause)  # noqa: TRY400
    run_sync(settings, health_port, registry)
