"""`worker`: run the jobs of the runner `legacy`, or those of the lane `worker`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.exits import logs_errors, usage_error
from spoke_jobs.cli.commands.ledger_access import open_ledger
from spoke_jobs.contract.executors import CLUSTER_RUNNER, Lane, row_runner
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.execution.process_memory import can_measure
from spoke_jobs.loader import load_runner
from spoke_jobs.model import ClaimFilter
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection


@logs_errors
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
    job_type: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="PATTERN",
            help="Take only jobs of types that match ('sync_*'); may be repeated.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Take only jobs of queues that match; may be repeated.", show_default=False
        ),
    ] = None,
    exclude_type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave jobs of types that match to other workers; may be repeated.",
            show_default=False,
        ),
    ] = None,
    exclude_queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave jobs of queues that match to other workers; may be repeated.",
            show_default=False,
        ),
    ] = None,
    lane: Annotated[
        Lane | None,
        typer.Option(
            help="Run the jobs of this lane of the runner `kubernetes`: worker.", metavar="LANE", show_default=False
        ),
    ] = None,
    worker_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="With --lane worker: how long an attempt may run here before its job moves to a pod. The option "
            "`worker_seconds` of a job counts more.",
            show_default=False,
        ),
    ] = None,
    job_memory: Annotated[
        str,
        typer.Option(
            metavar="QUANTITY",
            help="How much memory each child process may have, for example 256Mi. An attempt that takes more is ended "
            "as OutOfMemory. Linux only.",
            show_default=False,
        ),
    ] = "",
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
    """Run jobs until SIGTERM: of the runner `legacy`, or with `--lane worker` of that lane of the runner `kubernetes`.

    SIGHUP restarts the worker with the current code.
    """
    with garbage_collection.paused():
        from spoke_jobs.runners.legacy_runner import NAME
        from spoke_jobs.worker.worker_options import WorkerOptions
        from spoke_jobs.worker.worker_process import declare_limits, run, types_of

    if lane is not None and lane is not Lane.WORKER:
        usage_error(
            f"--lane {lane}: the operator runs the jobs of this lane, in pods; a worker runs those of --lane worker"
        )
    if worker_seconds is not None and lane is None:
        usage_error("--worker-seconds needs --lane worker: under the runner legacy there are no pods to move to")
    job_memory_bytes = _bytes_of(job_memory)
    settings = load_settings()
    registry = open_application(settings, with_traceback=True)
    load_runner(settings, registry)  # jobs may dispatch: refuse to start if they could not
    only = ClaimFilter(
        types=tuple(job_type or ()),
        queues=tuple(queue or ()),
        not_types=tuple(exclude_type or ()),
        not_queues=tuple(exclude_queue or ()),
    )
    types, loop_types = types_of(registry)
    declared = types + loop_types
    # A prefix stays if the worker takes one of its types: the claim's own condition leaves out the others.
    types, loop_types = (tuple(filter(only.takes_some, names)) for names in (types, loop_types))
    if not types and not loop_types:
        usage_error(f"no declared type passes --type and --exclude-type (declared: {', '.join(declared)})")
    options = WorkerOptions(
        runner=row_runner(CLUSTER_RUNNER, lane) if lane is not None else NAME,
        types=types,
        loop_types=loop_types,
        processes=processes,
        concurrency=concurrency,
        batch=batch,
        lease_seconds=settings.lease_seconds,
        poll_seconds=settings.poll_seconds,
        grace_seconds=grace,
        prune_seconds=60.0 if settings.keeps_successes else 1.0,
        keep_output=settings.output != "none",
        worker_seconds=worker_seconds,
        job_memory_bytes=job_memory_bytes,
        drain=drain,
        only=only,
        declared_types=declared,
    )
    ledger = open_ledger(settings, prepares=True)
    declare_limits(ledger, registry, settings.app)
    # After a change to another runner, a worker may still run the jobs that were dispatched before. Under `kubernetes`,
    # sync dispatches the jobs of schedules.
    schedules = lane is None and settings.job_runner == NAME
    run(
        ledger,
        options,
        registry,
        health_port=health_port,
        reload=reload,
        schedules=schedules,
        organizations=settings.metrics_organizations,
    )


def _bytes_of(quantity: str) -> int | None:
    """Read the option `--job-memory`; None if it is not given."""
    if not quantity:
        return None
    amount = in_bytes(quantity)
    if amount is None or amount < 1:
        usage_error(f"--job-memory {quantity}: expected an amount of memory such as 256Mi")
    if not can_measure():
        usage_error("--job-memory needs /proc, which Linux has, to measure processes")
    return int(amount)
