"""The page *Failures*: failed jobs, by cause and fingerprint. These functions block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spoke_jobs.explain.groups import groups
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.web import failure_views
from spoke_jobs.web.answers import Answer, Asked, Page, Reading
from spoke_jobs.web.failure_views import PERIOD, PERIODS, SHOWN
from spoke_jobs.web.viewer import Viewer, shown_group


class FailurePages:
    """Reads failures."""

    def __init__(self, queries: DashboardQueries) -> None:
        self._queries = queries

    def routes(self) -> Iterable[Reading]:
        """Yield the requests that this answers."""
        yield Reading("/failures", self._failures)

    def _failures(self, viewer: Viewer, asked: Asked) -> Answer:
        within = asked.given.get("within", PERIOD)
        period = within if within in PERIODS else PERIOD
        crowd = self._queries.failures(PERIODS[period][1], viewer.narrowed())
        local = replace(crowd, now=crowd.now.astimezone(asked.zone))
        found = [shown_group(group, viewer) for group in groups(local)]
        samples = {group.job_id for group in found[:SHOWN] if group.job_id is not None and viewer.may_see_output}
        view = failure_views.failure_list(found, self._queries.output_tails(samples), crowd.now, period, viewer)
        return Page("failures.html", {"title": "Failures", "view": view}, live=True)
