"""The page *Audit*: who changed what, and when. These functions block."""

from __future__ import annotations

from collections.abc import Iterable

from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.web import audit_views
from spoke_jobs.web.answers import Answer, Asked, Page, Reading
from spoke_jobs.web.viewer import Viewer

PER_PAGE = 50


class AuditPages:
    """Reads events."""

    def __init__(self, queries: DashboardQueries) -> None:
        self._queries = queries

    def routes(self) -> Iterable[Reading]:
        """Yield the requests that this answers."""
        yield Reading("/audit", self._events)

    def _events(self, viewer: Viewer, asked: Asked) -> Answer:
        which, given, problem = audit_views.read_filter(asked.given, viewer)
        found = [] if problem else self._queries.events(PER_PAGE + 1, which)
        shown = found[:PER_PAGE]
        more, now = len(found) > len(shown), self._queries.now()
        view = audit_views.event_list(shown, now, which, given, viewer, more=more, problem=problem)
        return Page("audit.html", {"title": "Audit", "view": view}, 400 if problem else 200, live=not problem)
