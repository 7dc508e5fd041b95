"""What every ledger must do on request: unique keys, cancel, retry, start timeouts, retention, ``on_failure``."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import EAGER, LEASE, SHORT, LedgerSteps, claim_one, new_job, present
from tests.waiting import eventually

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import UniquenessConflict
from spoke_jobs.ledger.port import AlreadyFinal, Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import (
    FailedJob,
    Failure,
    JobFilter,
    JobOptions,
    JobRequest,
    JobState,
    Pulse,
)


class RequestContract(LedgerSteps):
    """What runners and the command line depend on."""

    # Uniqueness

    def test_of_unfinished_jobs_with_one_key_there_is_one(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job(unique_key="k"))
        assert ledger.insert(new_job(unique_key="k", campaign_id=99)) == first
        claim = self.claim_next(ledger)
        assert ledger.insert(new_job(unique_key="k")) == claim.job  # running, as it is by now
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert ledger.insert(new_job(unique_key="k")).id == first.id  # between two attempts
        assert ledger.insert(new_job(unique_key="other")).id != first.id

    @pytest.mark.parametrize("end", ["success", "failure", "cancelled"])
    def test_a_key_is_free_once_its_job_has_ended(self, ledger: Ledger, end: str) -> None:
        first = ledger.insert(new_job(unique_key="k"))
        if end == "cancelled":
            ledger.cancel(first.id)
        elif end == "success":
            ledger.succeed(None, self.claim_next(ledger).token, None)
        else:
            ledger.fail(self.claim_next(ledger).token, Failure("JobError", for_good=True), decide=True)
        second = ledger.insert(new_job(unique_key="k"))
        assert second.id != first.id
        assert second.state is JobState.WAITING

    # Cancel

    def test_a_waiting_job_is_cancelled_at_once(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        ended = present(ledger.cancel(job.id))
        assert ended == ledger.get(job.id)
        assert (ended.state, ended.cause, ended.status, ended.run_after) == (JobState.FAILED, "Cancelled", -1, None)
        assert ended.finished_at is not None
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        assert ledger.cancel(job.id) == ended  # a second call changes nothing
        assert ledger.cancel(job.id + 1) is None

    @pytest.mark.parametrize("end", ["fail", "fail, decided elsewhere", "reap", "retry later"])
    def test_a_running_job_is_asked_to_end_and_not_tried_again(self, ledger: Ledger, end: str) -> None:
        claim = self.started(ledger, SHORT if end == "reap" else LEASE)
        asked = present(ledger.cancel(claim.job.id))
        assert asked.state is JobState.RUNNING
        assert ledger.cancel(claim.job.id) == asked
        if end == "reap":
            eventually(lambda: len(ledger.reap("legacy")) == 1)
        else:
            failure = (
                Failure("RetryLater", retry_after_seconds=0) if end == "retry later" else Failure("JobError", "no")
            )
            assert ledger.fail(claim.token, failure, decide=end != "fail, decided elsewhere")
        job = self.row(ledger, claim)
        assert (job.state, job.cause, job.status) == (JobState.FAILED, "Cancelled", -1)
        assert ledger.attempts(job.id)[0].cause in {"JobError", "WorkerLost", "RetryLater"}  # the cause stays
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None

    def test_a_success_counts_although_somebody_asked_for_the_end(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.cancel(claim.job.id)
        ledger.succeed(None, claim.token, 1)
        assert self.row(ledger, claim).state is JobState.SUCCEEDED
        assert ledger.cancel(claim.job.id) == self.row(ledger, claim)

    def test_the_next_attempt_s_pod_finds_a_cancelled_job_final(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(queue_name="q", locks_queue=True))
        self.pod_claim(ledger, job, 1, SHORT)
        ledger.cancel(job.id)
        answers: list[object] = []

        def answered() -> bool:
            answers.append(self.pod_claim(ledger, job, 2))
            return not isinstance(answers[-1], Taken)

        eventually(answered)
        assert isinstance(answers[-1], AlreadyFinal)
        assert answers[-1].job.cause == "Cancelled"
        assert ledger.get(job.id) == answers[-1].job
        assert len(ledger.attempts(job.id)) == 1

    # Retry by hand

    def test_a_retry_starts_a_new_run_with_full_budgets(self, ledger: Ledger) -> None:
        options = JobOptions(retry=EAGER, start_timeout_seconds=1000)
        first = ledger.insert(new_job(options=options, unique_key="k", queue_name="q", locks_queue=True))
        for run in (1, 2):
            for number in (1, 2, 3):
                claim = self.claim_next(ledger)
                assert (claim.job.run, claim.number) == (run, number)
                ledger.fail(claim.token, Failure("JobError", "no"), decide=True)
            ended = self.row(ledger, claim)
            assert (ended.state, ended.run) == (JobState.FAILED, run)
            again = present(ledger.retry(first.id))
            assert again == ledger.get(first.id)
            blank = (JobState.WAITING, run + 1, 0, 0, "", "", False)
            assert (
                again.state, again.run, again.attempt, again.status, again.cause, again.result_message, again.assigned
            ) == blank  # fmt: skip
            times = (again.started_at, again.finished_at, again.expires_at, again.cancel_requested_at)
            assert times == (None,) * 4
            assert again.run_after is not None
            assert ended.finished_at is not None
            assert again.run_after >= ended.finished_at, "its wait is measured from now"
            assert again.start_by is not None
            assert first.start_by is not None
            assert again.start_by > first.start_by
        ledger.succeed(None, self.claim_next(ledger).token, None)
        attempts = [(attempt.run, attempt.number) for attempt in ledger.attempts(first.id)]
        assert attempts == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1)]

    def test_only_failed_jobs_are_retried(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        assert ledger.retry(job.id) == job
        claim = self.claim_next(ledger)
        assert ledger.retry(job.id) == claim.job
        ledger.succeed(None, claim.token, None)
        done = ledger.get(job.id)
        assert ledger.retry(job.id) == done
        assert ledger.get(job.id) == done
        assert ledger.retry(job.id + 1) is None

    def test_a_retry_is_refused_while_another_job_has_its_key(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job(unique_key="k"))
        ledger.cancel(first.id)
        second = ledger.insert(new_job(unique_key="k"))
        with pytest.raises(UniquenessConflict, match=rf"job {first.id} .*job {second.id} has its unique_key 'k'"):
            ledger.retry(first.id)
        assert [job.state for job in ledger.list_jobs()] == [JobState.WAITING, JobState.FAILED]
        ledger.cancel(second.id)
        again = present(ledger.retry(first.id))
        assert again.state is JobState.WAITING
        assert again.cancel_requested_at is None

    def test_a_job_retried_after_its_cancellation_runs(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.cancel(claim.job.id)
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        ledger.retry(claim.job.id)
        second = self.claim_next(ledger)
        assert ledger.heartbeat(second.token, LEASE) is Pulse.HELD
        ledger.fail(second.token, Failure("JobError"), decide=True)
        assert self.row(ledger, second).state is JobState.WAITING

    # Start timeouts

    def test_a_job_that_never_starts_ends_by_name(self, ledger: Ledger) -> None:
        brief = JobOptions(start_timeout_seconds=SHORT)
        known = ledger.insert(new_job(options=brief))
        family = ledger.insert(new_job(options=brief, job_type="ingest.csv"))
        unknown = ledger.insert(new_job(options=brief, job_type="newer"))
        patient = ledger.insert(new_job(options=JobOptions(start_timeout_seconds=1000)))
        endless = ledger.insert(new_job())
        tomorrow = ledger.insert(new_job(options=brief, run_after=datetime.now(UTC) + timedelta(days=1)))
        other = ledger.insert(new_job(options=brief, runner="kubernetes"))
        ended: list[JobRequest] = []

        def all_ended() -> bool:
            ended.extend(
                ledger.expire_starts("legacy", ["report", "ingest.*"], 1)
            )  # a limit holds nothing back for long
            return len(ended) == 3

        eventually(all_ended)
        assert {job.id: job.cause for job in ended} == {
            known.id: "StartTimeout",
            family.id: "StartTimeout",
            unknown.id: "UnknownJobType",
        }
        assert {job.id: job for job in ended} == {job.id: ledger.get(job.id) for job in ended}
        assert "'newer'" in next(job.result_message for job in ended if job.id == unknown.id)
        for job in (patient, endless, tomorrow, other):
            assert ledger.get(job.id) == job

    def test_a_job_that_has_started_once_has_started(self, ledger: Ledger) -> None:
        seconds = 1.0  # enough to claim it on a busy machine
        ledger.insert(new_job(options=JobOptions(retry=EAGER, start_timeout_seconds=seconds)))
        claim = self.claim_next(ledger)
        late = ledger.insert(new_job(options=JobOptions(start_timeout_seconds=seconds)))
        eventually(lambda: [job.id for job in ledger.expire_starts("legacy", ["report"])] == [late.id])
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert list(ledger.expire_starts("legacy", ["report"])) == []
        assert self.row(ledger, claim).state is JobState.WAITING

    # Retention

    def test_finished_jobs_are_pruned_when_their_own_retention_is_over(self, ledger: Ledger) -> None:
        brief, unfinished = JobOptions(retention_seconds=0, retry=EAGER), JobOptions(retention_seconds=0)
        kept = self.started(ledger)
        ledger.succeed(None, kept.token, None)
        ids = []
        for end in ("success", "failure", "cancelled"):
            job = ledger.insert(new_job(options=brief))
            ids.append(job.id)
            if end == "cancelled":
                ledger.cancel(job.id)
                continue
            claim = self.claim_next(ledger)
            if end == "success":
                ledger.succeed_many({claim.token: None})
            else:
                ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
        waiting = ledger.insert(new_job(options=unfinished, run_after=datetime.now(UTC) + timedelta(hours=1)))
        ledger.insert(new_job(options=unfinished, queue_name="q", locks_queue=True))
        running = self.claim_next(ledger)
        foreign = ledger.insert(new_job(options=brief, runner="kubernetes"))
        ledger.cancel(foreign.id)
        pruned: list[int] = []

        def all_pruned() -> bool:
            pruned.append(ledger.prune(2, which=JobFilter(runner="legacy")))
            return sum(pruned) == 3

        eventually(all_pruned)
        assert max(pruned) <= 2
        assert ledger.prune(which=JobFilter(runner="legacy")) == 0
        assert all(ledger.get(job_id) is None and list(ledger.attempts(job_id)) == [] for job_id in ids)
        assert {job.id for job in ledger.list_jobs()} == {kept.job.id, waiting.id, running.job.id, foreign.id}
        eventually(lambda: ledger.prune() == 1)
        assert ledger.get(foreign.id) is None
        ledger.succeed(None, running.token, None)
        done = self.row(ledger, kept)
        assert done.expires_at is not None
        assert done.finished_at is not None
        assert (done.expires_at - done.finished_at).total_seconds() == pytest.approx(7 * 86_400, abs=1)

    # What a job requests by raising

    def test_a_job_is_run_again_when_it_asked_to_be_and_uncharged(self, ledger: Ledger) -> None:
        ledger.insert(new_job(options=JobOptions(retry=RetryPolicy(budget={CauseClass.ERROR: 1}, jitter=0))))
        for _ in range(4):
            claim = self.claim_next(ledger)
            ledger.fail(claim.token, Failure("RetryLater", retry_after_seconds=0), decide=True)
            assert self.row(ledger, claim).state is JobState.WAITING
        claim = self.claim_next(ledger)
        assert claim.number == 5
        ledger.fail(claim.token, Failure("RetryLater", retry_after_seconds=4000), decide=True)
        job = self.row(ledger, claim)
        assert job.run_after is not None
        assert (job.run_after - job.updated_at).total_seconds() == pytest.approx(4000, abs=1)
        assert job.cause == "RetryLater"

    # on_failure

    @pytest.mark.parametrize("end", ["fail", "reap", "start timeout"])
    def test_a_final_failure_dispatches_its_job_once(self, ledger: Ledger, end: str) -> None:
        policy = RetryPolicy(budget={CauseClass.ERROR: 2, CauseClass.INFRASTRUCTURE: 1}, backoff_seconds=0)
        timeout = SHORT if end == "start timeout" else None
        options = JobOptions(retry=policy, on_failure="tell", start_timeout_seconds=timeout, pod_template="big")
        failing = ledger.insert(new_job(options=options, unique_key="k", priority=3))
        if end == "fail":
            for _ in range(2):
                assert self.of_type(ledger, "tell") == []
                ledger.fail(self.claim_next(ledger).token, Failure("JobError", "why"), decide=True)
        elif end == "reap":
            self.claim_next(ledger, SHORT)
            eventually(lambda: len(ledger.reap("legacy")) == 1)
        else:
            eventually(lambda: len(ledger.expire_starts("legacy", ["report"])) == 1)
        job = present(ledger.get(failing.id))
        (follows,) = self.of_type(ledger, "tell")
        told = FailedJob.model_validate_json(follows.payload)
        assert (told.id, told.uid, told.job_type) == (job.id, job.uid, "report")
        assert (told.cause, told.message) == (job.cause, job.result_message)
        assert (told.organization_id, told.campaign_id) == (3, 12)
        assert (follows.state, follows.runner, follows.organization_id) == (JobState.WAITING, "legacy", 3)
        assert follows.options.pod_template == "big"
        assert follows.options.on_failure == ""  # a failure of the hook dispatches no further job
        ledger.reap("legacy")
        ledger.expire_starts("legacy", ["report"])
        ledger.cancel(job.id)
        assert len(self.of_type(ledger, "tell")) == 1
        ledger.retry(job.id)
        ledger.cancel(job.id)
        assert len(self.of_type(ledger, "tell")) == 1

    def test_the_job_that_follows_a_failure_belongs_to_its_trace(self, ledger: Ledger) -> None:
        trace = f"00-{'1' * 32}-{'2' * 16}-01"
        once = RetryPolicy(budget={CauseClass.ERROR: 1})
        follower = {"options": JobOptions(timeout_seconds=7).to_json()}
        for known in (follower, None):
            options = JobOptions(retry=once, on_failure="tell", on_failure_as=known, traceparent=trace)
            ledger.insert(new_job(options=options))
            ledger.fail(self.claim_next(ledger).token, Failure("JobError", "why"), decide=True)
        followers = [job.options for job in self.of_type(ledger, "tell")]
        assert [options.traceparent for options in followers] == [trace, trace]
        assert sorted(options.timeout_seconds or 0 for options in followers) == [0, 7]

    @pytest.mark.parametrize("end", ["waiting", "running", "success"])
    def test_nothing_follows_a_cancellation_or_a_success(self, ledger: Ledger, end: str) -> None:
        job = ledger.insert(new_job(options=JobOptions(retry=EAGER, on_failure="tell")))
        if end == "waiting":
            ledger.cancel(job.id)
        else:
            claim = self.claim_next(ledger)
            ledger.cancel(job.id)
            if end == "running":
                ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
            else:
                ledger.succeed(None, claim.token, None)
        assert self.of_type(ledger, "tell") == []


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
        between = present(ledger.get(claim.job.id))
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
