"""Group all waiting and recently failed jobs by reason, for `why` and `cancel --reason`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import typer

from spoke_jobs.cli.commands.ledger_access import spokejob_waits
from spoke_jobs.cli.printing import print_note
from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import WAITS
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group, groups, has_spokejobs, reasons, unread
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import ANY_JOB, JobFilter, JobState


class FoundGroups(NamedTuple):
    """The groups, and what is said with them."""

    groups: tuple[Group, ...]
    now: datetime
    """The database's time, in the terminal's time zone."""
    incomplete: tuple[str, ...]
    """What could not be read, as sentences."""


def find_groups(queries: Queries, period_seconds: float, which: JobFilter = ANY_JOB) -> FoundGroups:
    """Group the waiting jobs and those that failed within the period, of those that pass the filter."""
    crowd = queries.crowd(period_seconds, which)
    waits = _in_cluster() if has_spokejobs(crowd) else SpokeJobWaits()
    in_cluster = waits.waiting
    if in_cluster and which != ANY_JOB:
        selected = {job.id for job in queries.selected(which.evolve(states=(JobState.WAITING,)))}
        in_cluster = tuple(each for each in in_cluster if each.job_id in selected)
    now = crowd.now.astimezone()
    return FoundGroups(groups(replace(crowd, now=now), in_cluster), now, unread(waits))


def waiting_for(queries: Queries, reason: str) -> set[int]:
    """Find the jobs that wait for a reason, as `why` names it.

    :raises typer.BadParameter: if there is no such reason.
    """
    if reason not in {*Code, *WAITS, *CAUSES}:
        raise typer.BadParameter(
            f"{reason!r} is no reason to wait: `spoke-jobs why` prints those that there are", param_hint="--reason"
        )
    crowd = queries.crowd(0)
    by_kind = reasons(crowd)
    by_uid = {each.uid: each.wait.code for each in (_in_cluster().waiting if has_spokejobs(crowd) else ())}
    return {job.id for job in queries.waiting() if by_uid.get(str(job.uid), by_kind.get(job.kind)) == reason}


def _in_cluster() -> SpokeJobWaits:
    waits = spokejob_waits()
    for sentence in unread(waits):
        print_note(sentence)
    return waits
