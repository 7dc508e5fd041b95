"""What is said of a job by its SpokeJob, the queue's holder and what the operator published."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from tests.unit.cli.situations import NOW, a_job, a_situation, after, an_attempt, before

from spoke_jobs.cli.explaining.reasons import Code, Reason
from spoke_jobs.cli.explaining.why import explain
from spoke_jobs.cluster.cluster_view import ClusterView, Published, read_published
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.model import AttemptState, JobState

NAME = "report-12-00000000"
NOT_FOUND = 'Back-off pulling image "app:9": ErrImagePull: failed to resolve reference "app:9": app:9: not found'


def a_spokejob(status: dict[str, Any], *, created_at: datetime = before(minutes=5), **spec: Any) -> SpokeJob:
    values = {"uid": str(UUID(int=7)), "requestId": 12, "jobType": "report"} | spec
    metadata = {
        "name": NAME,
        "namespace": "jobs",
        "uid": "u",
        "resourceVersion": "1",
        "creationTimestamp": created_at.isoformat(),
    }
    return SpokeJob.from_object({"metadata": metadata, "spec": values, "status": status})


def condition(kind: str, reason: str, message: str = "", *, status: str = "False", since: datetime = NOW) -> Any:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.isoformat(),
    }


def an_open_attempt(**changes: Any) -> dict[str, Any]:
    record = {"number": 1, "job": f"{NAME}-1", "pod": f"{NAME}-1-abcde", "node": "w1"}
    return record | {"startedAt": before(minutes=2).isoformat()} | changes


def said(status: dict[str, Any] | None, *, state: JobState = JobState.WAITING, **view: Any) -> dict[Code, Reason]:
    """The reasons by their codes, of a launched job."""
    job = a_job(
        runner="kubernetes", submitted_at=before(minutes=5), state=state, attempt=int(state is JobState.RUNNING)
    )
    attempts = view.pop("attempts", (an_attempt(),) if state is JobState.RUNNING else ())
    spokejob = None if status is None else a_spokejob(status, **view.pop("of", {}))
    values = {"namespace": "jobs", "published": Published(before(seconds=20))} | view
    explanation = explain(a_situation(job, attempts=attempts), ClusterView(NAME, spokejob=spokejob, **values))
    return {reason.code: reason for reason in explanation.reasons}


def test_behind_the_one_that_has_its_queue() -> None:
    status = {
        "outcome": "Waiting",
        "cause": WaitReason.QUEUE_LOCKED,
        "conditions": [condition("Admitted", "QueueLocked")],
    }
    holder = a_spokejob(
        {"outcome": "Running", "attempts": [an_open_attempt(startedAt=before(minutes=12).isoformat())]},
        requestId=41,
        jobType="export",
    )
    reason = said(status, of={"queue": "a", "locksQueue": True}, holder=holder)[Code.QUEUE_LOCK]
    assert reason.text == "behind export 41 in queue a, running 12 min on node w1"
    assert (reason.advice, reason.job_id) == ("spoke-jobs why 41", 41)


def test_a_limit_and_its_turn() -> None:
    status = {
        "outcome": "Waiting",
        "cause": WaitReason.LIMIT_REACHED,
        "conditions": [condition("Admitted", WaitReason.LIMIT_REACHED, "10 of 10 run")],
    }
    turns = (*(f"other-{n}-12345678" for n in range(6)), NAME)
    found = said(status, published=Published(before(seconds=20), turns, 31))
    assert found[Code.CLUSTER].text == "limit: 10 of 10 run (SPOKE_OPERATOR_MAX_RUNNING)"
    assert found[Code.CLUSTER].cause == WaitReason.LIMIT_REACHED
    assert "the 7th in turn of 31 jobs" in found[Code.TURN].text
    assert found[Code.TURN].number == 6


def test_what_is_to_be_mended_until_when_and_how() -> None:
    message = 'pods "x-1-" is forbidden: exceeded quota: compute, requested: cpu=1, used: cpu=4, limited: cpu=4'
    blocked = condition("Blocked", "PodRejected", message, status="True", since=before(minutes=4))
    status = {
        "outcome": "Waiting",
        "cause": "PodRejected",
        "conditions": [condition("Admitted", "PodRejected", message), blocked],
    }
    reason = said(status)[Code.CLUSTER]
    assert "quota compute: cpu 4 of 4, and it asks for 1" in reason.text
    assert (reason.until, reason.cause) == (after(minutes=6), "PodRejected")
    assert reason.advice == CAUSES["PodRejected"].advice


def test_a_pod_that_cannot_start() -> None:
    status = {
        "outcome": "Waiting",
        "cause": "ImageUnavailable",
        "attempt": 1,
        "attempts": [an_open_attempt()],
        "conditions": [condition("Running", "ImageUnavailable", NOT_FOUND)],
    }
    reason = said(status, pulls=3)[Code.CLUSTER]
    assert "image pull: app:9: not found, 3 tries" in reason.text
    assert "attempt 1 (started 2 min ago)" in reason.text
    assert reason.until == after(minutes=8)


def test_between_two_attempts() -> None:
    status = {
        "outcome": "Waiting",
        "cause": "OutOfMemory",
        "attempt": 1,
        "nextAttemptAt": after(seconds=40).isoformat(),
        "attempts": [an_open_attempt(finishedAt=before(seconds=9).isoformat(), cause="OutOfMemory")],
    }
    reason = said(status)[Code.BACKOFF]
    assert "attempt 2 follows" in reason.text
    assert "in 40 s" in reason.text
    assert reason.until == after(seconds=40)


def test_its_pod_runs_and_has_not_claimed_it() -> None:
    status = {"outcome": "Running", "attempt": 1, "attempts": [an_open_attempt()]}
    reason = said(status)[Code.CLUSTER]
    assert "hasn't claimed it yet" in reason.text
    assert reason.worker == f"{NAME}-1-abcde"


def test_its_attempt_has_ended_and_the_operator_does_not_say_so_yet() -> None:
    ended = an_attempt(state=AttemptState.FAILED, finished_at=before(seconds=1), cause="JobError")
    status = {"outcome": "Running", "attempt": 1, "attempts": [an_open_attempt()]}
    reason = said(status, attempts=(ended,))[Code.CLUSTER]
    assert "ended with JobError" in reason.text
    assert "hasn't claimed" not in reason.text


def test_a_running_one_tells_its_node() -> None:
    found = said({"outcome": "Running", "attempts": [an_open_attempt()]}, state=JobState.RUNNING)
    assert "on node w1" in found[Code.CLUSTER].text
    assert Code.RUNNING in found


@pytest.mark.parametrize(
    ("status", "published", "words"),
    [
        ({"outcome": "Waiting"}, Published(before(minutes=5)), "no operator has been seen for 5 min"),
        ({}, Published(before(minutes=5)), "no operator has been seen for 5 min"),
        ({}, None, "no operator has handled its SpokeJob, which was created 5 min ago"),
        ({}, Published(before(seconds=20)), "created 5 min ago; the last sign of one was 20 s ago"),
    ],
)
def test_no_operator(status: dict[str, Any], published: Published | None, words: str) -> None:
    assert words in said(status, published=published)[Code.NO_OPERATOR].text


def test_an_operator_that_has_just_been_heard_is_there() -> None:
    assert Code.NO_OPERATOR not in said({"outcome": "Waiting", "cause": WaitReason.LIMIT_REACHED})
    assert said({}, of={"created_at": before(seconds=2)}, published=None).keys() == {Code.SUBMITTED}


def test_ended_there_and_not_known_here() -> None:
    reason = said({"outcome": "Failed", "cause": "Killed"})[Code.CLUSTER]
    assert "Killed" in reason.text
    assert "spoke-jobs sync" in reason.advice


def test_a_spokejob_of_another_database() -> None:
    reason = said({"outcome": "Running"}, of={"uid": str(UUID(int=8))})[Code.CLUSTER]
    assert reason.cause == "NameTaken"
    assert "another database's job" in reason.text


def test_a_spokejob_that_is_gone() -> None:
    assert said(None).keys() == {Code.SPOKEJOB_GONE}


def test_a_cluster_that_cannot_be_asked_leaves_what_the_ledger_says() -> None:
    found = said(None, problem="no answer from the API server: ConnectTimeoutError")
    assert "ConnectTimeoutError" in found[Code.CLUSTER_UNKNOWN].text
    assert Code.SUBMITTED in found


def test_names_of_others_break_no_line() -> None:
    holder = a_spokejob({}, requestId=41, jobType="export\x1b[31m\nx")
    status = {"outcome": "Waiting", "cause": WaitReason.QUEUE_LOCKED}
    text = said(status, of={"queue": "a\tb"}, holder=holder)[Code.QUEUE_LOCK].text
    assert text.isprintable()


@pytest.mark.parametrize("data", [None, {}, {"time": "x", "state": "{}"}, {"time": NOW.isoformat(), "state": "[]"}])
def test_what_no_operator_writes_is_not_taken_for_its_word(data: dict[str, str] | None) -> None:
    assert read_published(data) is None


def test_the_word_of_an_operator_is_read() -> None:
    data = {"time": NOW.isoformat(), "operator": "x", "state": '{"turns": ["a", "b"], "waiting": 9, "more": 1}'}
    assert read_published(data) == Published(NOW, ("a", "b"), 9)


def test_a_limit_is_told_by_the_operators_fields() -> None:
    status = {
        "outcome": "Waiting",
        "cause": WaitReason.QUEUE_LIMIT_REACHED,
        "waiting": {"code": WaitReason.QUEUE_LIMIT_REACHED, "object": "a b", "running": 2, "limit": 2},
    }
    text = said(status)[Code.CLUSTER].text
    assert text == "limit: 2 of 2 of the queue 'a b' run (SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE)"


def test_an_operator_of_an_older_release_names_the_holder_in_its_text_alone() -> None:
    message = "SpokeJob export-41-0a1b2c3d has the queue 'a'"
    status = {
        "outcome": "Waiting",
        "cause": WaitReason.QUEUE_LOCKED,
        "conditions": [condition("Admitted", "QueueLocked", message)],
    }
    assert message in said(status)[Code.CLUSTER].text


def test_fields_of_what_it_waited_for_before_are_not_taken_for_the_present_ones() -> None:
    status = {
        "outcome": "Waiting",
        "cause": WaitReason.LIMIT_REACHED,
        "waiting": {"code": WaitReason.QUEUE_LOCKED, "holder": "export-41-0a1b2c3d", "object": "a"},
    }
    assert "export-41" not in said(status)[Code.CLUSTER].text
