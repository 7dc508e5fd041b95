"""What is said of one job: its facts, options, attempts and output, as texts. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.causes import Cause, cause_class
from spoke_jobs.contract.custom_resources.spokejob import Outcome
from spoke_jobs.contract.executors import Executor, Lane, lane_of, moved_to_pod
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.contract.retry import is_charged
from spoke_jobs.explain import kept_output
from spoke_jobs.explain.moves import why_moved
from spoke_jobs.explain.option_facts import column_options, stored_options
from spoke_jobs.explain.reasons import MESSAGE_LIMIT
from spoke_jobs.explain.tries import STARTING, Try, tries
from spoke_jobs.explain.words import ago, count, line, memory, moment, seconds
from spoke_jobs.ledger.audit.audit_events import Event
from spoke_jobs.ledger.claims.eligibility import start_deadline
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dependency_queries import LINKS, Dependent, Link
from spoke_jobs.ledger.reading.situations import NEWEST
from spoke_jobs.model import (
    CHECKPOINT,
    Attempt,
    AttemptReport,
    JobRequest,
    JobState,
    Saved,
    UnreadPayload,
    payload_size,
)
from spoke_jobs.payloads import JOB_LIMIT_BYTES, payload_as_json

if TYPE_CHECKING:  # importing rich takes longer than most commands
    pass

ATTEMPT_HEADINGS = ("RUN", "TRY", "STATE", "WORKER", "STARTED", "TOOK", "CAUSE", "ERROR", "NODE", "EXIT")
_TAIL_LINES = 40
_SHOWN_STEPS = 20
_BY_ITS_CODE = frozenset({Cause.JOB_ERROR, Cause.JOB_EXITED})
"""Causes after which `never` of the retry policy ends the job."""
_SHOWN_USAGE = 10
"""The most attempts of which is said what they used."""


@dataclass(frozen=True, slots=True)
class Details:
    """A job as texts for people."""

    job: JobRequest
    facts: tuple[tuple[str, str], ...]
    """Names and values. Facts without a value are left out."""
    options: tuple[tuple[str, str], ...]
    attempts: tuple[tuple[str, ...], ...]
    """Cells in the order of :data:`ATTEMPT_HEADINGS`."""
    tail_of: int
    """The number of the attempt whose output is shown."""
    tail: tuple[str, ...]
    said: tuple[tuple[int, str], ...]
    """What Kubernetes said about failed attempts: an attempt's number, and the text."""
    payload: str
    used: tuple[tuple[int, str], ...] = ()
    """What the newest attempts used, as far as it was measured: an attempt's number, and the text."""
    needs: tuple[tuple[int, Link | None], ...] = ()
    """The jobs that it depends on, as a tree: depth from 0, and the job; None for more than are shown."""
    starting: str = ""
    """For how long its newest attempt has been starting; empty if it is not."""
    measured: tuple[tuple[str, str], ...] = ()
    """The peak memory and the CPU time of each of the attempts; empty if they were not measured."""
    tries: tuple[Try, ...] = ()
    """The attempts themselves."""


def details(
    job: JobRequest,
    attempts: Sequence[Attempt],
    now: datetime,
    cluster: ClusterView | None = None,
    reports: Sequence[AttemptReport] = (),
    events: Sequence[Event] = (),
    saved: Sequence[Saved] = (),
    links: Sequence[Link] = (),
    *,
    follows: Batch | None = None,
    with_payload: bool = False,
    with_result: bool = True,
    zone: tzinfo | None = None,
    payload_hint: str = "",
) -> Details:
    """Describe a job, with times in the reader's time zone.

    :param follows: the batch that the job follows, to be named; None for none.
    :param with_payload: whether to read the payload.
    :param payload_hint: what would show the payload if it is not read; empty for nothing.
    :param with_result: whether to name the result.
    """
    found = tries(job, attempts, cluster.spokejob if cluster else None, reports)
    shows = with_payload and not isinstance(job.payload, UnreadPayload)
    with_output = next((item for item in reversed(found) if kept_output.tail(item)), None)
    return Details(
        job,
        (
            *_facts(job, attempts, found, now, zone, with_result=with_result),
            *([("follows", line(str(follows)))] if follows is not None else []),
            *_saved(saved, now),
            *_not_shown(attempts),
            *_not_charged(job, found),
            *_not_tried_again(job, found),
            *_events(events, now),
            *(_in_the_cluster(cluster) if cluster else ()),
        ),
        tuple(_options(job, "" if shows else payload_hint)),
        tuple(_attempt(item, now, zone) for item in found),
        with_output.number if with_output else 0,
        tuple(kept_output.tail(with_output, _TAIL_LINES)) if with_output else (),
        tuple((item.number, line(item.message, MESSAGE_LIMIT)) for item in found if item.message),
        json.dumps(payload_as_json(job.payload), indent=2, ensure_ascii=False) if shows else "",
        tuple((item.number, text) for item in attempts[-_SHOWN_USAGE:] if (text := used(item))),
        (*tree(job.id, links), *([(0, None)] if len(links) >= LINKS else ())),
        _starting(job, found, now, cluster),
        tuple(_measured(item.row) for item in found),
        found,
    )


def _newest(job: JobRequest, found: Sequence[Try]) -> Try | None:
    """Return the newest attempt of the job's run; None if there is none."""
    return next((item for item in reversed(found) if item.run == job.run), None)


def _starting(job: JobRequest, found: Sequence[Try], now: datetime, cluster: ClusterView | None) -> str:
    """Say that the newest attempt has a Kubernetes Job and no process yet; empty if there is none such."""
    item = _newest(job, found)
    if item is None or item.state != STARTING or job.state is not JobState.WAITING:
        return ""
    runs = cluster is not None and cluster.spokejob is not None and cluster.spokejob.status.outcome is Outcome.RUNNING
    doing = "starting" if runs else "waiting for its pod"
    lasted = f" for {seconds(max((now - item.begun_at).total_seconds(), 0.0))}" if item.begun_at else ""
    return f"attempt {item.number} has been {doing}{lasted}"


def tree(job_id: int, links: Sequence[Link]) -> Iterator[tuple[int, Link]]:
    """Walk through what a job depends on, each with its depth. What several jobs depend on is opened once."""
    below: dict[int, list[Link]] = {}
    for link in links:
        below.setdefault(link.job_id, []).append(link)
    opened = {job_id}
    waiting = [(0, link) for link in reversed(below.get(job_id, []))]
    while waiting:
        depth, link = waiting.pop()
        yield depth, link
        if link.needs_id not in opened:
            opened.add(link.needs_id)
            waiting += [(depth + 1, one) for one in reversed(below.get(link.needs_id, []))]


def state_text(link: Link | Dependent) -> str:
    """Format the state of a job that another one runs after, or that runs after another one."""
    if link.state is JobState.RUNNING:
        return f"running, {link.percent} %"
    return f"{link.state}: {line(link.cause)}" if link.state is JobState.FAILED else link.state.value


def _measured(attempt: Attempt | None) -> tuple[str, str]:
    if attempt is None:
        return "", ""
    peak, cpu = attempt.peak_memory_bytes, attempt.cpu_milliseconds
    return "" if peak is None else memory(peak), "" if cpu is None else seconds(cpu / 1000)


def used(attempt: Attempt) -> str:
    """Say what an attempt used; empty if neither its memory nor its CPU time was measured."""
    amounts = zip(_measured(attempt), ("of memory", "of CPU time"), strict=True)
    return ", ".join(f"{amount} {what}" for amount, what in amounts if amount)


def _facts(
    job: JobRequest,
    attempts: Sequence[Attempt],
    found: Sequence[Try],
    now: datetime,
    zone: tzinfo | None,
    *,
    with_result: bool,
) -> Iterator[tuple[str, str]]:
    yield "state", f"{job.state}: {job.cause}" if job.state is JobState.FAILED else job.state.value
    yield from _place(job, attempts, zone, _newest(job, found))
    yield from _times(job, now, zone)
    yield from _words(job, with_result=with_result)


def _saved(saved: Sequence[Saved], now: datetime) -> Iterator[tuple[str, str]]:
    for row in saved:
        if row.name == CHECKPOINT:
            by = f"run {row.run}, " if row.run > 1 else ""
            size = count(len(row.value), "byte")
            yield "checkpoint", f"saved {ago(row.saved_at, now)} by {by}attempt {row.number} ({size})"
    steps = [row for row in saved if row.name != CHECKPOINT]
    if steps:
        names = ", ".join(line(row.name) for row in steps[-_SHOWN_STEPS:])
        earlier = f"{len(steps) - _SHOWN_STEPS} earlier ones, " if len(steps) > _SHOWN_STEPS else ""
        yield "steps done", f"{earlier}{names} (the last one {ago(steps[-1].saved_at, now)})"


def _not_shown(attempts: Sequence[Attempt]) -> Iterator[tuple[str, str]]:
    if len(attempts) >= NEWEST:
        yield "attempts shown", f"the newest {NEWEST}; earlier ones are in the table job_attempt"


def _not_charged(job: JobRequest, found: Sequence[Try]) -> Iterator[tuple[str, str]]:
    """Name the causes of this run's attempts that count against none of the job's own budgets."""
    ended = (item.cause for item in found if item.run == job.run and item.ended_at is not None and item.cause)
    causes = Counter(cause for cause in ended if not is_charged(cause_class(cause)))
    if causes:
        yield "not charged", ", ".join(f"{line(cause)} {times}" for cause, times in causes.items())


def _not_tried_again(job: JobRequest, found: Sequence[Try]) -> Iterator[tuple[str, str]]:
    """Say why no attempt followed an error of the job's code although its budget allowed one."""
    last = _newest(job, found)
    if job.state is not JobState.FAILED or last is None or job.cause not in _BY_ITS_CODE or last.cause != job.cause:
        return
    kind = cause_class(job.cause)
    failures = sum(item.run == job.run and cause_class(item.cause) is kind for item in found if item.cause)
    if failures < job.options.retry.allowance(kind):
        said = line(last.error_type) or "its error"
        yield "not tried again", f"{said} is one of the errors after which the job fails for good"


def _events(events: Sequence[Event], now: datetime) -> Iterator[tuple[str, str]]:
    for event in reversed(events):
        yield line(event.action), f"by {line(event.actor) or 'somebody'}, {ago(event.at, now)}"


def _place(
    job: JobRequest, attempts: Sequence[Attempt], zone: tzinfo | None, newest: Try | None
) -> Iterator[tuple[str, str]]:
    if job.queue_name:
        lock = " (locked: jobs that lock it run one at a time)" if job.locks_queue else ""
        yield "queue", line(job.queue_name) + lock
    yield "runner", line(job.runner)
    moved = moved_to_pod(job.runner, job.options.lane)
    if moved:
        why = why_moved(job, attempts)
        yield "lane", f"{Lane.POD}, moved from {Lane.WORKER}" + (f" ({why})" if why else "")
    elif lane_of(job.runner) is Lane.WORKER:
        yield "lane", Lane.WORKER.value
    elif lane_of(job.runner) is Lane.POD and job.options.lane == Lane.STANDBY:
        yield "lane", f"{Lane.STANDBY} (a standby pod if one is free)"
    if job.executor is Executor.CLUSTER:
        yield "spokejob", spokejob_name(job.job_type, job.id, job.uid, job.run)
    if job.run > 1:
        by_hand = job.run - 1 - moved
        said = (["moved to a pod"] if moved else []) + (
            [f"retried by hand {count(by_hand, 'time')}"] if by_hand > 0 else []
        )
        yield "run", f"{job.run} ({', '.join(said)})"
    # The row has the number of the last attempt that was claimed. A pod that never ran has claimed none.
    number = max(job.attempt, newest.number if newest is not None else 0)
    none = "none" if job.state.final else "none yet"
    yield "attempt", f"{number}" if number else none
    if job.schedule is not None:
        due = f", due {job.scheduled_for.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if job.scheduled_for else ""
        yield "schedule", line(job.schedule) + due
    yield from column_options(job)


def _times(job: JobRequest, now: datetime, zone: tzinfo | None) -> Iterator[tuple[str, str]]:
    waits = job.state is JobState.WAITING
    for name, when in (
        ("dispatched", job.created_at),
        ("run after", job.run_after if waits else None),
        ("start by", start_deadline(job) if waits and job.executor is not Executor.CLUSTER else None),
        ("suspended", None if job.state.final else job.suspended_at),
        ("submitted", job.submitted_at),
        ("started", job.started_at),
        ("asked to stop", job.cancel_requested_at),
        ("ended", job.finished_at),
        ("kept until", job.expires_at),
    ):
        if when is not None:
            yield name, moment(when, now, zone)
    if job.started_at is not None and not waits:
        whole = ", from its first start, with the waits between attempts" if job.attempt > 1 or job.run > 1 else ""
        yield "took", f"{took(job, now)}{whole}"


def took(job: JobRequest, now: datetime) -> str:
    """Format the time from the first start to the end, or until now while the job runs."""
    if job.started_at is None or job.state is JobState.WAITING:
        return "-"
    return seconds(max(((job.finished_at or now) - job.started_at).total_seconds(), 0.0))


def _words(job: JobRequest, *, with_result: bool) -> Iterator[tuple[str, str]]:
    if job.state is JobState.RUNNING or 0 < job.status < 100:
        yield "progress", f"{max(job.status, 0)} %"
    if job.state is JobState.WAITING and job.cause:
        yield "last failure", job.cause
    if job.result_message:
        yield "message", line(job.result_message)
    if job.result is not None and with_result:
        yield "result", line(json.dumps(job.result, ensure_ascii=False))


def _options(job: JobRequest, payload_hint: str) -> Iterator[tuple[str, str]]:
    yield from stored_options(job)
    size, version = payload_size(job.payload), job.options.payload_version
    said = f", version {version}" if version > 1 else ""
    hint = payload_hint if size <= JOB_LIMIT_BYTES else "too large to be read"
    yield "payload", f"{count(size, 'byte')}{said}{f' ({hint})' if hint else ''}"


def _in_the_cluster(cluster: ClusterView) -> Iterator[tuple[str, str]]:
    if cluster.problem:
        yield "cluster", f"could not be read for pods and nodes: {line(cluster.problem, MESSAGE_LIMIT)}"
    elif cluster.spokejob is None:
        absent = (
            f"can't be read: {', '.join(cluster.unreadable)}"
            if cluster.unreadable
            else "the SpokeJob does not exist (any more)"
        )
        yield "cluster", absent
    else:
        status = cluster.spokejob.status
        yield (
            "cluster",
            ": ".join(word for word in (status.outcome or "not seen by the operator yet", line(status.cause)) if word),
        )


def _attempt(item: Try, now: datetime, zone: tzinfo | None) -> tuple[str, ...]:
    begun = item.begun_at
    exit_code = item.seen.exit_code if item.seen else None
    return (
        str(item.run),
        str(item.number),
        item.state,
        line(item.worker) or "-",
        f"{begun.astimezone(zone):%Y-%m-%d %H:%M:%S}" if begun else "-",
        seconds(max(((item.ended_at or now) - begun).total_seconds(), 0.0)) if begun else "-",
        line(item.cause) or "-",
        line(item.error_type) or "-",
        line(item.node) or "-",
        "-" if exit_code is None else str(exit_code),
    )
