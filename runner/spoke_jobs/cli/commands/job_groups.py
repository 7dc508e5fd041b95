"""Group all waiting and recently failed jobs by reason, for `why` and `cancel --reason`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import typer

from spoke_jobs.cli.commands.ledger_access import spokejob_waits
from spoke_jobs.cli.printing import print_note
from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.contract.advice import is_given_to_waiting_jobs
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import REASONS, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group, groups, has_spokejobs, reasons, unread
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.reading.crowd import WaitingJob
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import ANY_JOB, JobFilter, JobState

_REASONS = frozenset(
    {
        *REASONS,
        *(reason.code for reason in WaitReason if reason.code is not Code.CLUSTER),
        *(cause for cause in CAUSES.values() if is_given_to_waiting_jobs(cause)),
    }
)
"""What a job can wait for: the names and the codes of reasons, and the causes that keep a SpokeJob waiting."""


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
    """Find the jobs that wait for a reason.

    :param reason: its code, as `why` prints it, or its name, as `ls` prints it.
    :raises typer.BadParameter: if there is no such reason, with those of the waiting jobs.
    """
    crowd = queries.crowd(0)
    by_kind = reasons(crowd)
    by_uid = {each.uid: each.wait.code for each in (_in_cluster().waiting if has_spokejobs(crowd) else ())}
    if reason not in {*_REASONS, *by_uid.values()}:
        found = sorted({*(known.code.value for known in by_kind.values()), *by_uid.values()})
        wait = f"jobs wait for: {', '.join(map(line, found))}" if found else "no job waits"
        again = f" (`--cause {reason}` selects jobs that are tried again after it)" if reason in CAUSES else ""
        raise typer.BadParameter(f"{reason!r} is no reason to wait{again}; {wait}", param_hint="--reason")

    def waits_for_it(job: WaitingJob) -> bool:
        if (code := by_uid.get(str(job.uid))) is not None:
            return code == reason
        known = by_kind.get(job.kind)
        return known is not None and reason in (known, known.code)

    return {job.id for job in queries.waiting() if waits_for_it(job)}


def _in_cluster() -> SpokeJobWaits:
    waits = spokejob_waits()
    for sentence in unread(waits):
        print_note(sentence)
    return waits
