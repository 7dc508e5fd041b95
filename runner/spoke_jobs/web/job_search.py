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
from spoke_jobs.shared.clean_text import is_storable

TEXTS = {
    "type": "job_type",
    "queue": "queue_name",
    "cause": "cause",
    "key": "unique_key",
    "fingerprint": "fingerprint",
    "schedule": "schedule",
}
"""The filters that are texts, with the fields of :class:`JobFilter`."""
FILTER_LABELS = {
    "state": "State",
    "type": "Type",
    "queue": "Queue",
    "organization": "Organization",
    "batch": "Batch",
    "lane": "Lane",
    "cause": "Cause",
    "key": "Unique key",
    "fingerprint": "Fingerprint",
    "schedule": "Schedule",
    "since": "Dispatched since",
    "until": "Dispatched before",
    "id": "Id",
}
"""What people call the filters, by their names in an address."""
_CHOICES = {"state": tuple(map(str, JobState)), "lane": LANES}
_NUMBERS = {
    "organization": ("organization_id", 0, LARGEST_NUMBER, f"Give a whole number from 0 to {LARGEST_NUMBER:,}."),
    "batch": ("batch_id", 1, LARGEST_ID, "Give a whole number from 1."),
}
_TIMES = ("since", "until")
TEXT_LIMIT = 500


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
    given = {name: text for name in FILTER_LABELS if (text := query.get(name, "").strip())}
    problems = {
        name: f"Choose one of: {', '.join(choices)}."
        for name, choices in _CHOICES.items()
        if given.get(name, choices[0]) not in choices
    }
    values: dict[str, object] = {}
    for name, of_filter in TEXTS.items():
        if name not in given:
            continue
        if len(given[name]) > TEXT_LIMIT or not is_storable(given[name]):
            problems[name] = f"Give at most {TEXT_LIMIT} characters, without NUL."
        else:
            values[of_filter] = given[name]
    if "state" in given and "state" not in problems:
        values["states"] = (JobState(given["state"]),)
    if "lane" in given and "lane" not in problems:
        values["lane"] = given["lane"]
    for name, (of_filter, least, most, wrong) in _NUMBERS.items():
        if name in given:
            values[of_filter] = number = whole_number(given[name], least, most)
            problems |= {name: wrong} if number is None else {}
    times: dict[str, datetime | None] = {name: _time(given[name], zone) for name in _TIMES if name in given}
    values.update(times)
    problems |= {name: "Give a date and a time: 2026-03-01T08:00." for name, time in times.items() if time is None}
    given |= {name: f"{_minutes(time)}Z" for name, time in times.items() if time is not None}
    local = {name: _minutes(time.astimezone(zone)) for name, time in times.items() if time is not None}
    job_id = whole_number(given["id"], 1, LARGEST_ID) if "id" in given else None
    if "id" in given and job_id is None:
        problems["id"] = "Give a whole number from 1."
    place = Place(
        whole_number(query.get("before", ""), 1, LARGEST_ID), whole_number(query.get("after", ""), 0, LARGEST_ID)
    )
    if place.before is not None and place.after is not None:
        place = Place(place.before)
    return JobSearch(JobFilter(**values), place, job_id, given, problems, local)  # type: ignore[arg-type]


def _minutes(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="minutes")


def _time(text: str, zone: tzinfo) -> datetime | None:
    """Read a time, to the minute, in UTC; None if the text is none."""
    try:
        found = datetime.fromisoformat(text)
        time = found if found.tzinfo is not None else found.replace(tzinfo=zone)
        utc = time.astimezone(UTC).replace(second=0, microsecond=0)
        utc.astimezone(zone)  # it can be shown
    except (ValueError, OverflowError):
        return None
    return utc


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


def whole_number(text: str, least: int, most: int) -> int | None:
    """Read a whole number; None if the text is none between the bounds."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    number = int(text)
    return number if least <= number <= most else None
