"""What only the cluster knows comes to the ledger; what the ledger says shows on the cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.sync.stage import Stage, SyncProcess, attempt, ended
from tests.waiting import eventually, stays

from spoke_jobs import ChangeRefused, JobData
from spoke_jobs.ledger.port import QueueHeld
from spoke_jobs.model import AttemptState, Failure, JobRequest, JobState, Progress, Pulse


@pytest.fixture
def sync(stage: Stage) -> Iterator[SyncProcess]:
    with stage.sync() as process:
        yield process


PROMPT_SECONDS = 20
"""An outcome comes to the row sooner than the next comparison, every 30 s, would bring it."""


def launched(stage: Stage, **data: Any) -> JobRequest:
    """A job whose SpokeJob exists and is recorded."""
    job = stage.runner().dispatch_job(JobData("work", **data))
    return stage.until(job, lambda row: row.submitted_at)


@pytest.mark.alone
def test_a_failed_outcome_comes_to_the_row(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    stage.cluster.report(job, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
    row = stage.until(job, lambda row: row.state.final, PROMPT_SECONDS, promised=True)
    assert (row.state, row.status, row.cause) == (JobState.FAILED, -1, "ImageUnavailable")
    assert row.result_message == "The container's image could not be pulled."
    assert row.finished_at is not None
    eventually(lambda: stage.cluster.status(job).get("ledger") == "Failed", "the ledger is mirrored")
    assert stage.cluster.status(job)["cause"] == "ImageUnavailable", "the operator's fields are let be"


@pytest.mark.alone
def test_the_last_attempt_s_own_words_stay(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    claim = stage.claim(job)
    stage.ledger.fail(claim.token, Failure("JobError", "ValueError: row 17"), decide=False)
    stage.cluster.report(job, outcome="Failed", cause="JobError", attempt=1, attempts=[ended(cause="JobError")])
    row = stage.until(job, lambda row: row.state.final, PROMPT_SECONDS, promised=True)
    assert (row.cause, row.result_message) == ("JobError", "ValueError: row 17")
    eventually(lambda: stage.cluster.status(job).get("ledger") == "Failed", "the ledger is mirrored")
    assert "row 17" not in str(stage.cluster.get(job))


@pytest.mark.alone
def test_an_attempt_that_ended_on_the_cluster_lets_go_of_its_queue(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage, queue_name="q", locks_queue=True)
    other = launched(stage, queue_name="q", locks_queue=True)
    stage.claim(job)
    claim_other = (other.id, other.uid, other.run, 1, "pod", 60.0)
    assert isinstance(stage.ledger.claim(*claim_other), QueueHeld)
    stage.cluster.report(job, outcome="Running", attempt=1, attempts=[attempt(pod="p")])
    assert stays(lambda: stage.row(job).state is JobState.RUNNING, 1)
    stage.cluster.report(job, outcome="Waiting", attempt=1, attempts=[ended(cause="NodeLost", pod="p")])
    row = stage.until(job, lambda row: row.state is JobState.WAITING, PROMPT_SECONDS, promised=True)
    assert row.cause == "NodeLost"
    (record,) = stage.ledger.attempts(job.id)
    assert (record.state, record.cause) == (AttemptState.FAILED, "NodeLost")
    stage.claim(other)


def test_a_lapsed_lease_alone_ends_nothing(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    stage.claim(job, lease_seconds=0.2)
    stage.cluster.report(job, outcome="Running", attempt=1, attempts=[attempt()])
    assert stays(lambda: stage.row(job).state is JobState.RUNNING, 3)


def test_success_in_the_ledger_wins_over_the_cluster(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    claim = stage.claim(job)
    stage.cluster.report(job, outcome="Running", attempt=1, attempts=[attempt()])
    stage.ledger.succeed(None, claim.token, {"rows": 5})
    stage.cluster.report(job, outcome="Failed", cause="NodeLost", attempt=1, attempts=[ended(cause="NodeLost")])
    eventually(lambda: stage.cluster.status(job).get("ledger") == "Succeeded", "the ledger is mirrored")
    assert stage.row(job).state is JobState.SUCCEEDED
    assert stage.cluster.status(job)["progress"] == {"percent": 100, "message": ""}


@pytest.mark.alone
def test_a_success_that_only_the_cluster_reports_is_a_failure(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    stage.claim(job)
    stage.cluster.report(job, outcome="Succeeded", attempt=1, attempts=[ended(cause="")])
    row = stage.until(job, lambda row: row.state.final, PROMPT_SECONDS, promised=True)
    assert (row.state, row.cause) == (JobState.FAILED, "JobExited")
    assert "os._exit(0)" in row.result_message
    sync.end()
    assert "ERROR" in sync.log


def test_progress_shows_on_the_spokejob_coalesced(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    claim = stage.claim(job)
    stage.cluster.report(job, outcome="Running", attempt=1, attempts=[attempt()])
    versions: set[str] = set()
    began = time.monotonic()

    def work() -> bool:
        percent = min(int((time.monotonic() - began) * 10), 60)
        assert stage.ledger.heartbeat(claim.token, 60, Progress(percent, f"row {percent}")) is Pulse.HELD
        body = stage.cluster.get(job) or {}
        versions.add(body["metadata"]["resourceVersion"])
        progress = body["status"].get("progress")
        return progress is not None and progress == {"percent": 60, "message": "row 60"}

    eventually(work, "the last progress shows")
    seconds = time.monotonic() - began
    assert 2 < len(versions) < seconds / 2 + 3, "shown on the way, and at most every two seconds"
    assert stage.cluster.status(job)["outcome"] == "Running"


def test_progress_keeps_to_its_fields(stage: Stage, sync: SyncProcess) -> None:
    """The operator applies its own fields anew and anew: neither takes the other's away."""
    job = launched(stage)
    claim = stage.claim(job)
    stage.ledger.heartbeat(claim.token, 60, Progress(30, "row 30"))
    eventually(lambda: stage.cluster.status(job).get("progress"), "progress shows")
    stage.cluster.report(job, outcome="Running", attempt=1, attempts=[attempt()])
    assert stage.cluster.status(job)["progress"]["percent"] == 30
    stage.ledger.heartbeat(claim.token, 60, Progress(40, "row 40"))
    eventually(lambda: stage.cluster.status(job)["progress"]["percent"] == 40, "progress goes on")
    assert stage.cluster.status(job)["attempts"][0]["job"] == "work-1"


def test_what_happened_while_sync_was_away_is_made_up_for(stage: Stage) -> None:
    with stage.sync():
        done, failed, lost = launched(stage), launched(stage), launched(stage)
    stage.ledger.succeed(None, stage.claim(done).token, None)
    stage.cluster.report(
        failed, outcome="Failed", cause="OutOfMemory", attempt=1, attempts=[ended(cause="OutOfMemory")]
    )
    stage.claim(lost)
    stage.cluster.report(lost, outcome="Waiting", attempt=1, attempts=[ended(cause="Evicted")])
    with stage.sync():
        eventually(lambda: stage.cluster.status(done).get("ledger") == "Succeeded", "the success shows")
        assert stage.until(failed, lambda row: row.state.final).cause == "OutOfMemory"
        assert stage.until(lost, lambda row: row.state is JobState.WAITING).cause == "Evicted"


def test_what_somebody_changes_about_the_start_of_a_job_shows_on_the_cluster(stage: Stage, sync: SyncProcess) -> None:
    job = launched(stage)
    stage.ledger.set_priority(job.id, 5)
    stage.ledger.suspend(job.id, "the test")

    def spec() -> tuple[Any, Any]:
        found = (stage.cluster.get(job) or {})["spec"]
        return found["priority"], found["suspend"]

    eventually(lambda: spec() == (5, True), "both are passed on")
    stage.ledger.set_priority(job.id, -5)
    stage.ledger.resume(job.id)
    eventually(lambda: spec() == (-5, False), "so is the resumption")
    metadata = (stage.cluster.get(job) or {})["metadata"]
    assert "jobs.spoke.dev/suspended-by" not in metadata.get("annotations", {})


def test_a_suspended_job_gets_no_spokejob_until_it_is_resumed(stage: Stage, sync: SyncProcess) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    job = stage.runner().dispatch_job(JobData("work", run_after=later))
    stage.ledger.suspend(job.id)
    with pytest.raises(ChangeRefused):
        stage.ledger.run_now(job.id)
    assert stays(lambda: stage.cluster.get(job) is None, 3)
    stage.ledger.resume(job.id)
    stage.ledger.run_now(job.id)
    stage.until(job, lambda row: row.submitted_at)
