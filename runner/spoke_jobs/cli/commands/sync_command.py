"""`sync`: create missing SpokeJobs, and copy their outcomes to the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from spoke_jobs.cli.commands.exits import fail, reports_errors
from spoke_jobs.contract.log_setup import configure_logging
from spoke_jobs.settings import load_settings


@reports_errors
def sync(
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Serve /healthz on this port.")
    ] = None,
) -> None:
    """Create missing SpokeJobs and copy outcomes to the ledger, until SIGTERM.

    If several processes run, one is active and the others stand by.
    """
    try:
        from spoke_jobs.sync.sync_process import run as run_sync
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs sync` needs the Python package {error.name!r}: pip install 'spoke-jobs[kubernetes]'")

    configure_logging()
    run_sync(load_settings(), health_port)
