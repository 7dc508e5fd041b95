"""The commands: the long-lived processes here, the others in modules of their own, each a thin shell.

Start-up is paid at every call: what only one command needs is imported there (rich, Alembic, the worker, a web server).
Exit codes stand in `exits`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated

import typer

from spoke_jobs.cli.commands.changing import cancel, prune, retry
from spoke_jobs.cli.commands.dispatch_command import dispatch
from spoke_jobs.cli.commands.exits import EPILOG, Exit, fail, speaks_plainly
from spoke_jobs.cli.commands.logs_command import logs
from spoke_jobs.cli.commands.opening import open_ledger
from spoke_jobs.cli.commands.reading import ls, show, why
from spoke_jobs.cli.commands.setting_up import check, migrate
from spoke_jobs.cli.commands.watch_command import watch
from spoke_jobs.process.log_setup import configure_logging
from spoke_jobs.settings import load_settings

app = typer.Typer(
    help="Background jobs that an application can trust.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,  # else help and errors are plain
)
SET_UP, LOOK, CHANGE, PROCESSES = "Set-up", "Look", "Dispatch and change", "Processes, until SIGTERM"

for _panel, _commands in (
    (SET_UP, (check, migrate)),
    (LOOK, (ls, show, why, logs, watch)),
    (CHANGE, (dispatch, cancel, retry, prune)),
):
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


@app.command(rich_help_panel=PROCESSES)
@speaks_plainly
def worker(
    processes: Annotated[
        int,
        typer.Option(min=1, max=256, help="`def` jobs at once, each in a process.", show_default="one a processor"),
    ] = os.cpu_count() or 1,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, help="`async def` jobs at once, together on an event loop.")
    ] = 50,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="How many jobs one claim takes at most.")] = 16,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is due and nothing runs.")] = False,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running jobs have after SIGTERM.")] = 30.0,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: start anew when the application's code changes.")
    ] = False,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Answer GET /healthz and /metrics there."),
    ] = None,
) -> None:
    """Run the jobs of the legacy runner until SIGTERM; SIGHUP starts it anew, with the code as it is then."""
    from spoke_jobs.registry import load_app
    from spoke_jobs.runners.legacy_runner import NAME
    from spoke_jobs.worker.worker_options import WorkerOptions
    from spoke_jobs.worker.worker_process import run, types_of

    configure_logging()
    settings = load_settings()
    types, loop_types = types_of(load_app(settings.app))
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


@app.command(rich_help_panel=PROCESSES)
@speaks_plainly
def tasks() -> None:
    """Run tasks that are sent over HTTP, and those of the outbox, until SIGTERM: the task deployment's process."""
    # A container's first process ignores what it doesn't handle. Until the server has its own handler nothing is lost.
    # (It raises a second signal again when it has stopped, by the handler that it found: then there is much to lose.)
    served = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: None if served.is_set() else os._exit(143))
    from spoke_jobs import dispatch
    from spoke_jobs.execution.pod import leave
    from spoke_jobs.registry import load_app

    try:
        from spoke_jobs.tasks.server.auth import callers_of
        from spoke_jobs.tasks.server.serve import ServerOptions, serve
    except ModuleNotFoundError as error:
        fail(f"`spoke-jobs tasks` needs the Python package {error.name!r}: pip install 'spoke-jobs[tasks]'")
    configure_logging()
    settings = load_settings()
    in_order = serve(
        load_app(settings.app),
        callers_of(settings),
        ServerOptions(
            host=settings.tasks_host,
            port=settings.tasks_port,
            concurrency=settings.tasks_concurrency,
            queue_length=settings.tasks_queue,
            grace_seconds=settings.tasks_grace_seconds,
            hung_seconds=settings.tasks_hung_seconds,
            database_url=settings.database_url.get_secret_value(),
            lease_seconds=settings.lease_seconds,
            poll_seconds=settings.poll_seconds,
        ),
        on_begin=served.set,
    )
    signal.signal(signal.SIGTERM, before)
    leave(Exit.DONE if in_order else Exit.RESTART, dispatch.close)  # whatever threads a task has left behind


@app.command(rich_help_panel=PROCESSES)
@speaks_plainly
def sync(
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Answer GET /healthz there.")
    ] = None,
) -> None:
    """Keep the ledger and the cluster's SpokeJobs in step, until SIGTERM. One is active; others stand by."""
    from spoke_jobs.sync.sync_process import run as run_sync

    configure_logging()
    run_sync(load_settings(), health_port)


@app.command(rich_help_panel=PROCESSES)
def run() -> None:
    """Run one attempt: the entrypoint of a job's pod, started by the operator."""
    from spoke_jobs import dispatch
    from spoke_jobs.execution.pod import leave
    from spoke_jobs.execution.pod import run as run_pod

    configure_logging()
    leave(run_pod(), dispatch.close)
