"""The forms of the page *Job* that change when a job starts. These functions block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from spoke_jobs.errors import ChangeRefused, InvalidJobData
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest
from spoke_jobs.shared.clean_text import short_repr
from spoke_jobs.web.answers import NOT_FOUND, Acting, Answer, Asked, Reading, Redirect, unchanged_job
from spoke_jobs.web.viewer import JobAction, Viewer

Change = Callable[[int, Asked, str], JobRequest | None]
"""Changes a job, by its id, for somebody."""

_DIGITS = 20
"""More than any priority has, with its sign."""


class StartPages:
    """Changes when jobs start."""

    def __init__(self, ledger: SqlLedger, queries: DashboardQueries) -> None:
        self._ledger = ledger
        self._queries = queries

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        changes: dict[str, Change] = {
            "run-now": self._run_now,
            "priority": self._set_priority,
            "suspend": self._suspend,
            "resume": self._resume,
        }
        for name, change in changes.items():
            yield Acting(f"/jobs/{{job_id}}/{name}", partial(self._act, name, change), JobAction.START)

    def _act(self, name: str, change: Change, viewer: Viewer, asked: Asked) -> Answer:
        job_id = asked.id("job_id")
        if job_id is None or self._queries.job(job_id, viewer.narrowed()) is None:
            return NOT_FOUND
        if change == self._set_priority and not viewer.changes_priorities:
            text = "A priority concerns the jobs of all organizations, and you may see those of some only."
            return unchanged_job(job_id, text, 403)
        try:
            after = change(job_id, asked, actor_name(line(viewer.name)))
        except ChangeRefused as error:  # the texts are about this job alone
            return unchanged_job(job_id, str(error))
        except InvalidJobData as error:
            return unchanged_job(job_id, str(error), 400)
        return NOT_FOUND if after is None else Redirect(f"/jobs/{job_id}?said={name}")

    def _run_now(self, job_id: int, asked: Asked, by: str) -> JobRequest | None:
        return self._ledger.run_now(job_id, by)

    def _set_priority(self, job_id: int, asked: Asked, by: str) -> JobRequest | None:
        text = asked.given.get("priority", "").strip()
        try:
            priority = int(text if len(text) <= _DIGITS else "")
        except ValueError:
            raise InvalidJobData(f"the priority is {short_repr(text)}: give a whole number") from None
        return self._ledger.set_priority(job_id, priority, by)

    def _suspend(self, job_id: int, asked: Asked, by: str) -> JobRequest | None:
        return self._ledger.suspend(job_id, line(asked.given.get("reason", "")), by)

    def _resume(self, job_id: int, asked: Asked, by: str) -> JobRequest | None:
        return self._ledger.resume(job_id, by)
