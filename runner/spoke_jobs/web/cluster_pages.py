"""The page *Cluster*: what works for jobs in their namespace. These functions block."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from spoke_jobs.explain.groups import groups
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.web import cluster_views
from spoke_jobs.web.answers import Answer, Asked, Page, Reading
from spoke_jobs.web.cluster_reads import ClusterReads, read_sync
from spoke_jobs.web.viewer import Viewer


class ClusterPages:
    """Reads a namespace, and what the ledger knows of sync. Both concern the jobs of all organizations."""

    def __init__(self, engine: Engine, queries: DashboardQueries, cluster: ClusterReads) -> None:
        self._engine = engine
        self._queries = queries
        self._cluster = cluster

    def routes(self) -> Iterable[Reading]:
        """Yield the requests that this answers."""
        yield Reading("/cluster", self._namespace, of_all=True)

    def _namespace(self, _viewer: Viewer, asked: Asked) -> Answer:
        namespace, waits = self._cluster.namespace()
        backlog = self._queries.launch_backlog()
        waiting = groups(Crowd(backlog.now.astimezone(asked.zone), 0.0), waits.waiting)
        view = cluster_views.cluster_page(namespace, waits, waiting, backlog, sync=read_sync(self._engine).active)
        return Page("cluster.html", {"title": "Cluster", "view": view}, live=True)
