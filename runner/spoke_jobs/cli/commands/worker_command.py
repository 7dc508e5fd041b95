"""`worker`: run the jobs of the runner `legacy`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from spoke_jobs.cli.commands.application import load_application
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.contract.log_setup import configure_logging
from spoke_jobs.settings import load_settings


@reports_errors
def worker(
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=256,
            help="How many `def` jobs run at once, each in a child process.",
            show_default="one per processor",
        ),
    ] = os.cpu_count() or 1,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="How many `async def` jobs run at once, on one event loop.")
    ] = 50,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="The largest number of jobs in one claim.")] = 16,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Exit when no job is due and none runs, even if jobs wait for their next attempt.",
        ),
    ] = False,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running jobs have to end after SIGTERM.")] = 30.0,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: restart when the application's code changes.")
    ] = False,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Serve /healthz and /metrics on this port."),
    ] = None,
) -> None:
    """Run the jobs of the runner `legacy` until SIGTERM. SIGHUP restarts it with the current code."""
    from spoke_jobs.runners.legacy_runner import NAME
    from spoke_jobs.worker.worker_options import WorkerOptions
    from spoke_jobs.worker.worker_process import run, types_of

    configure_logging()
    settings = load_settings()
    types, loop_types = types_of(load_application(settings))
    options = WorkerOptions(
        runner=NAME,
        types=types,
        loop_types=loop_types,
        processes=processes,
        concurrency=concurrency,
        batch=batch,
        lease_seconds=settings.lease_seconds,
        poll_seconds=settings.poll_seconds,
        grace_seconds=grace,
        drain=drain,
    )
    run(open_ledger(settings), options, health_port=health_port, reload=reload)
