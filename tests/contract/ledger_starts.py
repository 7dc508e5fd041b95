"""What every ledger must do when somebody changes when a job starts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.contract.ledger import EAGER, LEASE, SHORT, LedgerSteps, claim_next, claim_one, new_job, present
from tests.waiting import eventually

from spoke_jobs.contract.names import PRIORITY_LIMIT
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ChangeRefused, InvalidJobData
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import Failure, JobOptions, JobState, Pulse


class StartContract(LedgerSteps):
    """What the command line and the dashboard depend on."""

    # Run now

    def test_a_job_that_waits_for_its_time_runs_now(self, ledger: Ledger) -> None:
        options = JobOptions(retry=EAGER, start_timeout_seconds=100)
        job = ledger.insert(new_job(options=options, run_after=in_an_hour()))
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        changed = present(ledger.run_now(job.id))
        assert changed == ledger.get(job.id)
        assert changed.run_after is not None
        assert changed.start_by is not None
        timeout = changed.start_by - changed.run_after
        assert abs(timeout - timedelta(seconds=100)) < timedelta(milliseconds=1), "its start timeout begins now"
        assert changed.start_by < in_an_hour()
        assert self.claim_next(ledger).job.id == job.id

    def test_a_job_that_waits_for_its_next_attempt_runs_now(self, ledger: Ledger) -> None:
        options = JobOptions(retry=RetryPolicy(backoff_seconds=3600, jitter=0), start_timeout_seconds=100)
        job = ledger.insert(new_job(options=options))
        ledger.fail(self.claim_next(ledger).token, Failure("JobError", "no"), decide=True)
        waits = present(ledger.get(job.id))
        changed = present(ledger.run_now(job.id))
        assert (changed.cause, changed.attempt, changed.start_by) == ("JobError", 1, waits.start_by)
        assert self.claim_next(ledger).number == 2

    def test_what_does_not_wait_for_its_time_can_t_run_now(self, ledger: Ledger) -> None:
        due = ledger.insert(new_job())
        for_another = ledger.insert(new_job(after=(due.id,), run_after=in_an_hour()))
        self.assert_refused(ledger, due.id, "is due already")
        self.assert_refused(ledger, for_another.id, "is blocked until")
        claim = self.claim_next(ledger)
        self.assert_refused(ledger, due.id, "is running")
        ledger.succeed(None, claim.token, None)
        self.assert_refused(ledger, due.id, "has succeeded")
        ledger.cancel(for_another.id)
        self.assert_refused(ledger, for_another.id, f"has failed: `spoke-jobs retry {for_another.id}`")
        others = ledger.insert(new_job(runner="reference", run_after=in_an_hour()))
        self.assert_refused(ledger, others.id, "other code has taken")
        assert ledger.run_now(99_999) is None

    def test_one_that_is_run_now_passes_neither_others_nor_limits_and_pauses(self, ledger: Ledger) -> None:
        later = ledger.insert(new_job(run_after=in_an_hour(), limit_key="twilio"))
        running, first = (ledger.insert(new_job(limit_key="twilio", priority=number)) for number in (9, 5))
        ledger.limits.set(parse_scope("key:twilio"), lambda _old: Bounds(max_running=1), "ada")
        ledger.limits.pause(parse_scope("key:twilio"), "they asked")
        ledger.run_now(later.id)
        assert self.batch(ledger, 9) == [], "its key is paused"
        ledger.limits.resume(parse_scope("key:twilio"))
        claim = self.claim_next(ledger)
        assert claim.job.id == running.id
        assert self.batch(ledger, 9) == [], "the limit of its key is reached"
        ledger.succeed(None, claim.token, None)
        claim = self.claim_next(ledger)
        assert claim.job.id == first.id, "of a higher priority"
        ledger.succeed(None, claim.token, None)
        assert self.batch(ledger, 9) == [later.id]

    @pytest.mark.parametrize(("runner", "refused"), [("kubernetes", True), ("kubernetes-worker", False)])
    def test_the_operator_decides_when_a_later_attempt_in_a_pod_starts(
        self, ledger: Ledger, runner: str, refused: bool
    ) -> None:
        job = ledger.insert(new_job(runner=runner, run_after=in_an_hour()))
        changed = present(ledger.run_now(job.id))
        assert changed.state is JobState.WAITING, "sync creates its SpokeJob"
        ledger.fail(
            claim_next(ledger, runner=runner).token, Failure("RetryLater", retry_after_seconds=3600), decide=False
        )
        if refused:
            self.assert_refused(ledger, job.id, "has a SpokeJob")
            self.assert_refused(ledger, job.id, "if `spec.suspend` of its SpokeJob is true", ledger.resume)
        else:
            assert ledger.run_now(job.id) is not None
            assert claim_one(ledger, runner, ["report"], "w", LEASE) is not None

    # Priority

    def test_a_waiting_job_takes_its_new_place_in_the_order_of_claims(self, ledger: Ledger) -> None:
        first, second, third = (ledger.insert(new_job()) for _ in range(3))
        changed = present(ledger.set_priority(second.id, 7))
        assert changed == ledger.get(second.id)
        assert changed.priority == 7
        ledger.set_priority(first.id, -7)
        assert self.batch(ledger, 9) == [second.id, third.id, first.id]
        assert ledger.set_priority(99_999, 1) is None

    def test_a_blocked_job_keeps_the_priority_for_later(self, ledger: Ledger) -> None:
        needed = ledger.insert(new_job(priority=9))
        blocked, other = ledger.insert(new_job(after=(needed.id,))), ledger.insert(new_job())
        ledger.set_priority(blocked.id, 5)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.batch(ledger, 9) == [blocked.id, other.id]

    def test_one_that_waits_for_its_next_attempt_may_change_too(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(priority=1))
        ledger.fail(self.claim_next(ledger).token, Failure("JobError", "no"), decide=True)
        other = ledger.insert(new_job())
        ledger.set_priority(job.id, -1)
        assert self.batch(ledger, 9) == [other.id, job.id]

    def test_a_priority_that_no_job_can_have(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        wrong: list[Any] = [PRIORITY_LIMIT + 1, -PRIORITY_LIMIT - 1, 1.5, True, "7", None]
        for priority in wrong:
            with pytest.raises(InvalidJobData, match="priority is .*, where a whole number from -1000 to 1000"):
                ledger.set_priority(job.id, priority)
        assert ledger.get(job.id) == job
        for edge in (PRIORITY_LIMIT, -PRIORITY_LIMIT):
            assert ledger.set_priority(job.id, edge) == job.evolve(priority=edge)

    def test_the_priority_of_one_that_runs_or_has_ended_stays(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        self.assert_refused(ledger, claim.job.id, "is running", lambda job_id: ledger.set_priority(job_id, 1))
        ledger.succeed(None, claim.token, None)
        self.assert_refused(ledger, claim.job.id, "has succeeded", lambda job_id: ledger.set_priority(job_id, 1))

    # Suspend and resume

    def test_a_suspended_job_starts_once_it_is_resumed(self, ledger: Ledger) -> None:
        job, other = ledger.insert(new_job()), ledger.insert(new_job())
        held = present(ledger.suspend(job.id, "wait for the import"))
        assert held == ledger.get(job.id)
        assert held.suspended_at is not None
        assert held.evolve(suspended_at=None) == job
        assert ledger.suspend(job.id, "again") == held, "a second call changes nothing"
        assert self.batch(ledger, 9) == [other.id]
        resumed = present(ledger.resume(job.id))
        assert resumed.suspended_at is None
        assert resumed.run_after is not None
        assert resumed.run_after >= held.suspended_at, "its wait is measured from now"
        assert self.batch(ledger, 9) == [job.id]
        assert ledger.suspend(99_999) is None
        assert ledger.resume(99_999) is None

    @pytest.mark.parametrize("organization", [None, 3])
    def test_many_suspended_jobs_keep_no_other_from_starting(self, ledger: Ledger, organization: int | None) -> None:
        for job in ledger.insert_many([new_job(organization_id=organization, priority=9)] * 30):
            ledger.suspend(job.id)
        free = [ledger.insert(new_job(organization_id=number)).id for number in (organization, 4)]
        assert sorted(self.batch(ledger, 3) + self.batch(ledger, 3)) == free

    def test_the_time_while_it_is_suspended_counts_towards_no_start_timeout(self, ledger: Ledger) -> None:
        options = JobOptions(retry=EAGER, start_timeout_seconds=SHORT)
        job, other = ledger.insert(new_job(options=options)), ledger.insert(new_job(options=options))
        ledger.suspend(job.id)
        eventually(lambda: [one.id for one in ledger.expire_starts("legacy", ["report"])] == [other.id])
        resumed = present(ledger.resume(job.id))
        assert job.start_by is not None
        assert resumed.start_by is not None
        assert resumed.start_by > job.start_by
        eventually(lambda: [one.id for one in ledger.expire_starts("legacy", ["report"])] == [job.id])

    def test_a_running_attempt_goes_on_and_no_other_follows(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        assert ledger.suspend(claim.job.id) is not None
        assert ledger.heartbeat(claim.token, LEASE) is Pulse.HELD
        ledger.fail(claim.token, Failure("JobError", "no"), decide=True)
        assert self.row(ledger, claim).state is JobState.WAITING
        assert self.batch(ledger, 9) == []
        ledger.resume(claim.job.id)
        again = self.claim_next(ledger)
        assert again.number == 2
        ledger.suspend(claim.job.id)
        ledger.succeed(None, again.token, None)
        assert self.row(ledger, claim).state is JobState.SUCCEEDED

    def test_a_running_job_is_resumed_while_it_runs(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.suspend(claim.job.id)
        assert ledger.resume(claim.job.id) == claim.job

    def test_a_blocked_job_waits_for_both(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job())
        job = ledger.insert(new_job(after=(first.id,)))
        ledger.suspend(job.id)
        ledger.succeed(None, self.claim_next(ledger).token, None)
        assert self.batch(ledger, 9) == []
        ledger.resume(job.id)
        assert self.batch(ledger, 9) == [job.id]

    def test_a_resumed_job_waits_for_its_time(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(run_after=in_an_hour()))
        ledger.suspend(job.id)
        self.assert_refused(ledger, job.id, "is suspended")
        resumed = present(ledger.resume(job.id))
        assert resumed.run_after == job.run_after
        assert ledger.run_now(job.id) is not None

    def test_a_suspended_job_may_be_cancelled_and_a_retry_starts_it(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        ledger.suspend(job.id)
        ledger.cancel(job.id)
        again = present(ledger.retry(job.id))
        assert again.suspended_at is None
        assert self.batch(ledger, 9) == [job.id]

    def test_what_can_t_be_suspended_or_resumed(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        self.assert_refused(ledger, claim.job.id, "is not suspended", ledger.resume)
        ledger.succeed(None, claim.token, None)
        for change in (ledger.suspend, ledger.resume):
            self.assert_refused(ledger, claim.job.id, "has succeeded", change)
        job = ledger.insert(new_job())
        for reason in ("x" * 201, "a\0b", 7):
            with pytest.raises(InvalidJobData, match="the reason is .* at most 200 characters"):
                ledger.suspend(job.id, reason)  # type: ignore[arg-type]
        assert ledger.get(job.id) == job

    def assert_refused(
        self, ledger: Ledger, job_id: int, why: str, change: Callable[[int], object] | None = None
    ) -> None:
        before = ledger.get(job_id)
        with pytest.raises(ChangeRefused) as refusal:
            (change or ledger.run_now)(job_id)
        assert f"job {job_id}" in str(refusal.value)
        assert why in str(refusal.value)
        assert ledger.get(job_id) == before


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)
