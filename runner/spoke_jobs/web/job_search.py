"""Read the filters of the list of jobs from an address, and write addresses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from urllib.parse import quote, unquote, urlencode

from spoke_jobs.contract.executors import LANES
from spoke_jobs.contract.option_checks import LARGEST_ID, LARGEST_NUMBER
from spoke_jobs.ledger.reading.listing_plan import NEWEST, Place
from spoke_jobs.model import ANY_JOB, JobFilter, JobState
from spoke_jobs.web.query_values import MOMENT, TEXT, ValueKind, member_of, number, one_of, whole_number


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """A filter of the list of jobs."""

    label: str
    """What people call it."""
    kind: ValueKind
    selects: str
    """The jobs that it selects, as in ``jobs of this type``."""
    field: str = ""
    """The field of :class:`JobFilter`; empty for the filter that leads to one job."""


FILTERS: Mapping[str, SearchFilter] = {
    "state": SearchFilter("State", member_of(JobState), "jobs in this state", "states"),
    "type": SearchFilter("Type", TEXT, "jobs of this type, or of all that match a pattern (`sync_*`)", "job_type"),
    "queue": SearchFilter("Queue", TEXT, "jobs of this queue, or of all that match a pattern", "queue_name"),
    "organization": SearchFilter(
        "Organization", number(0, LARGEST_NUMBER), "jobs of this organization", "organization_id"
    ),
    "batch": SearchFilter("Batch", number(1), "jobs of this batch", "batch_id"),
    "lane": SearchFilter("Lane", one_of(LANES), "jobs of this lane", "lane"),
    "cause": SearchFilter("Cause", TEXT, "jobs with this cause", "cause"),
    "key": SearchFilter("Unique key", TEXT, "jobs with this unique key", "unique_key"),
    "fingerprint": SearchFilter(
        "Fingerprint", TEXT, "jobs that failed with this exception at this place", "fingerprint"
    ),
    "schedule": SearchFilter("Schedule", TEXT, "jobs of this schedule", "schedule"),
    "since": SearchFilter("Dispatched since", MOMENT, "jobs dispatched since then", "since"),
    "until": SearchFilter("Dispatched before", MOMENT, "jobs dispatched before then", "until"),
    "id": SearchFilter("Id", number(1), "the job with this id"),
}
"""By their names in an address."""


@dataclass(frozen=True, slots=True)
class JobSearch:
    """What somebody searches for."""

    which: JobFilter = ANY_JOB
    place: Place = NEWEST
    job_id: int | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    """The filters as they were given, by their names in the address."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with a filter, by its name."""
    local: Mapping[str, str] = field(default_factory=dict)
    """The times in the reader's zone, as fields show them, by the filters' names."""


def read_search(query: Mapping[str, str], zone: tzinfo = UTC) -> JobSearch:
    """Read the filters of an address. Any text is valid input.

    :param zone: the reader's, in which a form gives times. In other addresses they are in UTC.
    """
    given = {name: text for name in FILTERS if (text := query.get(name, "").strip())}
    values = {name: FILTERS[name].kind.read(text, zone) for name, text in given.items()}
    problems = {name: FILTERS[name].kind.problem for name, value in values.items() if value is None}
    if isinstance(state := values.get("state"), JobState):
        values["state"] = (state,)
    times = {name: time for name, time in values.items() if isinstance(time, datetime)}
    given |= {name: f"{_minutes(time)}Z" for name, time in times.items()}
    local = {name: _minutes(time.astimezone(zone)) for name, time in times.items()}
    job_id = values.pop("id", None)
    which = JobFilter(**{FILTERS[name].field: value for name, value in values.items()})
    place = Place(
        whole_number(query.get("before", ""), 1, LARGEST_ID), whole_number(query.get("after", ""), 0, LARGEST_ID)
    )
    if place.before is not None and place.after is not None:
        place = Place(place.before)
    return JobSearch(which, place, job_id, given, problems, local)


def _minutes(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="minutes")


def address(path: str, **query: object) -> str:
    """Write an address with a query. Empty values are left out."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def encoded(text: str) -> str:
    """Write a text in ASCII, for a hidden field of a form: a page shows some characters as escapes."""
    return quote(text, safe="", errors="replace")


def decoded(text: str) -> str:
    """Read what :func:`encoded` wrote."""
    return unquote(text)
