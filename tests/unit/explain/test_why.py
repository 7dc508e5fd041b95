"""What is said of a job: the right thing is named, with what the reader needs to act on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.unit.explain.situations import (
    NOW,
    a_holder,
    a_job,
    a_load,
    a_situation,
    a_trace,
    after,
    an_attempt,
    before,
)
from tests.unit.explain.test_in_cluster import NAME, a_spokejob

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.reasons import Reason
from spoke_jobs.explain.why import explain, is_explained_by_cluster
from spoke_jobs.ledger.claims.eligibility import WithinStartTimeout
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dependency_queries import Blocking
from spoke_jobs.ledger.reading.event_actors import Suspension
from spoke_jobs.ledger.reading.situations import Situation, Turns
from spoke_jobs.model import AttemptReport, AttemptState, JobOptions, JobState


def said(situation: Situation) -> dict[Code, Reason]:
    """The reasons by their codes."""
    return {reason.code: reason for reason in explain(situation).reasons}


def only(situation: Situation) -> Reason:
    (reason,) = explain(situation).reasons
    return reason


class TestWaiting:
    def test_for_its_time(self) -> None:
        reason = only(a_situation(a_job(run_after=after(hours=3))))
        assert (reason.code, reason.until) == (Code.DUE_LATER, after(hours=3))
        assert "in 3 h" in reason.text

    def test_for_its_backoff(self) -> None:
        job = a_job(run_after=after(seconds=40), cause="JobError", result_message="ValueError: no", attempt=2)
        reason = only(a_situation(job))
        assert (reason.code, reason.until) == (Code.BACKOFF, after(seconds=40))
        assert all(word in reason.text for word in ("attempt 2", "JobError", "ValueError: no", "attempt 3", "in 40 s"))

    def test_because_it_asked_to(self) -> None:
        reason = only(a_situation(a_job(run_after=after(minutes=5), cause="RetryLater", result_message="rate limit")))
        assert reason.code is Code.ASKED_LATER
        assert "rate limit" in reason.text

    def test_for_the_lock_of_its_queue(self) -> None:
        job = a_job(queue_name="1:contacts", locks_queue=True)
        reason = only(a_situation(job, holder=a_holder(), ahead_in_queue=2, load=(a_load(),)))
        assert (reason.code, reason.job_id, reason.worker, reason.number) == (Code.QUEUE_LOCK, 9, "host:1", 2)
        assert all(word in reason.text for word in ("1:contacts", "3 min", "host:1", "2 more jobs"))
        assert reason.advice == "spoke-jobs why 9"

    def test_for_the_lock_of_one_that_makes_no_progress(self) -> None:
        job = a_job(queue_name="q", locks_queue=True)
        stuck = a_holder(since=before(minutes=30), progressed_at=before(minutes=8))
        assert "40 % done, with no progress since 11:52:00 (8 min ago)" in only(a_situation(job, holder=stuck)).text
        silent = a_holder(since=before(minutes=30), progressed_at=before(minutes=30), percent=0)
        assert "without having reported progress" in only(a_situation(job, holder=silent)).text
        begun = a_holder(since=before(minutes=1), progressed_at=before(minutes=30), percent=0)
        assert "progress" not in only(a_situation(job, holder=begun)).text

    def test_for_the_lock_of_one_whose_worker_is_gone(self) -> None:
        job = a_job(queue_name="q", locks_queue=True)
        reason = only(a_situation(job, holder=a_holder(lease_expires_at=before(seconds=50))))
        assert "its lease ended 50 s ago" in reason.text
        assert "frees the queue" in reason.advice

    @pytest.mark.parametrize("holder_id", [9, 7])
    def test_for_a_lock_that_no_attempt_holds(self, holder_id: int) -> None:
        """Other code may also name the waiting job itself."""
        job = a_job(id=7, queue_name="q", locks_queue=True)
        stray = a_holder(job_id=holder_id, worker="", lease_expires_at=None)
        reason = only(a_situation(job, holder=stray, load=(a_load(),)))
        assert (reason.code, reason.job_id) == (Code.QUEUE_LOCK, holder_id)
        assert "no attempt of it runs" in reason.text
        assert "deletes the lock" in reason.advice

    @pytest.mark.parametrize(
        ("traces", "words"),
        [((), "the ledger has no trace of one"), ((a_trace(),), "the last sign of one was 9 min ago")],
    )
    def test_no_worker(self, traces: tuple[object, ...], words: str) -> None:
        reason = only(a_situation(traces=traces))
        assert reason.code is Code.NO_WORKER
        assert words in reason.text
        assert "spoke-jobs worker" in reason.advice

    def test_a_worker_that_runs_may_leave_the_job_out(self) -> None:
        assert "its patterns (--type, --queue) leave the job out" in only(a_situation(traces=())).advice
        assert "patterns" not in only(a_situation(traces=(a_trace(),))).advice, "one has run its type"

    def test_a_job_has_been_due_since_before_the_rules_changed(self) -> None:
        reason = only(a_situation(rules_since=before(seconds=20)))
        assert reason.text.startswith("it has been due for 1 min, and no worker")
        assert only(a_situation(rules_since=before(seconds=2))).code is Code.NEXT, "a pause has just ended"

    def test_no_worker_whose_jobs_have_lapsed(self) -> None:
        situation = a_situation(load=(a_load(running=2, lapsed=2),), traces=(a_trace(),))
        assert "lost the lease" in only(situation).text

    def test_no_worker_in_a_process_that_runs_its_own(self) -> None:
        assert "JOBS_SAME_PROCESS" in only(a_situation(a_job(assigned=True))).advice

    def test_other_code_has_assigned_it(self) -> None:
        reason = only(a_situation(a_job(runner="reference", assigned=True)))
        assert reason.code is Code.TAKEN
        assert "spoke-jobs cancel" in reason.advice

    def test_no_worker_of_the_lane(self) -> None:
        reason = only(a_situation(a_job(runner="kubernetes-worker")))
        assert reason.code is Code.NO_WORKER
        assert reason.advice.startswith(
            "start one: `spoke-jobs worker --lane worker` or, if an autoscaler runs its workers, check that it reads "
            "sync's /scale; if one runs"
        )
        assert "autoscaler" not in only(a_situation(a_job(runner="legacy"))).advice
        assert "SpokeJob" not in reason.text

    def test_between_two_short_jobs_there_is_a_worker(self) -> None:
        assert Code.NO_WORKER not in said(a_situation(traces=(a_trace(heartbeat_at=before(seconds=1)),)))

    def test_a_type_that_no_worker_knows(self) -> None:
        later = a_trace(job_id=40, job_type="export", claimed_at=before(seconds=20), heartbeat_at=NOW)
        earlier = a_trace(job_id=5, job_type="export", claimed_at=before(seconds=30))
        reason = only(a_situation(traces=(later, earlier), load=(a_load(),)))
        assert (reason.code, reason.number) == (Code.PASSED_OVER, 1), "the one that is older than ours counts not"
        assert "1 later job " in reason.text
        assert "report" in reason.text

    def test_its_place_in_the_order(self) -> None:
        reason = only(a_situation(ahead=2, load=(a_load(), a_load(worker="host:2", running=1))))
        assert (reason.code, reason.number) == (Code.BEHIND, 2)
        assert reason.text == (
            "2 due jobs come first: of a higher priority, or older ones; 3 jobs run now on 2 workers"
        )

    @pytest.mark.parametrize(
        ("organization", "turns", "older", "said"),
        [
            (245, Turns(4), "older ones of organization 245", "4 other organizations take turns with it"),
            (
                245,
                Turns(1, without=True),
                "older ones of organization 245",
                "1 other organization and the jobs without an organization take turns with it",
            ),
            (None, Turns(2), "older ones without an organization", "2 other organizations take turns with it"),
            (
                245,
                Turns(4, more=True),
                "older ones of organization 245",
                "at least 4 other organizations take turns with it",
            ),
        ],
    )
    def test_its_place_where_organizations_take_turns(
        self, organization: int | None, turns: Turns, older: str, said: str
    ) -> None:
        job = a_job(organization_id=organization)
        reason = only(a_situation(job, ahead=3052, turns=turns, load=(a_load(),)))
        assert (reason.code, reason.number) == (Code.BEHIND, 3052)
        assert reason.text == (
            f"3,052 due jobs come first: of a higher priority, or {older}; {said}; 2 jobs run now on host:1"
        )
        first = only(a_situation(job, turns=turns, load=(a_load(),)))
        assert first.code is Code.WORKERS_BUSY
        assert first.text.startswith(
            f"it is the next one {older.removeprefix('older ones ')}, and no worker has been free"
        )
        assert f"; {said}; " in first.text

    def test_not_all_jobs_before_it_were_counted(self) -> None:
        reason = only(a_situation(ahead=2_000, ahead_in_queue=2_000, more_ahead=True, load=(a_load(),)))
        assert (reason.code, reason.number) == (Code.BEHIND, 2_000)
        assert reason.text.startswith(
            "at least 2,000 due jobs come first: of a higher priority, or older ones; 2 jobs run now"
        )
        reason = only(a_situation(more_ahead=True, load=(a_load(),)))
        assert reason.text.startswith(
            "many jobs of locked queues or full limits come first: of a higher priority, or older ones; 2 "
        )
        reason = only(a_situation(a_job(organization_id=245), more_ahead=True, turns=Turns(4), load=(a_load(),)))
        assert reason.text.startswith(
            "it is not known how many due jobs come first: many wait for locks or limits, or take turns with it; 4 "
            "other organizations take turns with it; 2 jobs run now"
        )
        job = a_job(queue_name="q", locks_queue=True)
        reason = only(a_situation(job, holder=a_holder(), ahead_in_queue=2, more_ahead=True, load=(a_load(),)))
        assert "and at least 2 more jobs that lock it come first" in reason.text

    def test_its_turn_in_its_queue(self) -> None:
        job = a_job(queue_name="q", locks_queue=True)
        assert only(a_situation(job, ahead=1, ahead_in_queue=1, load=(a_load(),))).code is Code.QUEUE_TURN

    def test_workers_that_are_busy(self) -> None:
        reason = only(a_situation(load=(a_load(),), traces=(a_trace(),)))
        assert (reason.code, reason.number, reason.advice) == (Code.WORKERS_BUSY, 2, "")
        assert "2 jobs run now on host:1" in reason.text
        unknown = only(a_situation(load=(a_load(),), traces=(a_trace(job_type="other"),)))
        assert unknown.advice == (
            "no worker is known to have run its type: check that a worker's SPOKE_APP declares report"
        )

    def test_its_type_is_doubted_only_after_a_long_wait_behind_others(self) -> None:
        for since, doubted in ((before(minutes=9), False), (before(minutes=11), True)):
            job = a_job(created_at=since, updated_at=since)
            assert ("declares report" in only(a_situation(job, ahead=2, load=(a_load(),))).advice) is doubted

    def test_workers_that_know_its_type_and_may_not_take_its_queue(self) -> None:
        job = a_job(queue_name="7:reports")
        traces = (a_trace(), a_trace(job_id=40, job_type="export", claimed_at=before(seconds=20)))
        advised = only(a_situation(job, load=(a_load(),), traces=traces)).advice
        assert advised == "later jobs have started since it was due: check that a worker takes the queue 7:reports"

    def test_for_nothing(self) -> None:
        job = a_job(created_at=before(seconds=1), updated_at=before(seconds=1))
        assert only(a_situation(job)).code is Code.NEXT

    def test_for_a_worker_whose_patterns_leave_it_out(self) -> None:
        reason = only(a_situation(traces=(a_trace(heartbeat_at=before(seconds=1)),)))
        assert reason.code is Code.NEXT
        assert "`--type`, `--queue` and `--exclude-*`" in reason.advice
        unknown = only(a_situation(traces=(a_trace(job_type="other", heartbeat_at=before(seconds=1)),)))
        assert unknown.advice.startswith("no worker is known to have run its type")

    def test_a_retried_job_is_due_since_then(self) -> None:
        assert only(a_situation(a_job(run=2, updated_at=before(seconds=1)))).code is Code.NEXT

    def test_until_when_it_must_have_started(self) -> None:
        job = a_job(start_by=after(minutes=4), options=JobOptions(start_timeout_seconds=300))
        assert said(a_situation(job, ahead=1, load=(a_load(),)))[Code.START_BY].until == after(minutes=4)
        assert Code.START_BY not in said(a_situation(replace(job, runner="kubernetes"))), "the operator's, by attempt"

    def test_for_a_condition_of_claims_that_does_not_hold(self) -> None:
        late = a_job(start_by=before(minutes=4), options=JobOptions(start_timeout_seconds=300))
        reason = only(a_situation(late, unmet=WithinStartTimeout.unmet, load=(a_load(),)))
        assert (reason.code, reason.text) == (
            Code.NOT_CLAIMABLE,
            "no worker starts it: the start timeout has expired",
        )
        assert "StartTimeout" in reason.advice


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.RUNNING])
def test_a_job_that_moved_to_a_pod_says_why(state: JobState) -> None:
    job = a_job(
        runner="kubernetes", run=2, state=state, submitted_at=before(seconds=3), options=JobOptions(lane="worker")
    )
    killed = an_attempt(
        runner="kubernetes-worker", state=AttemptState.FAILED, cause="Killed", finished_at=before(seconds=9)
    )
    reasons = [reason for reason in explain(a_situation(job, attempts=(killed,))).reasons if reason.code is Code.MOVED]
    (moved,) = reasons
    assert "attempt 1 of run 1" in moved.text
    assert "ended with Killed 9 s ago" in moved.text
    in_pods = a_job(runner="kubernetes", run=2, state=state, submitted_at=before(seconds=3))
    assert Code.MOVED not in [reason.code for reason in explain(a_situation(in_pods, attempts=(killed,))).reasons]


def test_a_job_says_that_it_moved_because_no_worker_was_free() -> None:
    options = JobOptions(lane="worker", overflow_seconds=30)
    job = a_job(runner="kubernetes", run=2, submitted_at=before(seconds=3), options=options)
    (moved,) = [reason for reason in explain(a_situation(job)).reasons if reason.code is Code.MOVED]
    assert moved.text.endswith("has moved to a pod: no worker was free within 30 s (its option overflow_seconds)")


def test_until_when_a_job_waits_for_a_worker() -> None:
    options, late = (JobOptions(lane="worker", overflow_seconds=number) for number in (3_600, 1_165))
    job = a_job(
        runner="kubernetes-worker", created_at=before(minutes=30), updated_at=before(minutes=20), options=options
    )
    moves = said(a_situation(job))[Code.MOVES]
    assert moves.until == after(minutes=40)
    assert "sync moves it to a pod" in moves.text
    assert moves.advice == ""
    for options, words in ((JobOptions(lane="worker", overflow_seconds=1_175), ""), (late, "`spoke-jobs sync` runs")):
        found = said(a_situation(replace(job, options=options)))[Code.MOVES].advice
        assert words in found
        assert bool(words) == bool(found), "sync looks every few seconds"
    assert Code.MOVES not in said(a_situation(replace(job, runner="legacy"))), "there is no pod for it"
    held = Wait(WaitReason.PAUSED, object="all")
    assert Code.MOVES not in said(a_situation(job, limit=held)), "it waits for the end of the pause"


def test_a_job_that_follows_a_batch_says_how_far_the_batch_is() -> None:
    batch = Batch(id=3, name="march", total=100, succeeded=38, failed=2, created_at=NOW)
    job = a_job(state=JobState.BLOCKED, open_dependencies=1)
    (reason,) = explain(a_situation(job, blocking=Blocking(batch=batch))).reasons
    assert reason.text.startswith("it follows batch 3 (march): 40 of 100 jobs ended, 2 of them failed; it is open")
    assert "batches close 3" in reason.advice
    closed = replace(batch, closed_at=NOW)
    (reason,) = explain(a_situation(job, blocking=Blocking(batch=closed))).reasons
    assert (reason.text[-6:], reason.number) == ("failed", 60)
    assert "ls --batch 3 --state running" in reason.advice


class TestInTheCluster:
    @pytest.mark.parametrize(("due", "advised"), [(before(seconds=2), False), (before(minutes=1), True)])
    def test_a_row_without_its_spokejob(self, due: datetime, advised: bool) -> None:
        reason = only(a_situation(a_job(runner="kubernetes", created_at=due, updated_at=due)))
        assert reason.code is Code.NOT_SUBMITTED
        assert "report-12-00000000" in reason.text
        assert ("spoke-jobs sync" in reason.advice) is advised

    def test_a_row_that_has_just_moved_is_not_late(self) -> None:
        """It has been due for as long as it has waited for a worker."""
        job = a_job(runner="kubernetes", run=2, run_after=before(minutes=1), updated_at=before(seconds=2))
        (reason,) = [one for one in explain(a_situation(job)).reasons if one.code is Code.NOT_SUBMITTED]
        assert reason.advice == ""

    def test_a_row_that_sync_holds_back_for_its_type(self) -> None:
        job = a_job(runner="kubernetes", created_at=before(minutes=1), updated_at=before(minutes=1))
        (reason,) = explain(a_situation(job), ClusterView(NAME, excluded=True)).reasons
        assert (reason.code, reason.cause) == (Code.NOT_SUBMITTED, "TypeNotAllowed")
        assert "the PodTemplate default is not for jobs of the type report" in reason.text
        assert "add the type to the annotation" in reason.advice
        later = replace(job, run_after=after(hours=1))
        reasons = explain(a_situation(later), ClusterView(NAME, excluded=True)).reasons
        assert {item.code for item in reasons} == {Code.DUE_LATER}

    def test_what_is_due_later_has_none_until_then(self) -> None:
        assert only(a_situation(a_job(runner="kubernetes", run_after=after(hours=1)))).code is Code.DUE_LATER

    def test_a_row_with_its_spokejob(self) -> None:
        reason = only(a_situation(a_job(runner="kubernetes", submitted_at=before(seconds=30), run=2)))
        assert reason.code is Code.SUBMITTED
        assert reason.advice == "kubectl describe spokejob report-12-00000000-r2"

    def test_a_held_queue_is_named_there_too(self) -> None:
        job = a_job(runner="kubernetes", submitted_at=before(seconds=30), queue_name="q", locks_queue=True)
        assert said(a_situation(job, holder=a_holder())).keys() == {Code.SUBMITTED, Code.QUEUE_LOCK}


class TestRunning:
    def test_where_how_far_and_for_how_long_its_lease_holds(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=1, status=42, result_message="half-way")
        text = " ".join(reason.text for reason in explain(a_situation(job, attempts=(an_attempt(),))).reasons)
        for word in ("attempt 1", "host:1", "30 s ago", "42 %", "half-way", "heartbeat was 4 s ago", "26 s more"):
            assert word in text

    def test_how_the_attempt_before_it_ended(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=2)
        first = an_attempt(state=AttemptState.FAILED, finished_at=before(minutes=2), cause="Drained")
        texts = [reason.text for reason in explain(a_situation(job, attempts=(first, an_attempt(number=2)))).reasons]
        assert "attempt 1 ended with Drained 2 min ago" in texts
        of_another_run = an_attempt(run=0, state=AttemptState.FAILED, finished_at=before(minutes=2), cause="Drained")
        explained = explain(a_situation(job, attempts=(of_another_run, an_attempt(number=2))))
        assert "Drained" not in " ".join(reason.text for reason in explained.reasons)

    def test_when_its_timeout_ends_it(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=1, options=JobOptions(timeout_seconds=90))
        reasons = explain(a_situation(job, attempts=(an_attempt(),))).reasons
        assert after(seconds=60) in [reason.until for reason in reasons]

    def test_that_no_attempt_follows_while_it_is_suspended(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=1, suspended_at=before(minutes=3))
        by = Suspension("ada@laptop", "wait for the import")
        reasons = explain(a_situation(job, attempts=(an_attempt(),), suspension=by)).reasons
        (found,) = (reason for reason in reasons if "suspended" in reason.text)
        assert "(3 min ago) by ada@laptop: wait for the import. This attempt goes on, and no other one" in found.text
        assert f"`spoke-jobs resume {job.id}`" in found.advice

    def test_a_worker_that_is_gone(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=1)
        attempt = an_attempt(lease_expires_at=before(seconds=50), heartbeat_at=before(seconds=80))
        reason = said(a_situation(job, attempts=(attempt,)))[Code.LEASE_LAPSED]
        assert "1 min 20 s ago" in reason.text
        assert "ended 50 s ago" in reason.text

    def test_that_others_wait_for_its_queue_and_it_makes_no_progress(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=1, queue_name="q", locks_queue=True)
        stalled = a_holder(job_id=job.id, since=before(minutes=30), progressed_at=before(minutes=8))
        situation = a_situation(job, attempts=(an_attempt(),), holder=stalled, behind_in_queue=3)
        reason = said(situation)[Code.HOLDS_UP]
        assert reason.text == (
            "no progress since 11:52:00 (8 min ago), at 40 %. It holds the lock of the queue q: 3 jobs wait for it. It "
            "has no timeout."
        )
        assert "it is ended after 10 s, and the lock is free" in reason.advice
        usual = said(replace(situation, holder=replace(stalled, usual_seconds=90.0)))[Code.HOLDS_UP]
        assert ", at 40 %; its type usually takes 1 min 30 s. It holds" in usual.text
        assert ": at least 3 jobs wait for it. It" in said(replace(situation, more_behind=True))[Code.HOLDS_UP].text
        assert f"`spoke-jobs logs {job.id}`" in reason.advice
        assert f"`spoke-jobs cancel {job.id}`" in reason.advice
        for other in (
            replace(situation, behind_in_queue=0),
            replace(situation, holder=replace(stalled, progressed_at=before(minutes=1))),
            replace(situation, holder=replace(stalled, job_id=99)),
        ):
            assert Code.HOLDS_UP not in said(other)

    def test_that_it_was_asked_to_stop(self) -> None:
        job = a_job(state=JobState.RUNNING, attempt=1, cancel_requested_at=before(seconds=6))
        assert explain(a_situation(job, attempts=(an_attempt(),))).reasons[0].code is Code.CANCELLING


class TestEnded:
    def test_well(self) -> None:
        job = a_job(state=JobState.SUCCEEDED, attempt=2, started_at=before(seconds=50), finished_at=before(seconds=10))
        reason = only(a_situation(job))
        assert reason.code is Code.SUCCEEDED
        assert all(word in reason.text for word in ("10 s ago", "attempt 2", "40 s after its first start"))

    def test_badly_with_cause_meaning_advice_and_output(self) -> None:
        job = a_job(state=JobState.FAILED, attempt=1, cause="JobError", result_message="ValueError: no")
        failed = an_attempt(
            state=AttemptState.FAILED, finished_at=NOW, cause="JobError", output_tail="Traceback\nValueError: no"
        )
        explanation = explain(a_situation(job, attempts=(failed,)))
        (reason,) = explanation.reasons
        cause = CAUSES["JobError"]
        assert (reason.code, reason.advice) == (Code.FAILED, "Fix the job or its input, then `spoke-jobs retry 12`.")
        without = only(a_situation(replace(job, result_message="")))
        assert without.advice == cause.advise(job.id), "which says where the message is"
        assert all(word in reason.text for word in ("JobError", cause.meaning, "ValueError: no"))
        assert explanation.output_tail == "Traceback\nValueError: no"

    @pytest.mark.parametrize(
        ("job", "attempt"),
        [
            ({"cause": "ImageUnavailable"}, {"cause": "JobError"}),
            ({"cause": "JobError", "run": 2}, {"cause": "JobError"}),
        ],
        ids=["of an attempt that ended otherwise", "of an earlier run"],
    )
    def test_output_explains_no_other_end_than_its_own(self, job: dict[str, Any], attempt: dict[str, Any]) -> None:
        older = an_attempt(state=AttemptState.FAILED, finished_at=NOW, output_tail="Traceback", **attempt)
        assert explain(a_situation(a_job(state=JobState.FAILED, **job), attempts=(older,))).output_tail == ""

    @pytest.mark.parametrize(("run", "crashed"), [(1, True), (2, False)], ids=["its end", "of an earlier run"])
    def test_by_a_signal_with_the_advice_for_that_signal(self, run: int, crashed: bool) -> None:
        job = a_job(state=JobState.FAILED, attempt=1, run=run, cause="Killed")
        ended = an_attempt(state=AttemptState.FAILED, finished_at=NOW, cause="Killed", error_type="SIGSEGV")
        advised = only(a_situation(job, attempts=(ended,))).advice
        assert advised.startswith("Native code of the job has crashed (SIGSEGV).") == crashed
        assert crashed or advised == Cause.KILLED.advise(job.id)

    def test_what_only_repeats_the_meaning_is_said_once(self) -> None:
        meaning = CAUSES["Cancelled"].meaning
        text = only(a_situation(a_job(state=JobState.FAILED, cause="Cancelled", result_message=meaning))).text
        assert text.count(meaning) == 1
        assert "before it was ever started" in text

    @pytest.mark.parametrize(
        ("row", "attempts", "reported", "expected"),
        [
            ({}, (), (), ", before it was ever started."),
            ({}, (), (1, 2, 3), ", at attempt 3, before it was ever started."),
            ({"run": 2}, ((1, 1), (1, 2)), (), ", before it was started again."),
            ({"run": 2}, ((1, 1),), ((2, 2),), ", at attempt 2, before it was started again."),
            ({"attempt": 1}, ((1, 1),), (), ", 40 s after its start."),
            ({"attempt": 2}, ((1, 1), (1, 2)), (1, 2), ", at attempt 2, 40 s after its first start."),
            ({"attempt": 1}, ((1, 1),), (2,), ", before its attempt 2 was started, 40 s after its first start."),
            ({"attempt": 0}, ((1, 2),), (), ", at attempt 2, 40 s after its first start."),
            ({"attempt": 0, "assigned": True, "runner": "reference"}, (), (), "."),
        ],
    )
    def test_whether_it_was_ever_started(
        self,
        row: dict[str, Any],
        attempts: tuple[tuple[int, int], ...],
        reported: tuple[int | tuple[int, int], ...],
        expected: str,
    ) -> None:
        """An attempt is counted once its pod, or a worker, begins it. A pod that never ran has only a report."""
        current = row.get("run", 1)
        began = row.get("attempt", 0) > 0 or any(run == current for run, _ in attempts)
        start = {"started_at": before(seconds=50) if began else None, "finished_at": before(seconds=10)}
        job = a_job(state=JobState.FAILED, cause="PodDeleted", **{"runner": "kubernetes"} | row | start)
        found = a_situation(
            job,
            attempts=tuple(
                an_attempt(run=run, number=number, state=AttemptState.FAILED, finished_at=before(seconds=20))
                for run, number in attempts
            ),
            reports=tuple(
                AttemptReport(*(item if isinstance(item, tuple) else (1, item)), "PodDeleted", "", "", ())
                for item in reported
            ),
        )
        assert f"it failed with PodDeleted at 11:59:50 (10 s ago){expected} The pod" in only(found).text

    def test_for_what_it_waited_until_its_start_timeout(self) -> None:
        message = "NoNodeMatches: 0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
        job = a_job(state=JobState.FAILED, cause="StartTimeout", result_message=message, runner="kubernetes")
        assert is_explained_by_cluster(job)
        cluster = ClusterView(NAME, spokejob=a_spokejob({"cause": "StartTimeout", "reason": "NoNodeMatches"}))
        (reason,) = explain(a_situation(job), cluster).reasons
        assert reason.advice == WaitReason.NO_NODE_MATCHES.remedy.replace("ID", str(job.id))

    def test_a_spokejob_of_another_run_or_none_says_nothing_about_it(self) -> None:
        message = "NoNodeMatches: 0/3 nodes are available"
        job = a_job(state=JobState.FAILED, cause="StartTimeout", result_message=message, runner="kubernetes", run=2)
        first = ClusterView(NAME, spokejob=a_spokejob({"cause": "StartTimeout", "reason": "NoNodeMatches"}))
        for cluster in (first, ClusterView(NAME), None):
            (reason,) = explain(a_situation(job), cluster).reasons
            assert reason.advice == Cause.START_TIMEOUT.advise(job.id)

    def test_by_a_cause_of_another_release(self) -> None:
        assert "NewCause" in only(a_situation(a_job(state=JobState.FAILED, cause="NewCause"))).text
