"""Open the ledger, and read a job's SpokeJob from the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from spoke_jobs.cli.commands import open_engines
from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.filter_options import check_filters
from spoke_jobs.cluster.installed_reads import view_of, waits_in
from spoke_jobs.errors import SpokeJobsError
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import ANY_JOB
from spoke_jobs.settings import Settings, load_settings
from spoke_jobs.shared import garbage_collection

if TYPE_CHECKING:
    from spoke_jobs.cluster.cluster_view import ClusterView, SpokeJobWaits
    from spoke_jobs.ledger.sql_ledger import SqlLedger
    from spoke_jobs.model import JobFilter, JobRequest
    from spoke_jobs.registry import Registry

NEWEST = 1000
"""How many of the newest jobs are read to find names that resemble a mistyped one."""


def open_engine(settings: Settings | None = None, *, prepares: bool = False) -> Engine:
    """Make an engine of the database that the settings name. It is closed at the command's end.

    :param prepares: see :func:`spoke_jobs.ledger.engine.create_engine`.
    """
    engine = create_engine((settings or load_settings()).database, prepares=prepares)
    open_engines.engines.append(engine)
    return engine


def open_ledger(settings: Settings | None = None, *, prepares: bool = False) -> SqlLedger:
    """Open the ledger that the settings name.

    :param prepares: see :func:`spoke_jobs.ledger.engine.create_engine`.
    :raises SpokeJobsError: if it can't be used; the message names what is missing.
    """
    with garbage_collection.paused():  # slow to import; commands that only read do not need it
        from spoke_jobs.ledger.sql.lock_patience import LockPatience
        from spoke_jobs.ledger.sql_ledger import SqlLedger

    engine = open_engine(settings, prepares=prepares)
    check_schema(engine)
    ledger = SqlLedger(engine, patience=LockPatience())
    open_engines.ledgers.append(ledger)
    return ledger


def open_queries() -> Queries:
    """Open the database that the settings name, to read it (`why`, `ls`, `logs`).

    :raises SpokeJobsError: if it can't be used; the message names what is missing.
    """
    engine = open_engine()
    check_schema(engine)
    return Queries(engine)


def refuse_unknown_names(queries: Queries, which: JobFilter) -> None:
    """Refuse a type, a queue, a batch, a cause or a fingerprint that neither the ledger nor the application has.

    The application is imported only if SPOKE_APP names one, and only for a type that no row has.

    :raises typer.BadParameter: with the closest names.
    """
    check_filters(which, lambda which: bool(queries.selected(which, 1)), lambda: known_types(queries))


def known_types(queries: Queries) -> set[str]:
    """Return the types of the newest jobs, and those that the application declares, if SPOKE_APP names one."""
    return newest_types(queries) | declared_names(lambda app: app.jobs)


def declared_names(of: Callable[[Registry], Iterable[str]]) -> set[str]:
    """Return names that the application declares; none without SPOKE_APP, or if it can't be imported."""
    settings = load_settings()
    if settings.app:
        with suppress(SpokeJobsError):
            return set(of(open_application(settings)))
    return set()


def newest_types(queries: Queries) -> set[str]:
    """Return the types of the newest jobs."""
    return {job.job_type for job in queries.selected(ANY_JOB, NEWEST)}


def spokejob_waits() -> SpokeJobWaits:
    """Read what the SpokeJobs of the namespace wait for."""
    return waits_in(load_settings().namespace)


def cluster_view(job: JobRequest, *, around: bool = True) -> ClusterView | None:
    """Read a job's SpokeJob. None for a job of another runner, or if the Kubernetes client is not installed.

    :param around: also read the holder of the queue's lock, the operator's state, and how often the image was pulled.
    """
    return view_of(job, load_settings().namespace, around=around)
