"""What the pages *Jobs* and *Job* show. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail
from spoke_jobs.contract.advice import advice
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.executors import LANES, Executor
from spoke_jobs.contract.names import LABEL_REQUEST, PRIORITY_LIMIT, spokejob_name
from spoke_jobs.explain.job_details import ATTEMPT_HEADINGS, Details, state_text
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.explain.words import line, memory, seconds
from spoke_jobs.ledger.audit.audit_events import Event
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle.start_rules import (
    REASON_LIMIT,
    why_no_priority,
    why_not_now,
    why_not_resumed,
    why_not_suspended,
)
from spoke_jobs.ledger.reading.dashboard_queries import JobPage
from spoke_jobs.ledger.reading.dependency_queries import Dependent
from spoke_jobs.model import ANY_JOB, AttemptUsage, JobRequest, JobState
from spoke_jobs.web.attempt_cells import attempt_rows
from spoke_jobs.web.attempt_timeline import AttemptTimeline, timelines
from spoke_jobs.web.dependency_graph import Graph, dependency_graph
from spoke_jobs.web.job_search import JobSearch, address
from spoke_jobs.web.live_output import ShownOutput, shown_output
from spoke_jobs.web.reason_remedies import ExplainedReason, JobForm, explained_reasons
from spoke_jobs.web.view_parts import BatchOfJob, When, batch_of_job
from spoke_jobs.web.viewer import JobAction, Viewer, shown_explanation, shown_job

PEAKS = 20
"""Of how many of the newest successes of a job's type the peak memory is shown."""
_MESSAGE_LIMIT = 200
_CAUSE, _ERROR = (ATTEMPT_HEADINGS.index(name) for name in ("CAUSE", "ERROR"))
_SHOWN_ATTEMPTS = 5
"""How many attempts are shown at once, the newest ones. The earlier ones are folded: they are often alike."""
_AT_THE_TOP = frozenset({"message", "progress"})
"""The facts that the beginning of the page says."""


@dataclass(frozen=True, slots=True)
class JobItem:
    """A job in a list."""

    job_id: int
    job_type: str
    state: str
    percent: int | None
    """Its progress, while it runs."""
    queue: str
    organization: str
    cause: str
    message: str
    dispatched: When
    ended: When | None
    took: str


@dataclass(frozen=True, slots=True)
class JobList:
    """The page that lists jobs."""

    jobs: tuple[JobItem, ...]
    search: JobSearch
    newer: str
    """The address of the page with newer jobs; empty if there is none."""
    older: str
    note: str = ""
    """How far the filters were compared, if further jobs may match; empty if with all jobs."""
    bulk: tuple[tuple[str, str], ...] = ()
    """Links to what can be done to all jobs that match the filters: addresses and texts."""
    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    states: tuple[str, ...] = field(default=tuple(state.value for state in JobState))
    causes: tuple[str, ...] = field(default=tuple(CAUSES))
    lanes: tuple[str, ...] = LANES


def job_list(
    page: JobPage, search: JobSearch, viewer: Viewer, types: Sequence[str] = (), queues: Sequence[str] = ()
) -> JobList:
    """Describe a page of jobs."""
    jobs = [shown_job(job, viewer) for job in page.jobs]
    newer = "" if page.newer is None else address("/jobs", **search.given, after=page.newer)
    older = "" if page.older is None else address("/jobs", **search.given, before=page.older)
    items = tuple(job_item(job, page.now) for job in jobs)
    bulk = tuple(_bulk(search, viewer)) if items else ()
    note = _looked_note(page, viewer, upwards=search.place.after is not None)
    return JobList(items, search, newer, older, note, bulk, tuple(types), tuple(queues))


def _looked_note(page: JobPage, viewer: Viewer, *, upwards: bool) -> str:
    if page.looked is None:
        return ""
    way, age, last = ("up", "Newer", page.newer) if upwards else ("down", "Older", page.older)
    reach = f", {way} to job {last}" if viewer.sees_all else ""  # which may be a job of others
    return f"These filters were compared with {page.looked:,} jobs{reach}. {age} jobs may match, too."


def _bulk(search: JobSearch, viewer: Viewer) -> Iterable[tuple[str, str]]:
    if search.which == ANY_JOB:
        return
    states = search.which.states or tuple(JobState)
    if JobAction.CANCEL in viewer.actions and any(not state.final for state in states):
        yield address("/bulk/cancel", **search.given), "Cancel all unfinished jobs that match"
    if JobAction.RETRY in viewer.actions and JobState.FAILED in states:
        yield address("/bulk/retry", **search.given), "Retry all failed jobs that match"


def job_item(job: JobRequest, now: datetime) -> JobItem:
    """Describe a job in a list."""
    took = ""
    if job.started_at is not None and job.state is not JobState.WAITING:
        took = seconds(max(((job.finished_at or now) - job.started_at).total_seconds(), 0.0))
    return JobItem(
        job.id,
        line(job.job_type),
        job.state.value,
        max(job.status, 0) if job.state is JobState.RUNNING else None,
        line(job.queue_name),
        "" if job.organization_id is None else str(job.organization_id),
        line(job.cause),
        line(job.result_message, _MESSAGE_LIMIT),
        When.of(job.created_at, now),
        When.of(job.finished_at, now) if job.finished_at is not None else None,
        took,
    )


@dataclass(frozen=True, slots=True)
class KnownCause:
    """A cause of failed attempts."""

    name: str
    meaning: str
    advice: str
    """What to do now; empty if the job has succeeded."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that the shown one depends on."""

    depth: int
    job_id: int
    job_type: str
    state: str


@dataclass(frozen=True, slots=True)
class Around:
    """What a viewer may see of what stands around a job, beside the jobs that it depends on."""

    dependents: tuple[Dependent, ...] = ()
    """The jobs that depend on it directly."""
    batches: tuple[Batch, ...] = ()
    """Those that it is in or follows."""
    followers: frozenset[int] = frozenset()
    """The jobs that follow these."""
    more: bool = False
    """Whether more jobs depend on it than were read."""


NOTHING_AROUND = Around()


@dataclass(frozen=True, slots=True)
class JobView:
    """The page of one job."""

    item: JobItem
    starting: str
    """For how long its newest attempt has been starting; empty if it is not."""
    message: str
    """What it said last, or why it failed."""
    reasons: tuple[ExplainedReason, ...]
    facts: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    headings: tuple[str, ...]
    zone: str
    """The time zone of the attempts' times."""
    attempts: tuple[tuple[str, ...], ...]
    """The newest ones, the oldest of them first."""
    earlier: tuple[tuple[str, ...], ...]
    """The attempts before them."""
    timelines: tuple[AttemptTimeline, ...]
    """Of the newest attempts."""
    causes: tuple[KnownCause, ...]
    said: tuple[tuple[str, str], ...]
    """What Kubernetes said of attempts, as far as the message does not say it: which attempts, and the text."""
    peaks: str
    """The peak memory of the newest successes of its type; empty if fewer than two are known."""
    batches: tuple[BatchOfJob, ...]
    needs: tuple[Dependency, ...]
    dependents: tuple[Dependency, ...]
    graph: Graph | None
    output: ShownOutput | None
    """None if there is none, or the viewer may not see it."""
    payload: str
    commands: tuple[tuple[str, str], ...]
    """What a command shows, and the command."""
    actions: tuple[JobForm, ...]
    """The forms that stand beside no reason."""
    priority: int
    """The present one."""
    has_checkpoints: bool
    priority_limit: int = PRIORITY_LIMIT
    reason_limit: int = REASON_LIMIT


def job_view(
    shown: Details,
    explanation: Explanation,
    now: datetime,
    viewer: Viewer,
    *,
    cluster: ClusterView | None = None,
    around: Around = NOTHING_AROUND,
    usages: Sequence[AttemptUsage] = (),
    has_checkpoints: bool = False,
    events: Sequence[Event] = (),
    pulled: Mapping[str, datetime] | None = None,
    pod_tail: PodTail | None = None,
) -> JobView:
    """Describe one job.

    :param now: the database's time, in the reader's zone.
    :param around: the jobs and batches around it, as far as the viewer may see them.
    :param usages: what the newest successes of its type used, the newest first.
    :param events: the newest ones about the job.
    :param pulled: when the images of pods were pulled, by the pods' names, as far as that is known.
    :param pod_tail: what the pod of the running attempt has printed last.
    """
    job = shown.job
    peaks = [usage.peak_memory_bytes for usage in usages if usage.peak_memory_bytes is not None][:PEAKS]
    message = line(job.result_message)
    headings, attempts = attempt_rows(shown)
    reasons = shown_explanation(explanation, viewer).reasons
    forms = tuple(_forms(job, now, viewer))
    explained = tuple(explained_reasons(reasons, job, viewer, forms))
    output = shown_output(job, shown.tries, pod_tail)
    return JobView(
        job_item(job, now),
        shown.starting,
        message,
        explained,
        tuple((name, value) for name, value in shown.facts if name not in _AT_THE_TOP),
        shown.options,
        headings,
        str(now.tzinfo),
        attempts[-_SHOWN_ATTEMPTS:],
        attempts[:-_SHOWN_ATTEMPTS],
        timelines(job, shown.tries, now, newest=_SHOWN_ATTEMPTS, events=events, pulled=pulled),
        tuple(_causes(shown, job, {reason.advice for reason in reasons})),
        tuple(_said(shown, message)),
        _peaks(peaks) if len(peaks) > 1 else "",
        tuple(batch_of_job(batch, job.id) for batch in around.batches),
        tuple(
            Dependency(depth, link.needs_id, line(link.job_type), state_text(link))
            for depth, link in shown.needs
            if link is not None
        ),
        tuple(Dependency(0, each.job_id, line(each.job_type), state_text(each)) for each in around.dependents),
        dependency_graph(
            job,
            [link for _, link in shown.needs if link is not None],
            around.dependents,
            around.batches,
            around.followers,
            more=around.more or any(link is None for _, link in shown.needs),
        ),
        output if viewer.may_see_output and (output.lines or output.runs) else None,
        shown.payload,
        tuple(commands(job, cluster.namespace if cluster else "")),
        actions=tuple(form for form in forms if all(each.form is not form for each in explained)),
        priority=job.priority,
        has_checkpoints=has_checkpoints,
    )


def _forms(job: JobRequest, now: datetime, viewer: Viewer) -> Iterable[JobForm]:
    """Yield the forms that the job's state and the viewer's permissions allow, in the order of the page."""
    if JobAction.START in viewer.actions:
        if not why_not_now(job, now):
            yield JobForm.RUN_NOW
        if viewer.changes_priorities and not why_no_priority(job, 0):
            yield JobForm.PRIORITY
        if not why_not_resumed(job):
            yield JobForm.RESUME
        if job.suspended_at is None and not why_not_suspended(job):
            yield JobForm.SUSPEND
    if JobAction.CANCEL in viewer.actions and not job.state.final:
        yield JobForm.CANCEL
    if JobAction.RETRY in viewer.actions and job.state is JobState.FAILED:
        yield JobForm.RETRY


def _said(shown: Details, message: str) -> Iterable[tuple[str, str]]:
    """Yield what Kubernetes said about attempts, each text once."""
    found: dict[str, list[int]] = {}
    for number, text in shown.said:
        if not message.startswith(text.removesuffix("…")):
            found.setdefault(text, []).append(number)
    for text, numbers in found.items():
        first, last = numbers[0], numbers[-1]
        several = f"{first} to {last}" if numbers == [*range(first, last + 1)] else ", ".join(map(str, numbers))
        yield f"Attempt {first}" if len(numbers) == 1 else f"Attempts {several}", text


def _peaks(peaks: Sequence[int]) -> str:
    """Say how the peak memory of some successes has changed, in bytes, the newest first."""
    said = f"{memory(peaks[-1])} in the oldest of them, {memory(peaks[0])} in the newest"
    most = f", {memory(max(peaks))} at most" if max(peaks) > max(peaks[0], peaks[-1]) else ""
    return f"Peak memory of the newest {len(peaks)} successes of its type: {said}{most}."


def _causes(shown: Details, job: JobRequest, given: Container[str]) -> Iterable[KnownCause]:
    """Explain the causes of failed attempts.

    :param given: the advice that the page gives above.
    """
    error_types = {cells[_CAUSE]: cells[_ERROR] for cells in shown.attempts}
    for name, error_type in error_types.items():
        if job.state is JobState.FAILED and name == job.cause:
            continue  # it is explained above
        if (known := CAUSES.get(name)) is not None:
            text = advice(name, "", job.id, error_type) if job.state.final else known.advise(job.id, tried_again=True)
            needless = job.state is JobState.SUCCEEDED or line(text) in given
            yield KnownCause(name, known.meaning, "" if needless else line(text))


def commands(job: JobRequest, namespace: str) -> Iterable[tuple[str, str]]:
    """Yield commands that show more of a job."""
    yield "why it is in this state", f"spoke-jobs why {job.id}"
    yield "everything that is known", f"spoke-jobs show {job.id}"
    yield "its output", f"spoke-jobs logs {job.id}"
    if job.executor is Executor.CLUSTER:
        where = f" -n {namespace}" if namespace else ""
        name = spokejob_name(job.job_type, job.id, job.uid, job.run)
        yield "its SpokeJob", f"kubectl describe spokejob {name}{where}"
        yield "its pods", f"kubectl get pods -l {LABEL_REQUEST}={job.id}{where}"
