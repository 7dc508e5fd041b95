"""The requests of the JSON API, and what they read. These functions block.

Each answers with the document that a command prints with `--json`, made by the same function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.explain.counts_json import Batches, BatchState, Events, LimitList
from spoke_jobs.explain.groups import groups, has_spokejobs, unread
from spoke_jobs.explain.groups_json import ReasonGroups
from spoke_jobs.explain.json_output import Explained, Jobs, Shown
from spoke_jobs.explain.mutes_json import Mutes
from spoke_jobs.explain.schedules_json import Schedules
from spoke_jobs.explain.why import explain, is_explained_by_cluster
from spoke_jobs.ledger.audit.audit_events import Action, EventFilter
from spoke_jobs.ledger.job_batch import BatchFilter
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.dashboard_queries import AHEAD, GROUPED, SCHEDULES_LOOKED_THROUGH, DashboardQueries
from spoke_jobs.ledger.reading.listing_plan import Place
from spoke_jobs.ledger.schedules.schedule_rows import SMALL_DEFINITION_BYTES
from spoke_jobs.model import JobFilter, JobRequest
from spoke_jobs.web import api_views
from spoke_jobs.web.answers import (
    NARROWER,
    NO_SUCH_BATCH,
    NOT_FOUND,
    PAYLOAD_LIMIT_BYTES,
    ApiReading,
    Asked,
    Document,
    Page,
    refusal,
)
from spoke_jobs.web.cluster_reads import ClusterReads
from spoke_jobs.web.failure_pages import MUTES_SHOWN, PERIOD, SHOWN
from spoke_jobs.web.job_search import FILTERS, address
from spoke_jobs.web.overview_views import GROUPS_SHOWN
from spoke_jobs.web.query_values import MOMENT, TEXT, YES_OR_NO, Parameter, number, one_of, values_of
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
WITHIN = Parameter("within", one_of(PERIODS), "How long ago a job may have failed.", PERIOD)
NAME = Parameter(
    "name",
    TEXT,
    "Only the schedule with this name. Its `definition` has no `payload` if it takes over "
    f"{PAYLOAD_LIMIT_BYTES:,} bytes; in the list, if it takes over {SMALL_DEFINITION_BYTES:,}.",
)
AFTER_NAME = Parameter(
    "after", TEXT, "Only schedules after this name: the next ones. Not with `name`.", not_with="name"
)
BATCH_FILTERS = (
    Parameter("name", TEXT, "Only batches of this name, or of all that match a pattern (`import*`)."),
    Parameter("since", MOMENT, "Only batches opened since then."),
    Parameter("until", MOMENT, "Only batches opened before then."),
)
EVENT_FILTERS = (
    Parameter("job", number(1), "Only events of this job."),
    Parameter("action", one_of(Action), "Only this action."),
    Parameter("by", TEXT, "Only what this user did, or all that match a pattern (`ada@*`)."),
    Parameter("type", TEXT, "Only events of jobs of this type, or of all that match a pattern."),
    Parameter("since", MOMENT, "Only events since then."),
    Parameter("until", MOMENT, "Only events before then."),
)
_EVENT_FIELDS = {"job": "job_id", "by": "actor", "type": "job_type"}
SCHEDULE_LOOKS = 10
"""How often schedules are looked through, until there is one that the viewer may see."""
_TOO_MANY_SCHEDULES = refusal(
    "Too many schedules",
    f"You may see none of the next {SCHEDULE_LOOKS * SCHEDULES_LOOKED_THROUGH:,} schedules by name, and there may be "
    "more. Ask for one by `name`, or for those after another name with `after`.",
    503,
)
_NO_BATCH = refusal("Not found", NO_SUCH_BATCH, 404)
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
        yield ApiReading(
            "/why",
            self._groups,
            "why",
            ReasonGroups,
            f"What jobs wait for and why they failed: the {GROUPS_SHOWN} largest groups of each, of {GROUPED:,} jobs.",
            (WITHIN,),
        )
        yield ApiReading(
            "/failures",
            self._failures,
            "why",
            ReasonGroups,
            f"Why jobs failed: the {SHOWN} largest groups of {GROUPED:,} jobs, without schedules.",
            (WITHIN,),
        )
        yield ApiReading("/limits", self._limits, "limits ls", LimitList, "Limits, rates and pauses.", of_all=True)
        yield ApiReading(
            "/schedules",
            self._schedules,
            "schedules ls",
            Schedules,
            "The schedules, by name.",
            (NAME, LIMIT, AFTER_NAME),
        )
        yield ApiReading(
            "/batches", self._batches, "batches ls", Batches, "The newest batches.", (*BATCH_FILTERS, LIMIT, BEFORE)
        )
        yield ApiReading("/batches/{batch_id}", self._batch, "batches show", BatchState, "One batch.")
        yield ApiReading(
            "/events",
            self._events,
            "events",
            Events,
            "Who did what, the newest first.",
            (*EVENT_FILTERS, LIMIT, BEFORE),
        )
        yield ApiReading(
            "/mutes",
            self._mutes,
            "mutes ls",
            Mutes,
            f"About which failures no notices are sent: the newest {MUTES_SHOWN} mutes.",
            of_all=True,
        )

    def _jobs(self, viewer: Viewer, asked: Asked) -> Document | Page:
        page = self._queries.page(viewer.narrowed(_job_filter(asked)), _limit(asked), _place(asked))
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
        return Document(
            api_views.job_shown(
                job,
                self._queries.attempts(job.id),
                self._cluster.view(job, around=False),
                self._queries.reports(job.id),
                self._queries.saved(job.id),
                links,
                self._visible({link.needs_id for link in links}, viewer),
                viewer,
                with_payload=payload,
            )
        )

    def _why(self, viewer: Viewer, asked: Asked) -> Document | Page:
        job = self._found(viewer, asked)
        situation = self._queries.situation(job.id, AHEAD) if job is not None else None
        if job is None or situation is None:
            return NOT_FOUND
        asks = not job.state.final or is_explained_by_cluster(job)
        cluster = self._cluster.view(job, around=viewer.sees_all and not job.state.final) if asks else None
        situation = shown_situation(replace(situation, now=situation.now.astimezone(UTC)), viewer)
        return Document(api_views.job_explained(situation.job, explain(situation, cluster), viewer))

    def _groups(self, viewer: Viewer, asked: Asked) -> Document | Page:
        seconds = _period_seconds(asked)
        crowd = self._queries.crowd(seconds, viewer.narrowed(), GROUPED, GROUPS_SHOWN)
        crowd = replace(crowd, now=crowd.now.astimezone(UTC))
        waits = self._cluster.waits() if viewer.sees_all and has_spokejobs(crowd) else SpokeJobWaits()
        found = groups(crowd, waits.waiting, GROUPS_SHOWN)
        troubled = self._queries.perhaps_troubled(viewer.organizations)
        return Document(api_views.grouped(found, seconds, troubled, viewer, unread(waits)))

    def _failures(self, viewer: Viewer, asked: Asked) -> Document | Page:
        seconds = _period_seconds(asked)
        crowd = self._queries.failures(seconds, viewer.narrowed(), SHOWN)
        found = groups(replace(crowd, now=crowd.now.astimezone(UTC)), most=SHOWN)
        return Document(api_views.grouped(found, seconds, (), viewer))

    def _limits(self, _viewer: Viewer, _asked: Asked) -> Document | Page:
        return Document(LimitList.of(self._queries.limits()))

    def _schedules(self, viewer: Viewer, asked: Asked) -> Document | Page:
        name = asked.given.get("name")
        if name is not None:
            page = self._queries.schedule(name, viewer.organizations)
        else:
            page = self._queries.schedules(
                asked.given.get("after", ""), _limit(asked), viewer.organizations, most_looks=SCHEDULE_LOOKS
            )
            if not page.rows and not page.looked_through:
                return _TOO_MANY_SCHEDULES
        visible = self._visible({row.last_job_id for row in page.rows}, viewer)
        goes_on = page.more or (page.rows and not page.looked_through)  # the next look begins at the last one of these
        return Document(
            api_views.listed_schedules(page, visible, viewer),
            older=_list("/schedules", asked, after=page.rows[-1].name) if goes_on else "",
        )

    def _batches(self, viewer: Viewer, asked: Asked) -> Document | Page:
        which = BatchFilter(**values_of((*BATCH_FILTERS, BEFORE), asked.given), organizations=viewer.organizations)
        page = self._queries.batches(which, _limit(asked))
        before = page.batches[-1].id if page.more else page.looked_down_to
        return Document(
            api_views.listed_batches(page.batches, self._visible({batch.then_id for batch in page.batches}, viewer)),
            older="" if before is None else _list("/batches", asked, before=before),
        )

    def _batch(self, viewer: Viewer, asked: Asked) -> Document | Page:
        batch_id = asked.id("batch_id")
        which = BatchFilter(id=batch_id, organizations=viewer.organizations)
        found = self._queries.batches(which, 1).batches if batch_id is not None else ()
        if not found:
            return _NO_BATCH
        return Document(api_views.shown_batch(found[0], self._visible({found[0].then_id}, viewer)))

    def _visible(self, ids: Collection[int | None], viewer: Viewer) -> set[int]:
        """Return the ids of the jobs that the viewer may see. Some may have been pruned."""
        known = {each for each in ids if each is not None}
        return known if viewer.sees_all else self._queries.selected_of(known, viewer.narrowed())

    def _events(self, viewer: Viewer, asked: Asked) -> Document | Page:
        given = values_of((*EVENT_FILTERS, BEFORE), asked.given)
        fields = {_EVENT_FIELDS.get(name, name): value for name, value in given.items()}
        page = self._queries.event_page(EventFilter(**fields, organizations=viewer.organizations), _limit(asked))
        before = page.events[-1].id if page.more else page.looked_down_to
        return Document(
            api_views.listed_events(page.events, viewer),
            older="" if before is None else _list("/events", asked, before=before),
        )

    def _mutes(self, _viewer: Viewer, _asked: Asked) -> Document | Page:
        return Document(Mutes.of(self._queries.mutes(MUTES_SHOWN)))

    def _found(self, viewer: Viewer, asked: Asked, *, payload_bytes: int = 0) -> JobRequest | None:
        job_id = asked.id("job_id")
        if job_id is None:
            return None
        return self._queries.job(job_id, viewer.narrowed(), payload_bytes=payload_bytes)


def _period_seconds(asked: Asked) -> float:
    return PERIODS[asked.given.get("within", PERIOD)].seconds


def _limit(asked: Asked) -> int:
    return int(asked.given.get("limit", PER_PAGE))


def _job_filter(asked: Asked) -> JobFilter:
    """Return the filter of jobs. Unlike that of the page's form, its texts are taken as they are, with spaces."""
    given = {FILTERS[name].field: value for name, value in values_of(JOB_FILTERS, asked.given).items()}
    if (state := given.pop("states")) is not None:
        given["states"] = (state,)
    return JobFilter(**{field: value for field, value in given.items() if value is not None})


def _place(asked: Asked) -> Place:
    before, after = values_of((BEFORE, AFTER), asked.given).values()
    return Place(before, after if before is None else None)


def _list(path: str, asked: Asked, **place: Any) -> str:
    """Return the address of another part of a list."""
    given: Mapping[str, str] = {name: text for name, text in asked.given.items() if name not in ("before", "after")}
    return address(path, **given, **place)
