"""The page *Audit*: who changed what, and when. These functions block."""

from __future__ import annotations

from collections.abc import Iterable

from spoke_jobs.ledger.audit.audit_events import EventPage
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
        page = EventPage([], more=False, looked_down_to=None) if problem else self._queries.event_page(which, PER_PAGE)
        view = audit_views.event_list(page, self._queries.now(), which, given, viewer, problem)
        return Page("audit.html", {"title": "Audit", "view": view}, 400 if problem else 200, live=not problem)
