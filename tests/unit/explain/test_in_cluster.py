"""What is said of a job by its SpokeJob, the queue's holder and what the operator published."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from tests.unit.explain.situations import NOW, a_holder, a_job, a_situation, after, an_attempt, before

from spoke_jobs.cluster.cluster_view import ClusterView, PublishedTurns, read_published
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.operator_state import PublishedStandby
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.reasons import Reason
from spoke_jobs.explain.why import explain
from spoke_jobs.model import AttemptState, JobState

NAME = "report-12-00000000"
FIVE_MINUTES_AGO = before(minutes=5)
NOT_FOUND = 'Back-off pulling image "app:9": ErrImagePull: failed to resolve reference "app:9": app:9: not found'


def a_spokejob(status: dict[str, Any], *, created_at: datetime = FIVE_MINUTES_AGO, **spec: Any) -> SpokeJob:
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


def held(cause: str, message: str = "", **more: Any) -> dict[str, Any]:
    """The status of one that is not admitted."""
    conditions = [condition("Admitted", cause, message)]
    return {"outcome": "Waiting", "cause": cause, "conditions": conditions} | more


def pends(cause: str, message: str = "", **more: Any) -> dict[str, Any]:
    """The status of one whose attempt has not started."""
    attempt = {"attempt": 1, "attempts": [an_open_attempt()], "conditions": [condition("Running", cause, message)]}
    return {"outcome": "Waiting", "cause": cause} | attempt | more


def said(status: dict[str, Any] | None, *, state: JobState = JobState.WAITING, **view: Any) -> dict[Code, Reason]:
    """The reasons by their codes, of a launched job."""
    job = a_job(
        runner="kubernetes", submitted_at=before(minutes=5), state=state, attempt=int(state is JobState.RUNNING)
    )
    claimed = view.pop("claimed", None)
    attempts = view.pop("attempts", (an_attempt(),) if state is JobState.RUNNING else ())
    spokejob = None if status is None else a_spokejob(status, **view.pop("of", {}))
    values = {"namespace": "jobs", "published": PublishedTurns(before(seconds=20))} | view
    situation = a_situation(job, attempts=attempts, holder=claimed)
    explanation = explain(situation, ClusterView(NAME, spokejob=spokejob, **values))
    return {reason.code: reason for reason in explanation.reasons}


def test_behind_the_one_that_has_its_queue() -> None:
    status = held(WaitReason.QUEUE_LOCKED)
    holder = a_spokejob(
        {"outcome": "Running", "attempts": [an_open_attempt(startedAt=before(minutes=12).isoformat())]},
        requestId=41,
        jobType="export",
    )
    reason = said(status, of={"queue": "a", "locksQueue": True}, holder=holder)[Code.QUEUE_LOCK]
    assert reason.text == "behind export 41 in queue a, running 12 min on node w1"
    assert (reason.advice, reason.job_id) == ("spoke-jobs why 41", 41)
    claimed = a_holder(job_id=41, since=before(minutes=12), progressed_at=before(minutes=7))
    stuck = said(status, of={"queue": "a", "locksQueue": True}, holder=holder, claimed=claimed)[Code.QUEUE_LOCK]
    assert stuck.text == f"{reason.text}, 40 % done, with no progress since 11:53:00 (7 min ago)"
    another = said(status, of={"queue": "a"}, holder=holder, claimed=replace(claimed, job_id=9))[Code.QUEUE_LOCK]
    assert another.text == reason.text


def test_a_limit_and_its_turn() -> None:
    status = held(WaitReason.LIMIT_REACHED, "10 of 10 run")
    turns = (*(f"other-{n}-12345678" for n in range(6)), NAME)
    found = said(status, published=PublishedTurns(before(seconds=20), turns, 31))
    assert found[Code.CLUSTER].text == "limit: 10 of 10 run (SPOKE_OPERATOR_MAX_RUNNING)"
    assert found[Code.CLUSTER].cause == WaitReason.LIMIT_REACHED
    assert found[Code.TURN].text == "31 jobs of the namespace wait; it is the 7th in the order of turns"
    assert found[Code.TURN].number == 6


def test_the_sentence_is_made_from_the_fields_and_not_from_the_message() -> None:
    """The message is only what an operator once wrote: of an older release, or in other words."""
    fields = {"code": "LimitReached", "running": 4, "limit": 5, "source": "SPOKE_OPERATOR_MAX_RUNNING"}
    status = held(WaitReason.LIMIT_REACHED, "10 of 10 run", waiting=fields)
    reason = said(status)[Code.CLUSTER]
    assert "running jobs: 4 of at most 5" in reason.text
    assert "10 of 10" not in reason.text
    assert reason.reason == WaitReason.LIMIT_REACHED
    paused = {"code": "Paused", "note": "a field without the others, as an older release wrote it"}
    status |= {"cause": "Paused", "waiting": paused, "conditions": [condition("Admitted", "Paused", "the old words")]}
    assert said(status)[Code.CLUSTER].text == "the old words"


def test_what_is_to_be_mended_until_when_and_how() -> None:
    message = 'pods "x-1-" is forbidden: exceeded quota: compute, requested: cpu=1, used: cpu=4, limited: cpu=4'
    blocked = condition("Blocked", "PodRejected", message, status="True", since=before(minutes=4))
    status = held("PodRejected", message, conditions=[condition("Admitted", "PodRejected", message), blocked])
    reason = said(status)[Code.CLUSTER]
    assert "quota compute: cpu 4 of 4 used, and the pod requests 1" in reason.text
    assert (reason.until, reason.cause) == (after(minutes=6), "PodRejected")
    assert reason.advice == CAUSES["PodRejected"].advice


def test_a_pod_that_cannot_start() -> None:
    reason = said(pends("ImageUnavailable", NOT_FOUND), pulls=3)[Code.CLUSTER]
    assert "image pull: app:9: not found, 3 tries" in reason.text
    assert "attempt 1 (started 2 min ago)" in reason.text
    assert reason.until == after(minutes=8)


def test_the_command_that_reads_an_init_container_names_the_job() -> None:
    """The pod's name is in no status while the pod starts."""
    status = pends(WaitReason.INIT_RUNNING, "container 'migrate' has run since 11:58:30 UTC")
    advice = said(status)[Code.CLUSTER].advice
    assert "`kubectl logs -l jobs.spoke.dev/request-id=12 -c CONTAINER`" in advice, "an older operator names none"
    for reason in (WaitReason.INIT_RUNNING, WaitReason.SIDECAR_STARTING):
        named = status | {"cause": reason, "waiting": {"code": reason, "object": "log-shipper"}}
        advice = said(named)[Code.CLUSTER].advice
        assert "`kubectl logs -l jobs.spoke.dev/request-id=12 -c log-shipper`" in advice


def test_the_advice_after_a_start_timeout_names_the_container_too() -> None:
    ended = an_open_attempt(
        cause="StartTimeout",
        reason=WaitReason.SIDECAR_STARTING,
        container="proxy",
        finishedAt=before(seconds=2).isoformat(),
    )
    status = {
        "outcome": "Waiting",
        "cause": "StartTimeout",
        "attempt": 1,
        "nextAttemptAt": after(seconds=30).isoformat(),
        "attempts": [ended],
    }
    assert "-c proxy`" in said(status)[Code.BACKOFF].advice


def test_a_pull_secret_that_is_missing() -> None:
    """The operator adds the kubelet's Event, which alone names it."""
    message = 'failed to pull and unpack image "reg/app:9": failed with status code [manifests 9]: 401 Unauthorized'
    message = f"Unable to retrieve some image pull secrets (reg-login); {message}"
    text = said(pends("ImageUnavailable", message))[Code.CLUSTER].text
    assert "image pull: reg/app:9: its registry wants credentials; no pull Secret reg-login;" in text


def test_its_attempt_ends_when_the_operator_says_so() -> None:
    """It has waited for room for an hour, which does not count, and now its pod is pulled."""
    attempt = an_open_attempt(startedAt=before(minutes=60).isoformat())
    waiting = {"code": "PodPending", "since": before(minutes=1).isoformat(), "endsAt": after(minutes=9).isoformat()}
    status = {"outcome": "Waiting", "cause": "", "attempt": 1, "attempts": [attempt], "waiting": waiting}
    assert said(status)[Code.CLUSTER].until == after(minutes=9)
    waiting["code"] = "ImageUnavailable"  # of another time
    assert said(status)[Code.CLUSTER].until == before(minutes=50)


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


def test_between_two_attempts_that_did_not_start_the_advice_is_about_what_the_first_waited_for() -> None:
    status = {
        "outcome": "Waiting",
        "cause": "StartTimeout",
        "attempt": 1,
        "nextAttemptAt": after(seconds=40).isoformat(),
        "attempts": [
            an_open_attempt(finishedAt=before(seconds=9).isoformat(), cause="StartTimeout", reason="NoNodeMatches")
        ],
    }
    reason = said(status)[Code.BACKOFF]
    assert reason.advice == f"{WaitReason.NO_NODE_MATCHES.advice} The job is tried again."


def test_its_pod_runs_and_has_not_claimed_it() -> None:
    status = {"outcome": "Running", "attempt": 1, "attempts": [an_open_attempt()]}
    reason = said(status)[Code.CLUSTER]
    assert "hasn't claimed the job yet" in reason.text
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
        ({"outcome": "Waiting"}, PublishedTurns(before(minutes=5)), "no operator has been seen for 5 min"),
        ({}, PublishedTurns(before(minutes=5)), "no operator has been seen for 5 min"),
        ({}, None, "no operator has handled its SpokeJob, which was created 5 min ago"),
        ({}, PublishedTurns(before(seconds=20)), "created 5 min ago; the last sign of one was 20 s ago"),
    ],
)
def test_no_operator(status: dict[str, Any], published: PublishedTurns | None, words: str) -> None:
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
    assert "a job of another database" in reason.text


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
    assert read_published(data) == PublishedTurns(NOW, ("a", "b"), 9)


def test_a_limit_names_its_object_and_a_pause_says_who_why_and_until_when() -> None:
    wait = {"code": WaitReason.QUEUE_LIMIT_REACHED, "object": "a", "running": 2, "limit": 2, "source": "SpokeLimit few"}
    limited = {"outcome": "Waiting", "cause": WaitReason.QUEUE_LIMIT_REACHED, "waiting": wait}
    assert said(limited)[Code.CLUSTER].text == "limit: running jobs of the queue 'a': 2 of at most 2 (SpokeLimit few)"
    wait = {"code": WaitReason.RATE_LIMIT_REACHED, "object": "5/s, burst 10", "source": "SpokeLimit carrier"}
    rated = {"outcome": "Waiting", "cause": WaitReason.RATE_LIMIT_REACHED, "waiting": wait}
    assert said(rated)[Code.CLUSTER].text == "limit: starts at most 5/s, burst 10 (SpokeLimit carrier)"
    pause = {"code": WaitReason.PAUSED, "source": "Namespace shop", "by": "kubectl-annotate", "note": "upgrade"}
    paused = {"outcome": "Waiting", "cause": WaitReason.PAUSED, "waiting": pause | {"retryAt": "2026-01-01T15:00:00Z"}}
    reason = said(paused)[Code.CLUSTER]
    assert reason.text == "paused by kubectl-annotate (Namespace shop) until 2026-01-01 15:00 UTC: upgrade"
    assert reason.advice == WaitReason.PAUSED.advice


def test_an_operator_of_an_older_release_names_the_holder_in_its_text_alone() -> None:
    message = "SpokeJob export-41-0a1b2c3d has the queue 'a'"
    assert message in said(held(WaitReason.QUEUE_LOCKED, message))[Code.CLUSTER].text


def test_fields_of_what_it_waited_for_before_are_not_taken_for_the_present_ones() -> None:
    status = {
        "outcome": "Waiting",
        "cause": WaitReason.LIMIT_REACHED,
        "waiting": {"code": WaitReason.QUEUE_LOCKED, "holder": "export-41-0a1b2c3d", "object": "a"},
    }
    assert "export-41" not in said(status)[Code.CLUSTER].text


def test_a_full_cluster_is_told_with_what_is_short_the_turn_and_no_deadline() -> None:
    message = "no node has room: memory is short"
    short = {"code": WaitReason.CLUSTER_FULL, "object": "memory"}
    status = held(WaitReason.CLUSTER_FULL, message, waiting=short)
    found = said(status, published=PublishedTurns(before(seconds=20), ("other", NAME), 31))
    assert message in found[Code.CLUSTER].text
    assert found[Code.CLUSTER].until is None
    assert found[Code.TURN].number == 1
    scheduler = "0/2 nodes are available: 2 Insufficient memory."
    reason = said(pends(WaitReason.CLUSTER_FULL, scheduler, waiting=short))[Code.CLUSTER]
    assert "2 Insufficient memory" in reason.text
    assert (reason.until, reason.advice) == (None, WaitReason.CLUSTER_FULL.advice)


def test_a_used_up_quota_is_told_with_what_is_short_the_turn_and_no_deadline() -> None:
    words = "quota compute: cpu 4 of 4 used, and the pod requests 1"
    uses = [{"resource": "cpu", "requested": "1", "used": "4", "hard": "4"}]
    used_up = {"code": WaitReason.QUOTA_EXCEEDED, "object": "compute", "quota": uses}
    status = held(WaitReason.QUOTA_EXCEEDED, words, waiting=used_up)
    found = said(status, published=PublishedTurns(before(seconds=20), ("other", NAME), 31))
    assert found[Code.CLUSTER].text == words
    assert (found[Code.CLUSTER].until, found[Code.TURN].number) == (None, 1)
    pending = pends(WaitReason.QUOTA_EXCEEDED, words, waiting=used_up)
    reason = said(pending)[Code.CLUSTER]
    assert reason.text.endswith(f": {words}")
    assert (reason.until, reason.advice) == (None, WaitReason.QUOTA_EXCEEDED.advice)
    lasting = WaitReason.QUOTA_EXCEEDED.row.lasting
    for amount, named in (("QUOTA", "compute -n jobs"), ("get pods", "get pods -n jobs")):
        lasting = lasting.replace(amount, named)
    for minutes, advice in ((9, WaitReason.QUOTA_EXCEEDED.advice), (53, lasting)):
        waits = {"waiting": used_up | {"since": before(minutes=minutes).isoformat()}}
        assert said(pending | waits)[Code.CLUSTER].advice == advice


def test_the_end_of_other_pods_does_not_help_with_a_quota_of_zero() -> None:
    uses = [{"resource": "pods", "requested": "1", "used": "0", "hard": "0"}]
    used_up = {"code": WaitReason.QUOTA_EXCEEDED, "object": "batch", "quota": uses}
    reason = said(held(WaitReason.QUOTA_EXCEEDED, "whatever", waiting=used_up))[Code.CLUSTER]
    assert "quota batch: the quota of pods is 0" in reason.text
    assert reason.advice.startswith("Raise the quota")


def test_a_quota_of_which_the_message_says_little_is_told_with_the_message() -> None:
    message = 'pods "x" is forbidden: exceeded quota'
    used_up = {"code": WaitReason.QUOTA_EXCEEDED}
    text = said(pends(WaitReason.QUOTA_EXCEEDED, message, waiting=used_up))[Code.CLUSTER].text
    assert "A ResourceQuota of its namespace is used up" in text
    assert message in text


@pytest.mark.parametrize(
    ("lacking", "text"),
    [
        (
            {"problem": "its volume 'data' is a persistentVolumeClaim"},
            ": its volume 'data' is a persistentVolumeClaim;",
        ),
        ({"failure": "BadSetup"}, ": the last one failed with BadSetup;"),
        (
            {"failure": 'jobs.batch is forbidden: quota "few"', "retry_at": after(seconds=40).isoformat()},
            ': the last one failed (jobs.batch is forbidden: quota "few"), and the next one is tried at ',
        ),
    ],
)
def test_a_job_that_wants_a_standby_pod_says_why_there_is_none(lacking: dict[str, str], text: str) -> None:
    published = PublishedTurns(before(seconds=20), standby=(PublishedStandby(template="default", **lacking),))
    pending = {"outcome": "Waiting", "cause": "PodPending", "attempts": [an_open_attempt(pod="")]}
    reason = said(pending, of={"lane": "standby"}, published=published)[Code.STANDBY]
    assert f"the PodTemplate default has no standby pods{text}" in reason.text
    assert reason.text.endswith("; the job gets a pod of its own")
    assert reason.advice == "the Events of the PodTemplate: kubectl describe podtemplate default"


@pytest.mark.parametrize(
    ("of", "attempt"),
    [
        ({}, {}),
        ({"lane": "standby"}, {"lane": "standby"}),
    ],
)
def test_others_do_not_hear_of_standby_pods(of: dict[str, str], attempt: dict[str, str]) -> None:
    published = PublishedTurns(before(seconds=20), standby=(PublishedStandby(template="default", problem="x"),))
    pending = {"outcome": "Waiting", "cause": "PodPending", "attempts": [an_open_attempt(pod="", **attempt)]}
    found = said(pending, of=of, published=published)
    assert Code.STANDBY not in found
    assert Code.CLUSTER in found
