"""The requests of the JSON API, and what they read. These functions block.

Each answers with the document that a command prints with `--json`, made by the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

from spoke_jobs.explain.json_output import Explained, Jobs, Shown
from spoke_jobs.explain.why import explain, is_explained_by_cluster
from spoke_jobs.ledger.reading.dashboard_queries import CAP, DashboardQueries
from spoke_jobs.model import JobRequest
from spoke_jobs.web import api_views
from spoke_jobs.web.answers import NARROWER, NOT_FOUND, PAYLOAD_LIMIT_BYTES, ApiReading, Asked, Document, Page, refusal
from spoke_jobs.web.cluster_reads import ClusterReads
from spoke_jobs.web.job_search import FILTERS, address, read_search
from spoke_jobs.web.query_values import YES_OR_NO, Parameter, number
from spoke_jobs.web.viewer import Viewer, shown_situation

PER_PAGE = 50
MOST_PER_PAGE = 100
LIMIT = Parameter("limit", number(1, MOST_PER_PAGE), "How many to list.", PER_PAGE)
BEFORE = Parameter("before", number(1), "Only those with lower ids: the next older ones.")
AFTER = Parameter("after", number(0), "Only those with higher ids: the next newer ones. `before` goes first.")
JOB_FILTERS = tuple(Parameter(name, each.kind, f"Only {each.selects}.") for name, each in FILTERS.items() if each.field)
PAYLOAD = Parameter(
    "payload", YES_OR_NO, f"Whether to have the payload; null if it is over {PAYLOAD_LIMIT_BYTES:,} bytes.", False
)
_NO_PAYLOADS = refusal("Not allowed", "You may not see payloads: leave out `payload`.", 403)


class ApiReads:
    """Reads what the JSON API answers with."""

    def __init__(self, queries: DashboardQueries, cluster: ClusterReads) -> None:
        self._queries = queries
        self._cluster = cluster

    def routes(self) -> Iterable[ApiReading]:
        """Yield the requests that this answers."""
        yield ApiReading(
            "/jobs",
            self._jobs,
            "ls",
            Jobs,
            "The newest jobs.",
            (*JOB_FILTERS, LIMIT, BEFORE, AFTER),
            too_slow=NARROWER,
        )
        yield ApiReading("/jobs/{job_id}", self._job, "show", Shown, "One job.", (PAYLOAD,))
        yield ApiReading(
            "/jobs/{job_id}/why", self._why, "why", Explained, "What a job waits for, how it runs, or why it ended."
        )

    def _jobs(self, viewer: Viewer, asked: Asked) -> Document | Page:
        search = read_search(asked.given)
        page = self._queries.page(viewer.narrowed(search.which), _limit(asked), search.place)
        return Document(
            api_views.listed_jobs(page.jobs, viewer),
            "" if page.newer is None else _list("/jobs", asked, after=page.newer),
            "" if page.older is None else _list("/jobs", asked, before=page.older),
        )

    def _job(self, viewer: Viewer, asked: Asked) -> Document | Page:
        payload = asked.given.get("payload") == "true"
        if payload and not viewer.may_see_payloads:
            return _NO_PAYLOADS
        job = self._found(viewer, asked, payload_bytes=PAYLOAD_LIMIT_BYTES if payload else 0)
        if job is None:
            return NOT_FOUND
        links = self._queries.links(job.id)
        needs = {link.needs_id for link in links}
        return Document(
            api_views.job_shown(
                job,
                self._queries.attempts(job.id),
                self._cluster.view(job, around=False),
                self._queries.reports(job.id),
                self._queries.saved(job.id),
                links,
                needs if viewer.sees_all else self._queries.selected_of(needs, viewer.narrowed()),
                viewer,
                with_payload=payload,
            )
        )

    def _why(self, viewer: Viewer, asked: Asked) -> Document | Page:
        job = self._found(viewer, asked)
        situation = self._queries.situation(job.id, CAP) if job is not None else None
        if job is None or situation is None:
            return NOT_FOUND
        asks = not job.state.final or is_explained_by_cluster(job)
        cluster = self._cluster.view(job, around=viewer.sees_all) if asks else None
        situation = shown_situation(replace(situation, now=situation.now.astimezone(UTC)), viewer)
        return Document(api_views.job_explained(situation.job, explain(situation, cluster), viewer))

    def _found(self, viewer: Viewer, asked: Asked, *, payload_bytes: int = 0) -> JobRequest | None:
        job_id = asked.id("job_id")
        if job_id is None:
            return None
        return self._queries.job(job_id, viewer.narrowed(), payload_bytes=payload_bytes)


def _limit(asked: Asked) -> int:
    return int(asked.given.get("limit", PER_PAGE))


def _list(path: str, asked: Asked, **place: Any) -> str:
    """Return the address of another part of a list."""
    given: Mapping[str, str] = {name: text for name, text in asked.given.items() if name not in ("before", "after")}
    return address(path, **given, **place)
