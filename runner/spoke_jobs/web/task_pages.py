"""The pages *Tasks* and *Task*: the outbox, and the retry of its failed tasks. These functions block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.contract.task_causes import TASK_CAUSES
from spoke_jobs.explain.task_details import NO_SUCH_TASK, task_advice, task_facts, task_meaning, task_payload
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.outbox.outbox_queries import LOOKED_THROUGH, OutboxQueries, ReplicaClaims, TaskFilter, TaskPage
from spoke_jobs.ledger.outbox.task_replicas import TaskReplica
from spoke_jobs.ledger.outbox_row import TaskRow, TaskState
from spoke_jobs.ledger.reading.dashboard_queries import CappedCount, DashboardQueries
from spoke_jobs.ledger.reading.outbox_counts import (
    EXAMINED,
    FAILED_COUNTED,
    REPLICAS,
    FailedTasks,
    NameCount,
    OutboxCounts,
)
from spoke_jobs.web.answers import Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import address
from spoke_jobs.web.query_values import texts_of, whole_number
from spoke_jobs.web.view_parts import Listing, StateCount, When, capped, has_died
from spoke_jobs.web.viewer import JobAction, Viewer

FILTERS = ("state", "name", "cause")
"""The names of the filters in the address."""
SHOWN = 200
"""The most names, and the most groups of failed tasks, that are shown: the largest ones."""
_SHOWN_ABOVE = frozenset({"name", "state", "cause", "meaning", "advice"})
"""Facts that the page of a task shows elsewhere."""


@dataclass(frozen=True, slots=True)
class NameItem:
    """The tasks of a name that have not failed for good."""

    name: str
    path: str
    """The address of their list."""
    due: str
    later: str
    claimed: str
    retried: str
    oldest: When | None


@dataclass(frozen=True, slots=True)
class FailedItem:
    """Tasks of a name that have failed for good for one cause."""

    number: str
    name: str
    cause: str
    meaning: str
    """What the cause means; empty if this release does not know it."""
    advice: str
    last: When | None
    newest_id: int
    path: str
    """The address of their list."""


@dataclass(frozen=True, slots=True)
class ReplicaItem:
    """A replica of the task deployment."""

    name: str
    claimed: str
    lapsed: str
    lease_ends: When


@dataclass(frozen=True, slots=True)
class SlotsItem:
    """The slots of a replica."""

    name: str
    state: str
    used: str
    """Of slots for `def` tasks; empty if the replica gives no sign any more."""
    used_async: str
    since: When
    seen: When


@dataclass(frozen=True, slots=True)
class Outbox:
    """The counts of all tasks."""

    counts: tuple[StateCount, ...]
    names: tuple[NameItem, ...]
    failed: tuple[FailedItem, ...]
    replicas: tuple[ReplicaItem, ...]
    """Those with claims."""
    slots: tuple[SlotsItem, ...]
    in_use: str
    """How many slots of all replicas are in use; empty if none gives a sign."""
    notes: tuple[str, ...]
    """What is not complete."""
    claims_missing: bool
    """Whether more replicas may have claims than the counted tasks tell."""


@dataclass(frozen=True, slots=True)
class TaskItem:
    """A task in a list."""

    task_id: int
    name: str
    state: str
    attempt: int
    cause: str
    replica: str
    dispatched: When
    due: When | None
    """When it may be claimed; None if it has failed for good, or is claimed."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task."""

    task_id: int
    state: str
    cause: str
    meaning: str
    advice: str
    facts: tuple[tuple[str, str], ...]
    payload: str
    """Empty if the viewer may not see it."""
    commands: tuple[tuple[str, str], ...]
    """What a command does, and the command."""
    can_retry: bool


def read_filter(query: Mapping[str, str]) -> tuple[TaskFilter, Mapping[str, str], str]:
    """Read the filters of an address. Return them, as they were given, too, and what is wrong with one of them."""
    given, problem = texts_of(FILTERS, query)
    states: tuple[TaskState, ...] | None = None
    if not problem and given.get("state", TaskState.DUE) not in [*TaskState]:
        problem = f"Choose one of these states: {', '.join(TaskState)}."
    elif not problem and "state" in given:
        states = (TaskState(given["state"]),)
    before = whole_number(query.get("before", ""), 1, LARGEST_ID)
    return TaskFilter(states, given.get("name"), given.get("cause"), before=before), given, problem


def outbox(counts: OutboxCounts, replicas: Sequence[TaskReplica] = ()) -> Outbox:
    """Describe the counts of all tasks.

    :param replicas: what replicas of the task deployment have said last.
    """
    alive = [one for one in replicas if not has_died(one, counts.now)]
    numbers = {
        TaskState.DUE: sum(one.due for one in counts.names),
        TaskState.LATER: sum(one.later for one in counts.names),
        TaskState.CLAIMED: sum(one.claimed for one in counts.names),
        TaskState.FAILED: sum(one.count for one in counts.failed),
    }
    more = {
        TaskState.DUE: counts.more_due,
        TaskState.LATER: counts.more_ahead,
        TaskState.CLAIMED: counts.more_ahead,
        TaskState.FAILED: counts.more_failed,
    }
    notes = []
    if counts.more_due:
        notes.append(f"The {EXAMINED:,} tasks that have been due for longest were counted; there may be more.")
    if counts.more_ahead:
        notes.append(f"Of the later and the claimed tasks, the next {EXAMINED:,} were counted; there may be more.")
    if counts.more_failed:
        notes.append(f"Of the failed tasks, the {FAILED_COUNTED:,} that failed last were counted; there may be more.")
    for what, found in (("names with the most due tasks", counts.names), ("largest groups of failures", counts.failed)):
        if len(found) > SHOWN:
            notes.append(f"These are the {SHOWN} {what}, of {len(found):,}.")
    if len(replicas) >= REPLICAS:
        notes.append(f"Slots are shown of the first {REPLICAS} replicas, by name; there may be more.")
    if counts.more_replicas:
        notes.append(f"These are the first {REPLICAS} replicas with claims, by name; there are more.")
    return Outbox(
        tuple(
            StateCount(
                state.value,
                capped(CappedCount(number, more[state])),
                address("/tasks", state=state),
            )
            for state, number in numbers.items()
        ),
        tuple(_name(one, counts.now) for one in counts.names[:SHOWN]),
        tuple(_failed(one, counts.now) for one in counts.failed[:SHOWN]),
        tuple(_replica(one, counts.now) for one in counts.replicas),
        tuple(_slots(one, counts.now) for one in replicas),
        _in_use(alive) if alive else "",
        tuple(notes),
        claims_missing=counts.more_due or counts.more_ahead,
    )


def _name(one: NameCount, now: datetime) -> NameItem:
    return NameItem(
        line(one.name),
        address("/tasks", name=one.name),
        f"{one.due:,}",
        f"{one.later:,}",
        f"{one.claimed:,}",
        f"{one.retried:,}",
        When.of(one.oldest_at, now) if one.oldest_at is not None else None,
    )


def _failed(one: FailedTasks, now: datetime) -> FailedItem:
    known = TASK_CAUSES.get(one.cause)
    return FailedItem(
        f"{one.count:,}",
        line(one.name),
        line(one.cause) or "unknown",
        task_meaning(one.cause),
        known.advise(one.newest_id) if known is not None else "",
        When.of(one.newest_at, now) if one.newest_at is not None else None,
        one.newest_id,
        address("/tasks", state=TaskState.FAILED, name=one.name, cause=one.cause),
    )


def _replica(one: ReplicaClaims, now: datetime) -> ReplicaItem:
    return ReplicaItem(
        line(one.replica) or "unknown", f"{one.claimed:,}", f"{one.lapsed:,}", When.planned(one.lease_ends_at, now)
    )


def _slots(one: TaskReplica, now: datetime) -> SlotsItem:
    died = has_died(one, now)
    return SlotsItem(
        line(one.name),
        "gone" if died else "alive",
        "" if died else f"{one.used:,} of {one.slots:,}",
        "" if died else f"{one.used_async:,} of {one.slots:,}",
        When.of(one.started_at, now),
        When.of(one.seen_at, now),
    )


def _in_use(alive: Sequence[TaskReplica]) -> str:
    slots, used, used_async = (sum(numbers) for numbers in zip(*(one[3:] for one in alive), strict=True))
    return f"{used:,} of {slots:,} by `def` tasks, {used_async:,} of {slots:,} by `async def` tasks"


def task_list(page: TaskPage, now: datetime, which: TaskFilter, given: Mapping[str, str], problem: str = "") -> Listing:
    """Describe tasks, newest first."""
    older, note = "", ""
    if page.more:
        older = address("/tasks", **given, before=page.tasks[-1].id)
    elif page.looked_down_to is not None:
        older = address("/tasks", **given, before=page.looked_down_to)
        note = (
            f"These filters were compared with {LOOKED_THROUGH:,} tasks, down to task {page.looked_down_to}. Older "
            "tasks may match, too."
        )
    return Listing(
        tuple(_item(task, now) for task in page.tasks),
        given,
        address("/tasks", **given) if which.before is not None else "",
        older,
        note,
        problem,
    )


def _item(task: TaskRow, now: datetime) -> TaskItem:
    waits = task.state in (TaskState.DUE, TaskState.LATER)
    return TaskItem(
        task.id,
        line(task.name),
        task.state.value,
        task.attempt,
        line(task.cause),
        line(task.worker),
        When.of(task.created_at, now),
        When.planned(task.due_at, now) if waits else None,
    )


def task_view(task: TaskRow, now: datetime, viewer: Viewer) -> TaskView:
    """Describe one task."""
    return TaskView(
        task.id,
        task.state.value,
        line(task.cause),
        task_meaning(task.cause),
        task_advice(task),
        tuple(fact for fact in task_facts(task, now) if fact[0] not in _SHOWN_ABOVE),
        task_payload(task) if viewer.may_see_payloads else "",
        (
            ("everything that is known", f"spoke-jobs outbox show {task.id}"),
            ("run it again if it has failed", f"spoke-jobs outbox retry {task.id}"),
        ),
        can_retry=JobAction.RETRY in viewer.actions and task.state is TaskState.FAILED,
    )


PER_PAGE = 50
_HERE = "/tasks"
_BACK = (_HERE, "Back to the tasks")
_TOO_SLOW = "Wait until the database has less to do, and reload the page."
_NOT_FOUND = refusal("Not found", f"There is no such task {NO_SUCH_TASK}.", 404, *_BACK)
SAID = {"retried": "The task is due again, with all its attempts."}
"""What the page says after an action, by a word in its address."""


class TaskPages:
    """Reads the outbox, and retries its tasks. Tasks belong to no organization.

    :param notify: makes the task deployment claim tasks.
    """

    def __init__(self, queries: DashboardQueries, outbox: OutboxQueries, notify: Callable[[], None]) -> None:
        self._queries = queries
        self._outbox = outbox
        self._notify = notify

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        yield Reading(_HERE, self._tasks, of_all=True, too_slow=_TOO_SLOW)
        yield Reading(f"{_HERE}/{{task_id}}", self._task, of_all=True, too_slow=_TOO_SLOW)
        yield Acting(f"{_HERE}/{{task_id}}/retry", self._retry, JobAction.RETRY, of_all=True)

    def _tasks(self, _viewer: Viewer, asked: Asked) -> Answer:
        which, given, problem = read_filter(asked.given)
        found = TaskPage([], more=False, looked_down_to=None) if problem else self._outbox.page(which, PER_PAGE)
        tasks = task_list(found, self._queries.now(), which, given, problem)
        # Whoever looks for tasks does not need the counts of all.
        counts = self._counts() if not given and which.before is None else None
        said = SAID.get(asked.given.get("said", ""), "")
        values = {"title": "Tasks", "tasks": tasks, "outbox": counts, "said": said}
        values |= {"states": [*TaskState], "causes": [*TASK_CAUSES]}
        return Page("tasks.html", values, 400 if problem else 200, live=not problem)

    def _counts(self) -> Outbox:
        return outbox(self._queries.outbox(), self._queries.task_replicas())

    def _task(self, viewer: Viewer, asked: Asked) -> Answer:
        task = self._found(asked)
        if task is None:
            return replace(_NOT_FOUND, live=True)  # so that a browser which shows the task learns that it has run
        view = task_view(task, self._queries.now(), viewer)
        return Page("task.html", {"title": f"Task {task.id}: {line(task.name, 80)}", "view": view}, live=True)

    def _retry(self, viewer: Viewer, asked: Asked) -> Answer:
        task = self._found(asked)
        if task is None:
            return _NOT_FOUND
        if not self._outbox.retry([task.id], actor_name(line(viewer.name))):
            text = f"The task is {task.state}, or has just been retried: only a failed task can be retried."
            return refusal("Nothing was changed", text, 409, f"{_HERE}/{task.id}", "Back to the task")
        self._notify()
        return Redirect(f"{_HERE}?said=retried")  # the task may have run by now, and is then gone

    def _found(self, asked: Asked) -> TaskRow | None:
        task_id = asked.id("task_id")
        return self._outbox.task(task_id) if task_id is not None else None
