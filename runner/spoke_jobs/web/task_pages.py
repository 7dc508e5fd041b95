"""The pages *Tasks* and *Task*: the outbox, and the retry of its failed tasks. These functions block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from spoke_jobs.explain.task_details import NO_SUCH_TASK
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.outbox.outbox_queries import OutboxQueries, TaskPage
from spoke_jobs.ledger.outbox_row import TaskRow
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.web import task_views
from spoke_jobs.web.answers import Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.viewer import JobAction, Viewer

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
        which, given, problem = task_views.read_filter(asked.given)
        found = TaskPage([], more=False, looked_down_to=None) if problem else self._outbox.page(which, PER_PAGE)
        tasks = task_views.task_list(found, self._queries.now(), which, given, problem)
        # Whoever looks for tasks does not need the counts of all.
        counts = self._counts() if not given and which.before is None else None
        values = {"title": "Tasks", "tasks": tasks, "outbox": counts, "said": SAID.get(asked.given.get("said", ""), "")}
        return Page("tasks.html", values, 400 if problem else 200, live=not problem)

    def _counts(self) -> task_views.Outbox:
        return task_views.outbox(self._queries.outbox(), self._queries.task_replicas())

    def _task(self, viewer: Viewer, asked: Asked) -> Answer:
        task = self._found(asked)
        if task is None:
            return replace(_NOT_FOUND, live=True)  # so that a browser which shows the task learns that it has run
        view = task_views.task_view(task, self._queries.now(), viewer)
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
