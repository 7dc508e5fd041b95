"""Conclude from the attempts of workers whether they pass over a due job. Pure.

The ledger records neither the workers nor the types and queues that they take. But a worker that claims a job passes
over those that come before it. Organizations take turns, so a job comes before another one in any case only if it has a
higher priority, or if it is older and of the same organization and priority. If a limit may have held it back at that
time, nothing follows.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from spoke_jobs.ledger.claims.eligibility import waiting_since
from spoke_jobs.ledger.reading.takers import Takers, Trace
from spoke_jobs.model import JobRequest

SOON = timedelta(seconds=5)
"""An idle worker finds a due job well within this time. A worker may use an order that is older by less."""
_ALIVE = timedelta(minutes=1)
"""A worker that has given a sign within this time may still run. Running attempts renew their leases more often."""


def claimable_since(job: JobRequest, takers: Takers) -> datetime:
    """Return since when a due job that waits for nothing else could have been claimed, as far as is known."""
    times = [waiting_since(job)]
    if takers.rules_since is not None:
        times.append(takers.rules_since)
    if job.locks_queue:
        times += [
            trace.finished_at
            for trace in takers.traces
            if trace.locks_queue and trace.queue_name == job.queue_name and trace.finished_at is not None
        ]
    return max(times)


def later_claims(job: JobRequest, takers: Takers, *, limited: bool) -> list[Trace]:
    """Return the attempts of jobs that come after this one and were claimed while this one could have been.

    :param limited: whether a limit applies to the job. It may have held the job back until now.
    """
    if limited:
        return []
    since = claimable_since(job, takers) + SOON
    return [trace for trace in takers.traces if trace.claimed_at > since and _comes_after(trace, job)]


def may_be_known(job: JobRequest, takers: Takers, now: datetime) -> bool:
    """Whether a worker that has run this type may still run."""
    knowing = {trace.worker for trace in takers.traces if trace.job_type == job.job_type}
    knowing |= takers.known_to.get(job.job_type, frozenset())
    return not knowing.isdisjoint(_alive(takers, now))


def passed_over(job: JobRequest, takers: Takers, now: datetime, *, limited: bool) -> list[Trace]:
    """Return the attempts that show that no running worker takes a job; empty if one may take it.

    A worker may take it that has run its type, or that has been busy since the job was due.
    """
    later = later_claims(job, takers, limited=limited)
    busy = {load.worker for load in takers.load if load.running > load.lapsed}
    if may_be_known(job, takers, now) or not busy <= {trace.worker for trace in later}:
        return []
    return later


def _comes_after(trace: Trace, job: JobRequest) -> bool:
    if trace.priority != job.priority:
        return trace.priority < job.priority
    return trace.organization_id == job.organization_id and trace.job_id > job.id


def _alive(takers: Takers, now: datetime) -> set[str]:
    signs = {trace.worker for trace in takers.traces if now - max(trace.claimed_at, trace.heartbeat_at) < _ALIVE}
    return signs | {load.worker for load in takers.load if load.running > load.lapsed}
