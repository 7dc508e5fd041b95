"""The events of the ledger: who changed what, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import claim_next, new_job, present, succeed_new
from tests.waiting import eventually

from spoke_jobs.errors import ChangeRefused, UniquenessConflict
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_event


class EventsContract:
    """Whoever changes a job, the event says so. Subclass it with fixtures ``ledger`` and ``queries``."""

    def test_who_did_what(self, ledger: SqlLedger, queries: Queries) -> None:
        waiting = ledger.insert(new_job(job_type="export"))
        assert ledger.cancel(waiting.id, "ada@laptop").result_message == "ada@laptop cancelled the job."  # type: ignore[union-attr]
        ledger.cancel(waiting.id, "nobody"), ledger.cancel(999, "nobody")
        ledger.retry(waiting.id, "grace@desk"), ledger.retry(waiting.id, "nobody")
        ledger.insert(new_job())
        claim = claim_next(ledger)
        running = claim.job
        ledger.cancel(running.id), ledger.cancel(running.id, "nobody")
        found = [(event.actor, event.action, event.job_id, event.detail) for event in queries.events()]
        assert found == [
            ("", "cancel", running.id, "running"),
            ("grace@desk", "retry", waiting.id, "run 2"),
            ("ada@laptop", "cancel", waiting.id, "waiting"),
        ]
        assert [event.action for event in queries.events(which=EventFilter(job_id=waiting.id))] == ["retry", "cancel"]
        assert [event.job_type for event in queries.events(1, EventFilter(action="retry", actor="grace@*"))] == [
            "export"
        ]
        assert queries.events(which=EventFilter(since=queries.now() + timedelta(minutes=1))) == []

    def test_a_change_of_a_start_is_an_event_with_the_old_value(self, ledger: SqlLedger, queries: Queries) -> None:
        at = datetime(2999, 3, 1, 8, tzinfo=UTC)
        job = ledger.insert(new_job(run_after=at))
        ledger.run_now(job.id, "ada@laptop")
        with pytest.raises(ChangeRefused):
            ledger.run_now(job.id, "nobody")
        for priority in (5, 5):  # the second one changes nothing
            ledger.set_priority(job.id, priority, "grace@desk")
        for reason in ("wait for the import", "again"):  # the second one changes nothing
            ledger.suspend(job.id, reason, "ada@laptop")
        ledger.resume(job.id, "grace@desk")
        events = queries.events()
        found = [(event.actor, event.action, event.job_id, event.detail) for event in events]
        assert found == [
            ("grace@desk", "resume job", job.id, ""),
            ("ada@laptop", "suspend job", job.id, "wait for the import"),
            ("grace@desk", "set priority", job.id, "5, not 0"),
            ("ada@laptop", "run now", job.id, "due now, not at 2999-03-01 08:00:00 UTC"),
        ]
        situation = present(queries.situation(job.id))
        assert situation.takers.rules_since == events[2].at, "before, other jobs came first"

    def test_deleting_by_hand_is_an_event_and_regular_deleting_is_none(
        self, ledger: SqlLedger, queries: Queries
    ) -> None:
        for by in ("", "ada@laptop"):
            succeed_new(ledger)
            eventually(lambda by=by: ledger.prune(older_than_seconds=0.0, by=by) == 1)  # type: ignore[misc]
        assert [(event.actor, event.action, event.detail) for event in queries.events()] == [
            ("ada@laptop", "prune", "1 jobs")
        ]

    def test_an_event_is_there_exactly_if_its_change_is(self, ledger: SqlLedger, queries: Queries) -> None:
        first = ledger.insert(new_job(unique_key="k"))
        ledger.cancel(first.id, "ada@laptop")
        ledger.insert(new_job(unique_key="k"))
        with pytest.raises(UniquenessConflict):
            ledger.retry(first.id, "ada@laptop")
        assert [event.action for event in queries.events()] == ["cancel"]

    def test_events_are_deleted_after_a_year(self, ledger: SqlLedger, queries: Queries) -> None:
        job = ledger.insert(new_job())
        ledger.cancel(job.id)
        ledger.retry(job.id)
        last = queries.events()[-1]
        with ledger.engine.begin() as connection:
            old = job_event.update().where(job_event.c.id == last.id).values(at=last.at - timedelta(days=366))
            connection.execute(old)
        ledger.prune()
        assert [event.action for event in queries.events()] == ["retry"]
