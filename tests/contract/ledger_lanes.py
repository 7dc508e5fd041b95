"""Who takes the jobs of each lane of the runner ``kubernetes``. A part of the contract of every ledger."""

from __future__ import annotations

import pytest
from tests.contract.ledger import EAGER, LEASE, SHORT, LedgerSteps, claim_one, new_job, present
from tests.waiting import eventually

from spoke_jobs.contract.cause_classes import CauseClass
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER, row_runner
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.port import QueueHeld
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import Claim, Failure, JobData, JobOptions, JobRequest, JobState, NewJob, declared
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job


def of_lane(lane: str, **changes: object) -> NewJob:
    """Make a dispatch under ``kubernetes``."""
    options = JobOptions(retry=EAGER, lane=lane)
    return new_job(**({"runner": row_runner(CLUSTER_RUNNER, lane), "options": options} | changes))


class LaneContract(LedgerSteps):
    """A job of the lane ``worker`` is claimed by the workers of that lane, and by nobody else."""

    def dispatched(self, ledger: Ledger, lane: str) -> JobRequest:
        """Dispatch a job as the runner ``kubernetes`` does, and return its row as another process reads it."""
        registry = Registry()
        registry.job("report")(lambda _ctx, _payload: None)
        inserted = ledger.insert(prepare_job(JobData("report", lane=lane), registry, runner=CLUSTER_RUNNER))
        return present(ledger.get(inserted.id))

    def next_of_lane(self, ledger: Ledger, runner: str = LANE_RUNNER) -> Claim | None:
        return claim_one(ledger, runner, ["report"], "w", LEASE)

    def test_the_workers_of_a_lane_claim_its_jobs_only(self, ledger: Ledger) -> None:
        for lane in ("pod", "worker", "pod"):
            self.dispatched(ledger, lane)
        ledger.insert(new_job(runner="legacy"))
        claim = present(self.next_of_lane(ledger))
        assert claim.job.options.lane == "worker"
        assert self.next_of_lane(ledger) is None, "the others are in pods, or of other workers"

    def test_other_workers_leave_the_lane_alone(self, ledger: Ledger) -> None:
        job = self.dispatched(ledger, "worker")
        for runner in ("legacy", "memory", CLUSTER_RUNNER):
            assert self.next_of_lane(ledger, runner) is None
        found = present(ledger.get(job.id))
        assert found.state is JobState.WAITING

    @pytest.mark.parametrize("first", ["pod", "worker"])
    def test_one_lock_of_a_queue_serves_both_lanes(self, ledger: Ledger, first: str) -> None:
        pod = ledger.insert(of_lane("pod", queue_name="q", locks_queue=True))
        ledger.insert(of_lane("worker", queue_name="q", locks_queue=True))
        if first == "pod":
            held = ledger.claim(pod.id, pod.uid, 1, 1, "pod", LEASE)
            assert isinstance(held, Claim)
            assert self.next_of_lane(ledger) is None
            ledger.succeed(None, held.token, None)
            assert self.next_of_lane(ledger) is not None
        else:
            claimed = present(self.next_of_lane(ledger))
            assert isinstance(ledger.claim(pod.id, pod.uid, 1, 1, "pod", LEASE), QueueHeld)
            ledger.succeed(None, claimed.token, None)
            assert isinstance(ledger.claim(pod.id, pod.uid, 1, 1, "pod", LEASE), Claim)

    @pytest.mark.parametrize(("lane", "following"), [("pod", "worker"), ("worker", "pod")])
    def test_what_follows_a_failure_runs_in_its_own_lane(self, ledger: Ledger, lane: str, following: str) -> None:
        follower = declared(JobOptions(lane=following), queue_name="", locks_queue=False, priority=0)
        options = JobOptions(retry=EAGER, lane=lane, on_failure="told", on_failure_as=follower)
        job = ledger.insert(of_lane(lane, options=options))
        claim = ledger.claim(job.id, job.uid, 1, 1, "w", LEASE)
        assert isinstance(claim, Claim)
        ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
        (told,) = [row for row in ledger.list_jobs() if row.job_type == "told"]
        assert told.runner == row_runner(CLUSTER_RUNNER, following)

    def test_a_failed_job_is_retried_by_hand_in_its_lane(self, ledger: Ledger) -> None:
        ledger.insert(of_lane("worker"))
        claim = present(self.next_of_lane(ledger))
        ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
        assert self.next_of_lane(ledger) is None
        ledger.retry(claim.job.id)
        again = present(self.next_of_lane(ledger))
        assert (again.job.id, again.job.run, again.number) == (claim.job.id, 2, 1)

    def test_jobs_of_both_lanes_may_depend_on_each_other(self, ledger: Ledger) -> None:
        pod = ledger.insert(of_lane("pod"))
        job = ledger.insert(of_lane("worker", after=(pod.id,)))
        assert self.next_of_lane(ledger) is None
        held = ledger.claim(pod.id, pod.uid, 1, 1, "pod", LEASE)
        assert isinstance(held, Claim)
        ledger.succeed(None, held.token, None)
        claim = present(self.next_of_lane(ledger))
        assert claim.job.id == job.id

    def failed_in_worker(self, ledger: Ledger, cause: str, **changes: object) -> JobRequest:
        """Let the first attempt of a job in a worker fail."""
        ledger.insert(of_lane("worker", **changes))
        claim = present(self.next_of_lane(ledger))
        assert ledger.fail(claim.token, Failure(cause, "why"), decide=True)
        return self.row(ledger, claim)

    @pytest.mark.parametrize("cause", ["OutOfMemory", "WorkerLost"])
    def test_after_an_attempt_that_was_killed_a_job_moves_to_a_pod(self, ledger: Ledger, cause: str) -> None:
        job = self.failed_in_worker(ledger, cause, queue_name="q", locks_queue=True)
        assert (job.runner, job.state, job.run, job.attempt) == (CLUSTER_RUNNER, JobState.WAITING, 2, 0)
        assert (job.cause, job.result_message, job.submitted_at) == (cause, "why", None)
        assert self.next_of_lane(ledger) is None, "no worker takes it again"
        in_pod = ledger.claim(job.id, job.uid, 2, 1, "pod", LEASE)
        assert isinstance(in_pod, Claim), "and the queue's lock is free"
        ledger.succeed(None, in_pod.token, "done")
        in_worker, moved = ledger.attempts(job.id)
        assert (in_worker.runner, moved.runner) == (LANE_RUNNER, CLUSTER_RUNNER)
        assert in_worker.finished_at is not None
        assert moved.due_at is not None
        assert moved.due_at >= in_worker.finished_at, "since then it has waited for a pod"
        assert self.row(ledger, in_pod).result == "done"

    @pytest.mark.parametrize("cause", ["JobError", "Interrupted"])
    def test_after_any_other_failure_it_stays_in_its_lane(self, ledger: Ledger, cause: str) -> None:
        job = self.failed_in_worker(ledger, cause)
        assert (job.runner, job.state, job.run, job.attempt) == (LANE_RUNNER, JobState.WAITING, 1, 1)

    def test_a_job_whose_budget_is_spent_does_not_move(self, ledger: Ledger) -> None:
        once = JobOptions(retry=RetryPolicy({CauseClass.ERROR: 1, CauseClass.INFRASTRUCTURE: 1}), lane="worker")
        job = self.failed_in_worker(ledger, "Killed", options=once)
        assert (job.runner, job.state, job.run, job.cause) == (LANE_RUNNER, JobState.FAILED, 1, "Killed")

    def test_a_cancelled_job_does_not_move(self, ledger: Ledger) -> None:
        ledger.insert(of_lane("worker"))
        claim = present(self.next_of_lane(ledger))
        ledger.cancel(claim.job.id)
        ledger.fail(claim.token, Failure("Killed"), decide=True)
        job = self.row(ledger, claim)
        assert (job.runner, job.state, job.cause) == (LANE_RUNNER, JobState.FAILED, "Cancelled")

    def test_a_job_that_is_lost_with_its_worker_moves(self, ledger: Ledger) -> None:
        ledger.insert(of_lane("worker"))
        (claim,) = ledger.claim_batch(LANE_RUNNER, ["report"], "w", SHORT)
        eventually(lambda: ledger.reap(LANE_RUNNER), "its lease lapses")
        assert self.row(ledger, claim).runner == CLUSTER_RUNNER

    def test_a_job_that_moved_keeps_the_payload_of_its_checkpoint(self, ledger: Ledger) -> None:
        job = self.failed_in_worker(ledger, "Killed", unique_key="k", payload="1")
        again = of_lane("worker", unique_key="k", payload="2", on_conflict="replace")
        assert ledger.insert(again) == job, "it has begun"

    def test_a_job_of_another_runner_never_moves(self, ledger: Ledger) -> None:
        claim = self.started(ledger)
        ledger.fail(claim.token, Failure("Killed"), decide=True)
        job = self.row(ledger, claim)
        assert (job.runner, job.run, job.attempt) == ("legacy", 1, 1)
        assert [attempt.runner for attempt in ledger.attempts(job.id)] == ["legacy"]

    def test_a_job_that_moved_and_failed_is_retried_by_hand_in_a_pod(self, ledger: Ledger) -> None:
        job = self.failed_in_worker(ledger, "OutOfMemory")
        ledger.cancel(job.id)
        again = present(ledger.retry(job.id))
        assert (again.runner, again.run, again.state) == (CLUSTER_RUNNER, 3, JobState.WAITING)
