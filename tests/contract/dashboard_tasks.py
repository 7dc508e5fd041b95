"""The dashboard's pages *Tasks* and *Task*. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from tests.contract.dashboard_scene import EVERYBODY, DashboardScene, Open, cells, pages
from tests.contract.ledger import LEASE

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.outbox.task_outbox import Outbox, OutboxTask, TaskFailure, insert_task
from spoke_jobs.ledger.outbox.task_replicas import SlotUse
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import task_outbox, task_replica
from spoke_jobs.web import Viewer

NAMES = ["send", "mail"]
LOOKING = Viewer(name="grace", organizations=None)


class TasksContract(DashboardScene):
    """The outbox."""

    def put(self, ledger: SqlLedger, name: str = "send", payload: str = '{"to":"+15550100"}') -> None:
        with ledger.engine.begin() as connection:
            insert_task(connection, "kubernetes", name, payload)

    def claimed_task(self, ledger: SqlLedger, replica: str = "tasks-1", lease: float = LEASE) -> OutboxTask:
        (task,) = Outbox(ledger.engine, "kubernetes").claim(NAMES, replica, lease, 1)
        return task

    def failed_task(self, ledger: SqlLedger, name: str = "send", again: float | None = None) -> OutboxTask:
        self.put(ledger, name)
        task = self.claimed_task(ledger)
        assert task.name == name
        assert Outbox(ledger.engine, "kubernetes").fail(task, TaskFailure("TaskError", "app.Refused", again))
        return task

    def state(self, ledger: SqlLedger, task_id: int) -> str | None:
        with ledger.engine.connect() as connection:
            found: str | None = connection.scalar(select(task_outbox.c.state).where(task_outbox.c.id == task_id))
            return found

    def test_the_outbox_by_state_and_by_name(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed_task(ledger)
        self.failed_task(ledger, again=3600.0)
        self.put(ledger, "mail")
        self.claimed_task(ledger, "tasks-2")
        for _ in range(2):
            self.put(ledger, "mail")
        page = browse(EVERYBODY).get("/tasks").text
        for state, number in (("due", 2), ("later", 1), ("claimed", 1), ("failed", 1)):
            assert f'href="/tasks?state={state}"><span class="number">{number}</span> {state}' in page
        mail, send = self.table(page, "names")
        assert mail[:5] == ["mail", "2", "0", "1", "0"]
        assert mail[5].endswith(" ago")
        assert send == ["send", "0", "1", "0", "1", ""]
        assert len(self.table(page, "list")) == 5

    def test_replicas_with_claims(self, ledger: SqlLedger, browse: Open) -> None:
        for _ in range(3):
            self.put(ledger)
        self.claimed_task(ledger, "tasks-2")
        self.claimed_task(ledger, "tasks-1")
        lost = self.claimed_task(ledger, "tasks-1")
        with ledger.engine.begin() as connection:
            lapsed = update(task_outbox).where(task_outbox.c.id == lost.id)
            connection.execute(lapsed.values(due_at=clock_after(-60)))
        first, second = self.table(browse(EVERYBODY).get("/tasks").text, "replicas")
        assert first[:3] == ["tasks-1", "1", "1 (it may be gone)"]
        assert second[:3] == ["tasks-2", "1", "0"]
        assert second[3].startswith("in ")

    def test_counts_have_a_cap(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("ledger.reading.outbox_counts", "web.task_pages"):
            monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", 2)
            monkeypatch.setattr(f"spoke_jobs.{module}.FAILED_COUNTED", 1)
        monkeypatch.setattr("spoke_jobs.web.task_pages.SHOWN", 1)
        for name in NAMES:
            self.failed_task(ledger, name)
        newest = self.failed_task(ledger, "mail")
        for name in (*NAMES, "send"):
            self.put(ledger, name)
        page = browse(EVERYBODY).get("/tasks").text
        assert '<span class="number">2+</span> due' in page
        assert '<span class="number">1+</span> failed' in page
        assert "The 2 tasks that have been due for longest were counted; there may be more." in page
        assert "the 1 that failed last were counted" in page
        assert f'<a href="/tasks/{newest.id}">task {newest.id}</a>' in page, "not one that failed earlier"
        assert "These are the 1 names with the most due tasks, of 2." in page
        assert len(self.table(page, "names")) == 1

    def test_claims_are_counted_behind_more_due_tasks_than_are(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("ledger.reading.outbox_counts", "web.task_pages"):
            monkeypatch.setattr(f"spoke_jobs.{module}.EXAMINED", 2)
        for name in ("send", "send", "send", "mail"):
            self.put(ledger, name)
        Outbox(ledger.engine, "kubernetes").claim(["mail"], "tasks-1", LEASE, 1)
        page = browse(EVERYBODY).get("/tasks").text
        assert '<span class="number">2+</span> due' in page
        assert '<span class="number">1</span> claimed' in page
        (replica,) = self.table(page, "replicas")
        assert replica[:3] == ["tasks-1", "1", "0"]

    def test_the_last_failure_is_the_one_that_happened_last(self, ledger: SqlLedger, browse: Open) -> None:
        """A task that is retried keeps its id, so that the task with the highest id may have failed before it."""
        last, before, unknown = (self.failed_task(ledger) for _ in range(3))
        with ledger.engine.begin() as connection:
            for task, then in ((before, clock_after(-60)), (unknown, None)):
                connection.execute(update(task_outbox).where(task_outbox.c.id == task.id).values(finished_at=then))
        page = browse(EVERYBODY).get("/tasks").text
        assert f'<a href="/tasks/{last.id}">task {last.id}</a>' in page

    def test_each_filter(self, ledger: SqlLedger, browse: Open) -> None:
        self.failed_task(ledger)
        for name in NAMES:
            self.put(ledger, name)
        browser = browse(EVERYBODY)
        for query, found in (
            *(("state=failed", ["1"]), ("state=due", ["3", "2"]), ("name=ma*", ["3"]), ("cause=TaskError", ["1"])),
            *(("state=due&name=send", ["2"]), ("cause=Timeout", [])),
        ):
            page = browser.get(f"/tasks?{query}").text
            assert [row[0] for row in cells(page)] == found, query
            assert 'id="states"' not in page, "the counts are of all tasks"

    def test_tasks_have_pages(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spoke_jobs.web.task_pages.PER_PAGE", 2)
        for _ in range(5):
            self.put(ledger)
        browser = browse(EVERYBODY)
        assert [row[0] for row in pages(browser, "/tasks?name=send")] == ["5", "4", "3", "2", "1"]
        assert "Newest tasks" in browser.get("/tasks?before=3").text
        for query, text in (("before=1", "No older task is left"), ("before=1&name=send", "No older task matches")):
            page = browser.get(f"/tasks?{query}").text
            assert text in page
            assert "The outbox is empty" not in page
        assert '<h2 id="list">Older tasks</h2>' in browser.get("/tasks?before=3").text, "nothing has to match"
        assert '<h2 id="list">Tasks that match</h2>' in browser.get("/tasks?name=send").text

    def test_filters_are_compared_with_so_many_tasks_for_one_page(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("ledger.outbox.outbox_queries", "web.task_pages"):
            monkeypatch.setattr(f"spoke_jobs.{module}.LOOKED_THROUGH", 2)
        self.failed_task(ledger, "mail")
        for _ in range(4):
            self.put(ledger)
        browser = browse(EVERYBODY)
        page = browser.get("/tasks?name=mail").text
        assert "compared with 2 tasks, down to task 4. Older tasks may match" in page
        assert "None of these tasks matches the filters." in page
        assert [row[0] for row in pages(browser, "/tasks?name=mail")] == ["1"]
        for query in ("name=mail&before=2", "state=failed", "before=4"):
            page = browser.get(f"/tasks?{query}").text
            assert "1" in [row[0] for row in cells(page)]
            assert "Older tasks may match" not in page


class TaskPages(TasksContract):
    """What depends on no database."""

    def test_the_slots_of_replicas(self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        browser = browse(EVERYBODY)
        assert "No replica has said how many of its slots are in use." in browser.get("/tasks").text
        outbox = Outbox(ledger.engine, "kubernetes")
        for name, *use in (("tasks-1", 8, 3, 0), ("tasks-2", 1000, 1000, 2), ("gone", 8, 8, 8)):
            outbox.sign(name, SlotUse(*use), age_seconds=0, first=True)
        with ledger.engine.begin() as connection:
            died = update(task_replica).where(task_replica.c.name == "gone").values(seen_at=clock_after(-60))
            connection.execute(died)
        page = browser.get("/tasks").text
        assert "Slots in use: 1,003 of 1,008 by <code>def</code> tasks, 2 of 1,008 by" in page
        assert [row[:4] for row in self.table(page, "replicas")] == [
            ["gone", "gone", "", ""],
            ["tasks-1", "alive", "3 of 8", "0 of 8"],
            ["tasks-2", "alive", "1,000 of 1,000", "2 of 1,000"],
        ]
        assert "No replica has claimed a task." in page
        monkeypatch.setattr("spoke_jobs.web.task_pages.REPLICAS", 3)
        assert "Slots are shown of the first 3 replicas, by name; there may be more." in browser.get("/tasks").text

    def test_what_failed_for_good_has_its_cause_in_words(self, ledger: SqlLedger, browse: Open) -> None:
        first, last = self.failed_task(ledger), self.failed_task(ledger)
        self.failed_task(ledger, "mail")
        page = browse(EVERYBODY).get("/tasks").text
        assert '<a href="/tasks?state=failed&amp;name=send&amp;cause=TaskError"><strong>2</strong></a>' in page
        assert "The task&#39;s function raised an exception." in page
        assert f"spoke-jobs outbox retry {last.id}" in page
        assert f"spoke-jobs outbox retry {first.id}" not in page, "the advice is about the newest one"

    def test_tasks_of_each_runner_are_counted(self, ledger: SqlLedger, browse: Open) -> None:
        with ledger.engine.begin() as connection:
            for runner in ("kubernetes", "legacy", "another"):
                insert_task(connection, runner, "send", "{}")
        page = browse(EVERYBODY).get("/tasks").text
        assert '<span class="number">3</span> due' in page
        (send,) = self.table(page, "names")
        assert send[:2] == ["send", "3"]

    def test_the_list_of_replicas_has_an_end_and_says_so(
        self, ledger: SqlLedger, browse: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for replica in ("tasks-1", "tasks-2"):
            self.put(ledger)
            self.claimed_task(ledger, replica)
        for most, note in ((2, False), (1, True)):
            for module in ("ledger.reading.outbox_counts", "web.task_pages"):
                monkeypatch.setattr(f"spoke_jobs.{module}.REPLICAS", most)
            page = browse(EVERYBODY).get("/tasks").text
            assert len(self.table(page, "replicas")) == most
            assert (f"These are the first {most} replicas with claims, by name" in page) is note

    def test_a_task_with_its_attempts_and_advice(self, ledger: SqlLedger, browse: Open) -> None:
        task = self.failed_task(ledger, again=3600.0)
        browser, path = browse(EVERYBODY), f"/tasks/{task.id}"
        page = browser.get(path).text
        assert '<span class="state later">later</span> TaskError' in page
        assert "The task&#39;s function raised an exception." in page
        assert "The task is tried again." in page
        for name, value in (("attempt", "2"), ("error", "app.Refused"), ("replica", "tasks-1")):
            assert f"<dt>{name}</dt><dd>{value}</dd>" in page
        assert "<form" not in page, "only a failed task can be retried"

    def test_a_retry_is_recorded_under_the_viewers_name(self, ledger: SqlLedger, browse: Open) -> None:
        task = self.failed_task(ledger)
        browser = browse(EVERYBODY)
        answer = self.post(browser, f"/tasks/{task.id}/retry", f"/tasks/{task.id}")
        assert answer.headers["location"] == "/tasks?said=retried"
        assert "The task is due again" in browser.get(answer.headers["location"]).text
        again = self.claimed_task(ledger)
        assert (again.id, again.attempt) == (task.id, 1)
        (event,) = Queries(ledger.engine).events(9, EventFilter(action="retry task"))
        assert (event.actor, event.detail) == ("ada", f"task {task.id} (send)")

    def test_only_a_failed_task_can_be_retried(self, ledger: SqlLedger, browse: Open) -> None:
        task = self.failed_task(ledger)
        self.put(ledger)
        browser, shown_at = browse(EVERYBODY), f"/tasks/{task.id}"
        answer = self.post(browser, f"/tasks/{task.id + 1}/retry", shown_at)
        assert answer.status_code == 409
        assert "The task is due" in answer.text
        assert self.post(browser, "/tasks/999/retry", shown_at).status_code == 404
        assert Queries(ledger.engine).events(9, EventFilter(action="retry task")) == []
