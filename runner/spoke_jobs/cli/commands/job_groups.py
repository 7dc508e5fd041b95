"""Group all waiting and recently failed jobs by reason, for `why` and `cancel --reason`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import typer

from spoke_jobs.cli.commands.ledger_access import spokejob_waits
from spoke_jobs.cli.printing import print_note
from spoke_jobs.cluster.cluster_view import WaitingSpokeJob
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import WAITS
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.groups import Group, groups, has_spokejobs, reasons
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import ANY_JOB, JobFilter, JobState


def find_groups(
    queries: Queries, period_seconds: float, which: JobFilter = ANY_JOB
) -> tuple[tuple[Group, ...], datetime]:
    """Group the waiting jobs and those that failed within the period, of those that pass the filter.

    Also return the database's time, in the terminal's time zone.
    """
    crowd = queries.crowd(period_seconds, which)
    in_cluster = _in_cluster() if has_spokejobs(crowd) else ()
    if in_cluster and which != ANY_JOB:
        selected = {job.id for job in queries.selected(which.evolve(states=(JobState.WAITING,)))}
        in_cluster = tuple(each for each in in_cluster if each.job_id in selected)
    now = crowd.now.astimezone()
    return groups(replace(crowd, now=now), in_cluster), now


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
    by_uid = {each.uid: each.wait.code for each in (_in_cluster() if has_spokejobs(crowd) else ())}
    return {job.id for job in queries.waiting() if by_uid.get(str(job.uid), by_kind.get(job.kind)) == reason}


def _in_cluster() -> tuple[WaitingSpokeJob, ...]:
    waits = spokejob_waits()
    if waits.problem:
        print_note(f"the cluster could not be read: {waits.problem}")
    elif waits.more:
        print_note("there are more SpokeJobs than were read; the ledger counts the rest")
    return waits.waiting
