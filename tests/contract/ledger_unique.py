"""What every ledger must do with the options ``unique_for`` and ``on_conflict``."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import LedgerSteps, new_job

from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import Failure, JobOptions, JobState

LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


class UniqueContract(LedgerSteps):
    """Dispatches with the unique key of an earlier one."""

    def test_a_job_that_has_succeeded_keeps_its_key_for_the_period(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job(unique_key="k", unique_for=60))
        ledger.insert(new_job(unique_key="l"))
        assert ledger.insert(new_job(unique_key="k", unique_for=60)) == first
        ledger.succeed(None, self.claim_next(ledger).token, None)
        ended = ledger.get(first.id)
        assert ledger.insert(new_job(unique_key="k", unique_for=60, on_conflict="replace")) == ended
        (row,) = ledger.insert_many([new_job(unique_key="k", unique_for=60)])
        assert row == ended
        assert ledger.insert(new_job(unique_key="other", unique_for=60)).id != first.id
        time.sleep(0.01)
        second = ledger.insert(new_job(unique_key="k", unique_for=0.005))
        assert second.id != first.id, "the period is over"
        assert ledger.insert(new_job(unique_key="k", unique_for=60)) == second

    @pytest.mark.parametrize("end", ["failed", "cancelled"])
    def test_a_job_that_has_not_succeeded_holds_no_key(self, ledger: Ledger, end: str) -> None:
        first = ledger.insert(new_job(unique_key="k", unique_for=60))
        if end == "cancelled":
            ledger.cancel(first.id)
        else:
            ledger.fail(self.claim_next(ledger).token, Failure("JobError", for_good=True), decide=True)
        assert ledger.insert(new_job(unique_key="k", unique_for=60)).id != first.id

    def test_a_waiting_job_gets_the_payload_and_the_due_time_of_the_next_dispatch(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job(unique_key="k", payload="1", priority=3, queue_name="q"))
        newer = JobOptions(payload_version=2, start_timeout_seconds=60, timeout_seconds=5)
        given = {"payload": "2", "run_after": LATER, "options": newer, "priority": 5, "queue_name": "r"}
        replaced = ledger.insert(new_job(unique_key="k", on_conflict="replace", **given))
        assert replaced == ledger.get(first.id)
        assert (replaced.payload, replaced.run_after, replaced.options.payload_version) == ("2", LATER, 2)
        assert replaced.start_by == LATER + timedelta(seconds=60)
        assert (replaced.options.timeout_seconds, replaced.priority, replaced.queue_name) == (None, 3, "q")
        assert ledger.insert(new_job(unique_key="k", payload="3")) == replaced, "only on request"
        (again,) = ledger.insert_many([new_job(unique_key="k", payload="4", on_conflict="replace")])
        assert (again.id, again.payload, again.run_after, again.start_by) == (first.id, "4", None, None)
        assert self.claim_next(ledger).job.payload == "4"

    def test_a_job_that_has_begun_or_has_another_type_stays(self, ledger: Ledger) -> None:
        ledger.insert(new_job(unique_key="k", payload="1"))
        other = ledger.insert(new_job(unique_key="other", payload="1", run_after=LATER))
        claim = self.claim_next(ledger)
        again = new_job(unique_key="k", payload="2", on_conflict="replace")
        assert ledger.insert(again) == claim.job
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        between = ledger.get(claim.job.id)
        assert between is not None
        assert between.state is JobState.WAITING
        assert ledger.insert(again) == between, "its next attempt goes on with what it has"
        assert ledger.insert(new_job(job_type="newer", unique_key="other", payload="2", on_conflict="replace")) == other
        ledger.cancel(claim.job.id)
        retried = ledger.retry(claim.job.id)
        assert ledger.insert(again) == retried, "so does a retry by hand, with its checkpoint"

    def test_a_blocked_job_gets_the_payload_of_the_next_dispatch_and_stays_blocked(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        blocked = ledger.insert(new_job(unique_key="k", payload="1", after=(first.id,)))
        replaced = ledger.insert(new_job(unique_key="k", payload="2", on_conflict="replace"))
        assert (replaced.id, replaced.payload, replaced.state) == (blocked.id, "2", JobState.BLOCKED)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.claim_next(ledger).job.payload == "2"
