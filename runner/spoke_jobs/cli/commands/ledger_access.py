"""Open the ledger, and read a job's SpokeJob from the cluster."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from spoke_jobs.cli.explaining.reasons import CLUSTER
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.settings import Settings, load_settings

if TYPE_CHECKING:
    from spoke_jobs.cluster.cluster_view import ClusterView
    from spoke_jobs.model import JobRequest

_engines: list[Engine] = []


def open_ledger(settings: Settings | None = None) -> SqlLedger:
    """Open the ledger that the settings name.

    :raises SpokeJobsError: if it can't be used; the message names what is missing.
    """
    engine = create_engine((settings or load_settings()).database_url.get_secret_value())
    _engines.append(engine)
    check_schema(engine)
    return SqlLedger(engine)


def open_queries() -> tuple[SqlLedger, Queries]:
    """Open the ledger and the read-only queries (`why`, `show`, `logs`)."""
    ledger = open_ledger()
    return ledger, Queries(ledger.engine)


def close_engines() -> None:
    """Close the connections of this command. Otherwise the server logs broken connections."""
    while _engines:
        _engines.pop().dispose()


def cluster_view(job: JobRequest, *, around: bool = True) -> ClusterView | None:
    """Read a job's SpokeJob. None for a job of another runner, or if the Kubernetes client is not installed.

    :param around: also read the holder of its queue's lock, the operator's state, and how often its image was pulled.
    """
    if job.runner != CLUSTER or importlib.util.find_spec("kubernetes") is None:
        return None
    from spoke_jobs.cluster.spokejob_reads import read_cluster_view

    return read_cluster_view(job, load_settings().namespace, around=around)
