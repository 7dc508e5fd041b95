"""What every ledger must do. Subclass it with a fixture ``ledger``, as unit and integration tests do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import Superseded, UniquenessConflict
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, Ledger, NoRow, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.model import (
    AttemptState,
    Claim,
    FailedJob,
    Failure,
    JobFilter,
    JobOptions,
    JobRequest,
    JobState,
    NewJob,
    Progress,
    Pulse,
    declared,
)

LEASE = 30.0
SHORT = 0.05
"""A lease that lapses while a test looks on."""
EAGER = RetryPolicy(backoff_seconds=0)


def new_job(**changes: object) -> NewJob:
    """A dispatch of no particular kind."""
    values: dict[str, object] = {
        "job_type": "report",
        "payload": '{"n":1}',
        "queue_name": "",
        "locks_queue": False,
        "organization_id": 3,
        "campaign_id": 12,
        "runner": "legacy",
        "assigned": False,
        "options": JobOptions(retry=EAGER),
    }
    return NewJob(**(values | changes))  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def claim_one(ledger: Ledger, runner: str, types: Sequence[str], worker: str, lease: float) -> Claim | None:
    """The first claim of a batch of one."""
    return next(iter(ledger.claim_batch(runner, types, worker, lease, 1)), None)


class LedgerContract:
    """The guarantees that workers, pods and runners build on."""

    def test_a_dispatched_job_reads_back_as_it_was_written(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(queue_name="12:edit", locks_queue=True))
        assert ledger.get(job.id) == job
        assert (job.state, job.status, job.attempt, job.run, job.cause) == (JobState.WAITING, 0, 0, 1, "")
        assert (job.queue_name, job.locks_queue, job.organization_id, job.campaign_id) == ("12:edit", True, 3, 12)
        assert job.created_at.tzinfo is not None
        assert ledger.get(job.id + 1) is None

    def test_the_oldest_job_is_claimed_first_and_once(self, ledger: Ledger) -> None:
        first, second = ledger.insert(new_job()), ledger.insert(new_job())
        claims = [self.claim_next(ledger), self.claim_next(ledger)]
        assert [claim.job.id for claim in claims] == [first.id, second.id]
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        assert claims[0].job.state is JobState.RUNNING
        assert claims[0].job.assigned
        assert claims[0].token != claims[1].token

    def test_only_known_types_of_the_own_runner_are_claimed(self, ledger: Ledger) -> None:
        ledger.insert(new_job(job_type="newer"))
        ledger.insert(new_job(runner="kubernetes"))
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None

    def test_success_is_recorded_with_its_result(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, {"rows": 5})
        job = self.row(ledger, claim)
        assert (job.state, job.status, job.result, job.cause) == (JobState.SUCCEEDED, 100, {"rows": 5}, "")
        assert job.finished_at is not None
        (attempt,) = ledger.attempts(job.id)
        assert (attempt.state, attempt.number, attempt.worker) == (AttemptState.SUCCEEDED, 1, "w")

    def test_a_token_counts_once(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, None)
        with pytest.raises(Superseded):
            ledger.succeed(None, claim.token, None)
        assert not ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert ledger.heartbeat(claim.token, LEASE, Progress(50, "late")) is Pulse.GONE
        assert self.row(ledger, claim).status == 100

    def test_a_stranger_s_token_counts_never(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        stranger = uuid.uuid4()
        with pytest.raises(Superseded):
            ledger.succeed(None, stranger, None)
        assert ledger.heartbeat(stranger, LEASE) is Pulse.GONE
        assert self.row(ledger, claim).state is JobState.RUNNING

    def test_heartbeats_carry_progress_and_renew(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        before = ledger.attempts(claim.job.id)[0].lease_expires_at
        assert ledger.heartbeat(claim.token, LEASE * 2, Progress(40, "row 400")) is Pulse.HELD
        job = self.row(ledger, claim)
        assert (job.status, job.result_message) == (40, "row 400")
        assert ledger.attempts(job.id)[0].lease_expires_at > before

    @pytest.mark.parametrize("message", ["a\x00b", "file \udcff.csv", "\U0001f600"])
    def test_progress_may_be_told_in_any_words(self, ledger: Ledger, message: str) -> None:
        claim = self.started(ledger)
        assert ledger.heartbeat(claim.token, LEASE, Progress(1, message)) is Pulse.HELD
        assert self.row(ledger, claim).result_message

    def test_a_failure_is_tried_again_until_its_budget_is_spent(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        for number in (1, 2, 3):
            claim = self.claim_next(ledger)
            assert claim.number == number
            assert ledger.fail(claim.token, Failure("JobError", "no", "ValueError", "tail"), decide=True)
            state = self.row(ledger, claim).state
            assert state is (JobState.WAITING if number < 3 else JobState.FAILED)
        job = self.row(ledger, claim)
        assert (job.cause, job.status, job.result_message) == ("JobError", -1, "no")
        attempts = ledger.attempts(job.id)
        assert [(a.number, a.state, a.error_type, a.output_tail) for a in attempts] == [
            (number, AttemptState.FAILED, "ValueError", "tail") for number in (1, 2, 3)
        ]

    def test_budgets_count_classes_apart(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        for cause in ("JobError", "Killed", "JobError", "WorkerLost"):
            claim = self.claim_next(ledger)
            ledger.fail(claim.token, Failure(cause), decide=True)
            assert self.row(ledger, claim).state is JobState.WAITING
        claim = self.claim_next(ledger)
        ledger.fail(claim.token, Failure("Killed"), decide=True)
        assert self.row(ledger, claim).state is JobState.FAILED

    def test_a_failure_for_good_is_final_at_once(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.fail(claim.token, Failure("InvalidPayload", for_good=True), decide=True)
        assert self.row(ledger, claim).state is JobState.FAILED

    @pytest.mark.parametrize("earlier", [0, 1])
    def test_a_claim_that_was_never_begun_is_undone(self, ledger: Ledger, earlier: int) -> None:
        job = ledger.insert(new_job(queue_name="q", locks_queue=True))
        for _ in range(earlier):
            ledger.fail(self.claim_next(ledger).token, Failure("JobError"), decide=True)
        before = ledger.get(job.id)
        claim = self.claim_next(ledger)
        assert ledger.release(claim.token)
        after = ledger.get(job.id)
        assert before is not None
        assert after == before.evolve(
            updated_at=after and after.updated_at,
            run_after=None,
            result_message="" if earlier else before.result_message,
        )
        assert len(ledger.attempts(job.id)) == earlier
        assert not ledger.release(claim.token)
        assert ledger.heartbeat(claim.token, LEASE) is Pulse.GONE
        assert self.claim_next(ledger).number == earlier + 1

    def test_a_claim_that_is_undone_after_a_cancellation_ends_the_job(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.cancel(claim.job.id)
        assert ledger.release(claim.token)
        assert (self.row(ledger, claim).state, self.row(ledger, claim).cause) == (JobState.FAILED, "Cancelled")

    def test_finished_jobs_are_pruned_by_hand_before_their_retention_is_over(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.succeed(None, claim.token, None)
        waiting = ledger.insert(new_job())
        assert ledger.prune(older_than_seconds=3600) == 0
        assert eventually(lambda: ledger.prune(older_than_seconds=0.01) == 1)
        assert ledger.get(claim.job.id) is None
        assert ledger.get(waiting.id) is not None

    def test_a_job_whose_start_timeout_is_over_is_not_started(self, ledger: Ledger) -> None:
        ledger.insert(new_job(options=JobOptions(retry=EAGER, start_timeout_seconds=0.01)))
        time.sleep(0.05)  # longer than that
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        assert eventually(lambda: len(ledger.expire_starts("legacy", ["report"])) == 1)

    def test_what_follows_a_failure_is_as_it_was_declared(self, ledger: Ledger) -> None:
        follower = declared(
            JobOptions(timeout_seconds=5, payload_version=2), queue_name="hooks", locks_queue=True, priority=7
        )
        options = JobOptions(retry=EAGER, on_failure="told", on_failure_as=follower)
        ledger.insert(new_job(options=options))
        ledger.fail(self.claim_next(ledger).token, Failure("JobError", for_good=True), decide=True)
        (told,) = ledger.list_jobs(which=JobFilter(job_type="told"))
        assert (told.queue_name, told.locks_queue, told.priority) == ("hooks", True, 7)
        assert (told.options.timeout_seconds, told.options.payload_version) == (5, 2)

    def test_a_retry_waits_out_its_backoff(self, ledger: Ledger) -> None:
        ledger.insert(new_job(options=JobOptions(retry=RetryPolicy(backoff_seconds=200, jitter=0))))
        claim = self.claim_next(ledger)
        ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        job = self.row(ledger, claim)
        assert job.run_after is not None
        assert 199 < (job.run_after - job.updated_at).total_seconds() < 201

    def test_without_decide_the_job_waits_for_whoever_decides(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.fail(claim.token, Failure("InvalidPayload", for_good=True), decide=False)
        assert self.row(ledger, claim).state is JobState.WAITING

    def test_locking_jobs_of_a_queue_exclude_one_another(self, ledger: Ledger) -> None:
        for _ in range(2):
            ledger.insert(new_job(queue_name="q", locks_queue=True))
        other = ledger.insert(new_job(queue_name="other", locks_queue=True))
        loose = ledger.insert(new_job(queue_name="q"))
        holder = self.claim_next(ledger)
        rest = [self.claim_next(ledger), self.claim_next(ledger)]
        assert {claim.job.id for claim in rest} == {other.id, loose.id}
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        ledger.succeed(None, holder.token, None)
        assert self.claim_next(ledger).job.queue_name == "q"

    @pytest.mark.parametrize("end", ["fail", "reap"])
    def test_every_end_of_an_attempt_releases_its_queue(self, ledger: Ledger, end: str) -> None:
        ledger.insert(new_job(queue_name="q", locks_queue=True))
        second = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = self.claim_next(ledger, SHORT)
        if end == "fail":
            ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
        else:
            assert eventually(lambda: len(ledger.reap("legacy")) == 1)
            again = self.claim_next(ledger)
            ledger.fail(again.token, Failure("JobError", for_good=True), decide=True)
        assert self.claim_next(ledger).job.id == second.id

    def test_a_lapsed_lease_is_reaped_and_its_owner_superseded(self, ledger: Ledger) -> None:
        claim = self.started(ledger, SHORT)
        assert eventually(lambda: len(ledger.reap("legacy")) == 1)
        job = self.row(ledger, claim)
        assert (job.state, job.cause) == (JobState.WAITING, "WorkerLost")
        with pytest.raises(Superseded):
            ledger.succeed(None, claim.token, None)
        assert self.claim_next(ledger).number == 2

    def test_the_reaper_leaves_valid_leases_and_other_runners_alone(self, ledger: Ledger) -> None:
        self.started(ledger)
        ledger.insert(new_job(runner="kubernetes"))
        claimed = claim_one(ledger, "kubernetes", ["report"], "w", SHORT)
        assert claimed is not None
        time.sleep(SHORT * 2)  # the lease is over; nothing to wait for but time itself
        assert list(ledger.reap("legacy")) == []

    # What pods ask for: one attempt of one job.

    def test_a_pod_claims_its_attempt(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(runner="kubernetes"))
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        assert (claim.number, claim.job.state) == (1, JobState.RUNNING)

    def test_a_row_of_another_database_is_no_row(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        assert isinstance(ledger.claim(job.id, uuid.uuid4(), 1, 1, "pod", LEASE), NoRow)
        assert isinstance(ledger.claim(job.id + 1, job.uid, 1, 1, "pod", LEASE), NoRow)

    def test_a_second_pod_waits_for_a_valid_claim(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        self.pod_claim(ledger, job, 1)
        answer = self.pod_claim(ledger, job, 1)
        assert isinstance(answer, Taken)
        assert 0 < answer.seconds_left <= LEASE

    def test_a_second_pod_takes_a_lapsed_claim_over(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job(queue_name="q", locks_queue=True))
        first = self.pod_claim(ledger, job, 1, SHORT)
        second = self.pod_claim_once_lapsed(ledger, job, 1)
        assert isinstance(first, Claim)
        assert second.number == 1
        with pytest.raises(Superseded):
            ledger.succeed(None, first.token, None)
        ledger.succeed(None, second.token, "mine")
        assert self.row(ledger, second).result == "mine"
        assert len(ledger.attempts(job.id)) == 1

    def test_the_next_attempt_s_pod_ends_a_lapsed_one(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        self.pod_claim(ledger, job, 1, SHORT)
        second = self.pod_claim_once_lapsed(ledger, job, 2)
        assert second.number == 2
        first = ledger.attempts(job.id)[0]
        assert (first.state, first.cause) == (AttemptState.FAILED, "WorkerLost")

    def test_an_older_attempt_s_pod_is_refused(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        assert isinstance(self.pod_claim(ledger, job, 2), Claim)
        assert isinstance(self.pod_claim(ledger, job, 1), NotThisAttempt)
        assert isinstance(ledger.claim(job.id, job.uid, 2, 3, "pod", LEASE), NotThisAttempt)

    def test_a_second_pod_learns_how_the_attempt_ended(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        ledger.fail(claim.token, Failure("InvalidResult", "secret", "a.B", for_good=True), decide=False)
        answer = self.pod_claim(ledger, job, 1)
        assert answer == AttemptOver(Failure("InvalidResult", error_type="a.B", for_good=True))

    def test_a_pod_of_a_finished_job_learns_its_outcome(self, ledger: Ledger) -> None:
        job = ledger.insert(new_job())
        claim = self.pod_claim(ledger, job, 1)
        assert isinstance(claim, Claim)
        ledger.succeed(None, claim.token, None)
        answer = self.pod_claim(ledger, job, 2)
        assert isinstance(answer, AlreadyFinal)
        assert answer.job.state is JobState.SUCCEEDED

    def test_a_pod_whose_queue_is_held_is_told_so(self, ledger: Ledger) -> None:
        first = ledger.insert(new_job(queue_name="q", locks_queue=True))
        second = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = self.pod_claim(ledger, first, 1)
        assert isinstance(self.pod_claim(ledger, second, 1), QueueHeld)
        assert ledger.get(second.id) == second
        assert isinstance(claim, Claim)
        ledger.succeed(None, claim.token, None)
        assert isinstance(self.pod_claim(ledger, second, 1), Claim)

    # Batches

    def test_a_batch_takes_the_highest_priority_first_then_the_oldest(self, ledger: Ledger) -> None:
        priorities = [0, 5, -3, 5, 0]
        jobs = [ledger.insert(new_job(priority=priority)) for priority in priorities]
        order = [jobs[1], jobs[3], jobs[0], jobs[4], jobs[2]]
        assert self.batch(ledger, 2) == [job.id for job in order[:2]]
        assert self.batch(ledger, 8) == [job.id for job in order[2:]]
        assert self.batch(ledger, 8) == []
        assert self.batch(ledger, 0) == []

    def test_claims_of_a_batch_are_as_good_as_single_ones(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(priority=7, queue_name="q"), new_job(campaign_id=None)])
        for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 4):
            job = ledger.get(claim.job.id)
            assert job == claim.job
            assert (job.state, job.assigned, job.attempt, claim.number) == (JobState.RUNNING, True, 1, 1)
            assert job.started_at is not None
            (attempt,) = ledger.attempts(job.id)
            assert (attempt.state, attempt.worker) == (AttemptState.RUNNING, "w")
            assert (attempt.lease_expires_at - attempt.claimed_at).total_seconds() == pytest.approx(LEASE, abs=1)
            ledger.succeed(None, claim.token, None)

    def test_a_job_for_later_waits_until_it_is_due(self, ledger: Ledger) -> None:
        hour, east = timedelta(hours=1), timezone(timedelta(hours=5))
        later = ledger.insert(new_job(run_after=datetime.now(east) + hour))
        due = ledger.insert(new_job(run_after=datetime.now(east) - hour))
        assert later.run_after is not None
        assert later.run_after.utcoffset() == timedelta(0) or later.run_after.tzinfo is east
        assert self.batch(ledger, 8) == [due.id]
        soon = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(seconds=SHORT)))
        assert eventually(lambda: self.batch(ledger, 8) == [soon.id])
        assert ledger.get(later.id) == later

    def test_a_naive_time_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(Exception, match=r"time zone"):
            ledger.insert(new_job(run_after=datetime(2030, 1, 1)))

    def test_prefixes_stand_for_the_names_that_begin_with_them(self, ledger: Ledger) -> None:
        names = ["ingest.csv", "ingest.a.b", "ingest", "ingestion.csv", "Ingest.csv", "a%.x", "ab.x", "a_.x", "ac.x"]
        names += ["back\\slash.x", "backslash.x", "report"]
        ids = {ledger.insert(new_job(job_type=name)).id: name for name in names}

        def taken(*types: str) -> list[str]:
            claims = ledger.claim_batch("legacy", types, "w", LEASE, 20)
            return [ids[claim.job.id] for claim in claims]

        assert taken("INGEST.*", "%", "_", "%.*", "*") == []
        assert taken() == []
        assert taken("ingest.*") == ["ingest.csv", "ingest.a.b"]
        assert taken("a%.*") == ["a%.x"]
        assert taken("a_.*", "back\\slash.*") == ["a_.x", "back\\slash.x"]
        assert taken("report", "ab.*") == ["ab.x", "report"]
        assert [job.job_type for job in ledger.list_jobs(9, JobFilter(job_type="ingest.*"))] == [
            "ingest.a.b",
            "ingest.csv",
        ]

    def test_of_a_locked_queue_a_batch_takes_one_and_goes_on_behind_the_others(self, ledger: Ledger) -> None:
        locked = [ledger.insert(new_job(queue_name="q", locks_queue=True)) for _ in range(12)]
        second = [ledger.insert(new_job(queue_name="r", locks_queue=True)) for _ in range(12)]
        loose = ledger.insert(new_job(queue_name="q"))
        # Many more stand at the head than the batch is long: they must not hide what comes behind.
        assert self.batch(ledger, 3) == [locked[0].id, second[0].id, loose.id]
        assert self.batch(ledger, 3) == []

    def test_what_is_not_due_at_the_head_hides_nothing(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(run_after=datetime.now(UTC) + timedelta(hours=1)) for _ in range(20)])
        ledger.insert_many([new_job(job_type="newer") for _ in range(20)])
        behind = ledger.insert(new_job())
        assert self.batch(ledger, 2) == [behind.id]

    def test_many_heartbeats_are_told_apart(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job() for _ in range(4)])
        held, told, asked, done = ledger.claim_batch("legacy", ["report"], "w", SHORT, 4)
        ledger.succeed(None, done.token, None)
        ledger.cancel(asked.job.id)
        stranger = uuid.uuid4()
        pulses = ledger.heartbeats(
            {
                held.token: None,
                told.token: Progress(30, "a\x00b"),
                asked.token: Progress(1, ""),
                done.token: None,
                stranger: None,
            },
            LEASE,
        )
        assert pulses == {
            held.token: Pulse.HELD,
            told.token: Pulse.HELD,
            asked.token: Pulse.CANCELLED,
            done.token: Pulse.GONE,
            stranger: Pulse.GONE,
        }
        assert [self.row(ledger, claim).status for claim in (held, told, asked, done)] == [0, 30, 1, 100]
        for claim in (held, told, asked):
            (attempt,) = ledger.attempts(claim.job.id)
            assert (attempt.lease_expires_at - attempt.heartbeat_at).total_seconds() == pytest.approx(LEASE, abs=1)
        assert ledger.heartbeats({}, LEASE) == {}

    def test_of_many_successes_those_count_that_hold_their_claims(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(queue_name=f"q{n}", locks_queue=True) for n in range(3)])
        first, lost, third = ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)
        ledger.fail(lost.token, Failure("JobError"), decide=True)
        results = {first.token: {"n": [1, None, "\u00e9"]}, lost.token: "late", uuid.uuid4(): 1, third.token: None}
        assert ledger.succeed_many(results) == {first.token, third.token}
        rows = [self.row(ledger, claim) for claim in (first, lost, third)]
        assert [(row.state, row.result) for row in rows] == [
            (JobState.SUCCEEDED, {"n": [1, None, "\u00e9"]}),
            (JobState.WAITING, None),
            (JobState.SUCCEEDED, None),
        ]
        assert rows[0].expires_at is not None
        assert ledger.succeed_many({}) == set()
        ledger.insert_many([new_job(queue_name=f"q{n}", locks_queue=True) for n in range(3)])
        assert len(ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)) == 3  # every queue is free again

    def test_many_jobs_are_written_in_the_order_given(self, ledger: Ledger) -> None:
        many = [new_job(campaign_id=n, unique_key=f"k{-n}" if n % 7 == 3 else None) for n in range(1200)]
        jobs = ledger.insert_many(many)
        assert [job.campaign_id for job in jobs] == list(range(1200))
        assert len({job.id for job in jobs}) == 1200
        plain = [job.id for job in jobs if job.unique_key is None]
        assert plain == sorted(plain)
        assert ledger.insert_many([]) == []

    def test_a_batch_names_an_existing_job_in_its_place(self, ledger: Ledger) -> None:
        there = ledger.insert(new_job(unique_key="k"))
        jobs = ledger.insert_many(
            [new_job(), new_job(unique_key="k"), new_job(unique_key="l"), new_job(unique_key="l")]
        )
        assert jobs[1] == there
        assert jobs[2] == jobs[3]
        assert len(ledger.list_jobs()) == 3

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
        ended = ledger.cancel(job.id)
        assert ended == ledger.get(job.id)
        assert ended is not None
        assert (ended.state, ended.cause, ended.status, ended.run_after) == (JobState.FAILED, "Cancelled", -1, None)
        assert ended.finished_at is not None
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None
        assert ledger.cancel(job.id) == ended  # once more changes nothing
        assert ledger.cancel(job.id + 1) is None

    @pytest.mark.parametrize("end", ["fail", "fail, decided elsewhere", "reap", "retry later"])
    def test_a_running_job_is_asked_to_end_and_not_tried_again(self, ledger: Ledger, end: str) -> None:
        claim = self.started(ledger, SHORT if end == "reap" else LEASE)
        asked = ledger.cancel(claim.job.id)
        assert asked is not None
        assert asked.state is JobState.RUNNING
        assert ledger.cancel(claim.job.id) == asked
        if end == "reap":
            assert eventually(lambda: len(ledger.reap("legacy")) == 1)
        else:
            failure = (
                Failure("RetryLater", retry_after_seconds=0) if end == "retry later" else Failure("JobError", "no")
            )
            assert ledger.fail(claim.token, failure, decide=end != "fail, decided elsewhere")
        job = self.row(ledger, claim)
        assert (job.state, job.cause, job.status) == (JobState.FAILED, "Cancelled", -1)
        assert ledger.attempts(job.id)[0].cause in {"JobError", "WorkerLost", "RetryLater"}  # what it died of stays
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

        assert eventually(answered)
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
            again = ledger.retry(first.id)
            assert again == ledger.get(first.id)
            assert again is not None
            blank = (JobState.WAITING, run + 1, 0, 0, "", "", False)
            assert (
                again.state, again.run, again.attempt, again.status, again.cause, again.result_message, again.assigned
            ) == blank  # fmt: skip
            times = (again.run_after, again.started_at, again.finished_at, again.expires_at, again.cancel_requested_at)
            assert times == (None,) * 5
            assert again.start_by is not None
            assert first.start_by is not None
            assert again.start_by > first.start_by
        claim = self.claim_next(ledger)
        ledger.succeed(None, claim.token, None)
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
        again = ledger.retry(first.id)
        assert again is not None
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

        assert eventually(all_ended)
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
        ledger.insert(new_job(options=JobOptions(retry=EAGER, start_timeout_seconds=SHORT)))
        claim = self.claim_next(ledger)
        late = ledger.insert(new_job(options=JobOptions(start_timeout_seconds=SHORT)))
        assert eventually(lambda: [job.id for job in ledger.expire_starts("legacy", ["report"])] == [late.id])
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
            pruned.append(ledger.prune(2, "legacy"))
            return sum(pruned) == 3

        assert eventually(all_pruned)
        assert max(pruned) <= 2
        assert ledger.prune(runner="legacy") == 0
        assert all(ledger.get(job_id) is None and list(ledger.attempts(job_id)) == [] for job_id in ids)
        assert {job.id for job in ledger.list_jobs()} == {kept.job.id, waiting.id, running.job.id, foreign.id}
        assert eventually(lambda: ledger.prune() == 1)
        assert ledger.get(foreign.id) is None
        ledger.succeed(None, running.token, None)
        done = self.row(ledger, kept)
        assert done.expires_at is not None
        assert done.finished_at is not None
        assert (done.expires_at - done.finished_at).total_seconds() == pytest.approx(7 * 86_400, abs=1)

    # What a job asks for by raising

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

    def test_a_discarded_job_is_final_with_its_reason(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.fail(claim.token, Failure("Discarded", "no longer wanted", for_good=True), decide=True)
        job = self.row(ledger, claim)
        assert (job.state, job.cause, job.result_message) == (JobState.FAILED, "Discarded", "no longer wanted")

    # Claims that are given back

    def test_a_claim_given_back_leaves_the_job_as_it_was(self, ledger: Ledger) -> None:
        options = JobOptions(retry=EAGER, start_timeout_seconds=1000)
        job = ledger.insert(new_job(queue_name="q", locks_queue=True, options=options, priority=4))
        second = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = self.claim_next(ledger)
        assert ledger.release(claim.token)
        again = self.row(ledger, claim)
        assert again.evolve(updated_at=job.updated_at) == job
        assert list(ledger.attempts(job.id)) == []
        assert not ledger.release(claim.token)
        assert ledger.heartbeat(claim.token, LEASE) is Pulse.GONE
        assert not ledger.fail(claim.token, Failure("JobError"), decide=True)
        assert ledger.get(job.id) == again
        for number in (1, 2):  # the number is given anew, and counts in no budget
            claim = self.claim_next(ledger)
            assert (claim.job.id, claim.number) == (job.id, number)
            ledger.fail(claim.token, Failure("JobError"), decide=True)
            claim = self.claim_next(ledger)
            assert ledger.release(claim.token)
            assert self.row(ledger, claim).started_at is not None
        assert self.batch(ledger, 2) == [job.id]
        assert ledger.get(second.id) == second

    def test_a_claim_given_back_after_a_cancellation_ends_the_job(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.cancel(claim.job.id)
        assert ledger.release(claim.token)
        job = self.row(ledger, claim)
        assert (job.state, job.cause, job.status) == (JobState.FAILED, "Cancelled", -1)
        assert claim_one(ledger, "legacy", ["report"], "w", LEASE) is None

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
            assert eventually(lambda: len(ledger.reap("legacy")) == 1)
        else:
            assert eventually(lambda: len(ledger.expire_starts("legacy", ["report"])) == 1)
        job = ledger.get(failing.id)
        assert job is not None
        (follows,) = self.of_type(ledger, "tell")
        told = FailedJob.model_validate_json(follows.payload)
        assert (told.id, told.uid, told.job_type) == (job.id, job.uid, "report")
        assert (told.cause, told.message) == (job.cause, job.result_message)
        assert (told.organization_id, told.campaign_id) == (3, 12)
        assert (follows.state, follows.runner, follows.organization_id) == (JobState.WAITING, "legacy", 3)
        assert follows.options.pod_template == "big"
        assert follows.options.on_failure == ""  # a hook that fails is not told of itself
        ledger.reap("legacy")
        ledger.expire_starts("legacy", ["report"])
        ledger.cancel(job.id)
        assert len(self.of_type(ledger, "tell")) == 1
        ledger.retry(job.id)
        ledger.cancel(job.id)
        assert len(self.of_type(ledger, "tell")) == 1

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

    # Helpers

    def started(self, ledger: Ledger, lease: float = LEASE) -> Claim:
        ledger.insert(new_job())
        return self.claim_next(ledger, lease)

    def claim_next(self, ledger: Ledger, lease: float = LEASE) -> Claim:
        claim = claim_one(ledger, "legacy", ["report"], "w", lease)
        assert claim is not None
        return claim

    def batch(self, ledger: Ledger, limit: int) -> list[int]:
        return [claim.job.id for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, limit)]

    def of_type(self, ledger: Ledger, name: str) -> list[JobRequest]:
        return list(ledger.list_jobs(100, JobFilter(job_type=name)))

    def pod_claim(self, ledger: Ledger, job: JobRequest, number: int, lease: float = LEASE) -> object:
        return ledger.claim(job.id, job.uid, 1, number, "pod", lease)

    def pod_claim_once_lapsed(self, ledger: Ledger, job: JobRequest, number: int) -> Claim:
        answers: list[object] = []

        def claimed() -> bool:
            answers.append(self.pod_claim(ledger, job, number))
            return isinstance(answers[-1], Claim)

        assert eventually(claimed)
        claim = answers[-1]
        assert isinstance(claim, Claim)
        return claim

    def row(self, ledger: Ledger, claim: Claim) -> JobRequest:
        job = ledger.get(claim.job.id)
        assert job is not None
        return job
