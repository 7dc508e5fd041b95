"""What the page *Failures* shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.explain.groups import Group
from spoke_jobs.explain.words import line, lines
from spoke_jobs.ledger.reading.dashboard_queries import CAP
from spoke_jobs.web.job_search import address
from spoke_jobs.web.view_parts import When, failures_note
from spoke_jobs.web.viewer import JobAction, Viewer

PERIODS: Mapping[str, tuple[str, float]] = {
    "1h": ("hour", 3_600.0),
    "1d": ("day", 86_400.0),
    "7d": ("7 days", 7 * 86_400.0),
    "30d": ("30 days", 30 * 86_400.0),
}
"""How long ago jobs may have failed, by the word in the address: a text, and seconds."""
PERIOD = "1d"
SHOWN = 50
"""The most groups that are shown, the largest ones."""
_SAMPLE_LINES = 20


@dataclass(frozen=True, slots=True)
class FailureItem:
    """Jobs that failed for one reason."""

    number: str
    text: str
    meaning: str
    """What the cause means; empty if this release does not know it."""
    first: When | None
    last: When | None
    job_id: int | None
    """The newest of the jobs."""
    sample: tuple[str, ...]
    """The last lines of that job's traceback or output."""
    advice: str
    jobs: str
    """The address of the list of the jobs."""
    retry: str
    """The address of the preview of a retry, also of earlier failures; empty if the viewer may not."""
    retry_text: str


@dataclass(frozen=True, slots=True)
class FailureList:
    """The page *Failures*."""

    items: tuple[FailureItem, ...]
    period: str
    periods: tuple[tuple[str, str, bool], ...]
    """Links to other periods: addresses, texts, and whether it is the shown one."""
    notes: tuple[str, ...]


def failure_list(
    groups: Iterable[Group], tails: Mapping[int, str], now: datetime, period: str, viewer: Viewer
) -> FailureList:
    """Describe groups of failed jobs.

    :param tails: the last lines of output of some jobs, by their ids.
    :param period: a key of :data:`PERIODS`.
    """
    found = list(groups)
    notes = failures_note(found, CAP)
    if len(found) > SHOWN:
        notes.append(f"These are the {SHOWN} largest of {len(found):,} groups.")
    return FailureList(
        tuple(_item(group, tails, now, viewer) for group in found[:SHOWN]),
        PERIODS[period][0],
        tuple(
            (address("/failures", within=name), f"last {text}", name == period) for name, (text, _) in PERIODS.items()
        ),
        tuple(notes),
    )


def _item(group: Group, tails: Mapping[int, str], now: datetime, viewer: Viewer) -> FailureItem:
    cause = CAUSES.get(group.reason)
    which = {"cause": group.reason, "fingerprint": group.fingerprint}
    tail = tails.get(group.job_id or 0, "") if viewer.may_see_output else ""
    retries = JobAction.RETRY in viewer.actions and group.reason != Cause.CANCELLED
    return FailureItem(
        f"{group.count:,}",
        line(group.text),
        cause.meaning if cause is not None else "",
        When.of(group.oldest_at, now) if group.oldest_at else None,
        When.of(group.newest_at, now) if group.newest_at else None,
        group.job_id,
        tuple(lines(tail)[-_SAMPLE_LINES:]),
        line(group.advice),
        address("/jobs", state="failed", **which),
        address("/bulk/retry", **which) if retries else "",
        "Retry all with this fingerprint" if group.fingerprint else "Retry all with this cause",
    )
