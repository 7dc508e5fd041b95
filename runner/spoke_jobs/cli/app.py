"""The commands. Each is a thin shell: read the settings, open the ledger, call the room that does the work.

Exit codes: 0 done; 1 it failed, and the message says what and how to mend it; 2 the command line itself is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from spoke_jobs.cli.tables import job_table
from spoke_jobs.errors import SpokeJobsError
from spoke_jobs.ledger.engine import check_schema, create_engine, shown
from spoke_jobs.ledger.sql import SqlLedger
from spoke_jobs.logs import configure_logging
from spoke_jobs.settings import Settings, load_settings

app = typer.Typer(
    help="Background jobs that an application can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _speaks_plainly(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """What is wrong with the set-up is said in a sentence, not in a traceback."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except SpokeJobsError as error:
            _fail(str(error))
        except DBAPIError as error:
            _fail(f"the database refuses: {str(error.orig).strip().partition(chr(10))[0]}")
        raise AssertionError("unreachable")

    return wrapped


def _fail(message: str) -> None:
    # As Text: a message may hold brackets, which rich would read as markup.
    Console(stderr=True).print(Text.assemble(("error:", "bold red"), " ", message), soft_wrap=True)
    raise typer.Exit(1)


def _open(settings: Settings) -> SqlLedger:
    engine = create_engine(settings.database_url.get_secret_value())
    check_schema(engine)
    return SqlLedger(engine)


@app.command()
@_speaks_plainly
def migrate() -> None:
    """Create or upgrade the ledger's tables in SPOKE_DATABASE_URL."""
    from spoke_jobs.ledger.migrations import migrate as run_migrations

    configure_logging()
    engine = create_engine(load_settings().database_url.get_secret_value())
    run_migrations(engine)
    print(f"the ledger in {shown(engine.url)} is up to date")


@app.command()
@_speaks_plainly
def check() -> None:
    """See that runner, application and database are as they must be; names what isn't."""
    from spoke_jobs.loader import load_runner
    from spoke_jobs.registry import load_app

    settings = load_settings()
    load_runner(settings)
    print(f"runner       {settings.job_runner}: configured")
    if settings.app:
        registry = load_app(settings.app)
        print(f"application  {settings.app}: {len(registry.jobs)} jobs, {len(registry.tasks)} tasks")
        for name in registry.jobs:
            print(f"             job   {name}")
        for name in registry.tasks:
            print(f"             task  {name}")
    ledger = _open(settings)
    print(f"ledger       {shown(ledger.engine.url)}: migrated")


@app.command()
@_speaks_plainly
def worker(
    processes: Annotated[int, typer.Option(min=1, max=256, help="`def` jobs at once, each in a process.")] = (
        os.cpu_count() or 1
    ),
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
    from spoke_jobs.runners.legacy import NAME
    from spoke_jobs.worker.process import run, types_of
    from spoke_jobs.worker.supervisor import WorkerOptions

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
    run(_open(settings), options, health_port=health_port, reload=reload)


@app.command()
@_speaks_plainly
def tasks() -> None:
    """Run tasks that dispatchers send over HTTP, until SIGTERM: the task deployment's process."""
    from spoke_jobs.registry import load_app

    try:
        from spoke_jobs.tasks.server import ServerOptions, serve
    except ModuleNotFoundError as error:
        _fail(f"`spoke-jobs tasks` needs the Python package {error.name!r}: pip install 'spoke-jobs[tasks]'")
        raise
    configure_logging()
    settings = load_settings()
    serve(
        load_app(settings.app),
        settings.tasks_key.get_secret_value(),
        ServerOptions(
            host=settings.tasks_host,
            port=settings.tasks_port,
            concurrency=settings.tasks_concurrency,
            queue_length=settings.tasks_queue,
            grace_seconds=settings.tasks_grace_seconds,
        ),
    )


@app.command()
@_speaks_plainly
def sync(
    health_port: Annotated[
        int | None, typer.Option(min=0, max=65535, envvar="SPOKE_HEALTH_PORT", help="Answer GET /healthz there.")
    ] = None,
) -> None:
    """Keep the ledger and the cluster's SpokeJobs in step, until SIGTERM. One is active; others stand by."""
    from spoke_jobs.sync.process import run as run_sync

    configure_logging()
    run_sync(load_settings(), health_port)


@app.command()
def run() -> None:
    """Run one attempt: the entrypoint of a job's pod, started by the operator."""
    from spoke_jobs.execution.pod import leave
    from spoke_jobs.execution.pod import run as run_pod

    configure_logging()
    leave(run_pod())


@app.command()
@_speaks_plainly
def ls(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs, the newest.")] = 20,
) -> None:
    """List the newest jobs."""
    ledger = _open(load_settings())
    console = Console()
    table = job_table(ledger.list_jobs(limit))
    if console.is_terminal:
        console.print(table)
    else:
        for row in zip(*(list(column.cells) for column in table.columns), strict=True):
            print("\t".join(str(cell) for cell in row))
