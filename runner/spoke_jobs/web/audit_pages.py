"""The page *Audit*: who changed what, and when. These functions block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.audit_events import (
    LOOKED_THROUGH,
    LOOKED_THROUGH_FOR_SOME,
    Action,
    Event,
    EventFilter,
    EventPage,
)
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.web.answers import Answer, Asked, Page, Reading
from spoke_jobs.web.job_search import address
from spoke_jobs.web.query_values import texts_of, whole_number
from spoke_jobs.web.view_parts import Listing, When
from spoke_jobs.web.viewer import Viewer, shown_event

FILTERS = ("action", "by", "type", "job")
"""The names of the filters in the address."""


@dataclass(frozen=True, slots=True)
class EventItem:
    """An event."""

    at: When
    by: str
    action: str
    job_id: int | None
    job_type: str
    detail: str


def read_filter(query: Mapping[str, str], viewer: Viewer) -> tuple[EventFilter, Mapping[str, str], str]:
    """Read the filters of an address. Return them, as they were given, too, and what is wrong with one of them."""
    given, problem = texts_of(FILTERS, query)
    job_id = whole_number(given["job"], 1, LARGEST_ID) if "job" in given else None
    if "job" in given and job_id is None:
        problem = "Give the job's id: a whole number from 1."
    which = EventFilter(
        job_id,
        given.get("action"),
        given.get("by"),
        given.get("type"),
        before=whole_number(query.get("before", ""), 1, LARGEST_ID),
        organizations=viewer.organizations,
    )
    return which, given, problem


def event_list(
    page: EventPage, now: datetime, which: EventFilter, given: Mapping[str, str], viewer: Viewer, problem: str = ""
) -> Listing:
    """Describe events, newest first."""
    before = page.events[-1].id if page.more else page.looked_down_to
    most = LOOKED_THROUGH if viewer.sees_all else LOOKED_THROUGH_FOR_SOME
    return Listing(
        tuple(_item(event, now, viewer) for event in page.events),
        given,
        address("/audit", **given) if which.before is not None else "",
        address("/audit", **given, before=before) if before is not None else "",
        f"{most:,} events were looked through for this page. Older ones may be listed, too."
        if page.looked_down_to is not None and not page.more
        else "",
        problem,
    )


def _item(event: Event, now: datetime, viewer: Viewer) -> EventItem:
    return EventItem(
        When.of(event.at, now),
        line(event.actor) or "unknown",
        line(event.action),
        event.job_id,
        line(event.job_type),
        line(shown_event(event, viewer).detail),
    )


PER_PAGE = 50


class AuditPages:
    """Reads events."""

    def __init__(self, queries: DashboardQueries) -> None:
        self._queries = queries

    def routes(self) -> Iterable[Reading]:
        """Yield the requests that this answers."""
        yield Reading("/audit", self._events)

    def _events(self, viewer: Viewer, asked: Asked) -> Answer:
        which, given, problem = read_filter(asked.given, viewer)
        page = EventPage([], more=False, looked_down_to=None) if problem else self._queries.event_page(which, PER_PAGE)
        view = event_list(page, self._queries.now(), which, given, viewer, problem)
        return Page(
            "audit.html",
            {"title": "Audit", "view": view, "actions": [*Action]},
            400 if problem else 200,
            live=not problem,
        )
