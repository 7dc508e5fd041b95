"""What only the cluster knows comes to the ledger; what the ledger says shows on the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.sync.stage import Stage, SyncProcess, attempt, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.ledger.port import QueueHeld
from spoke_jobs.model import AttemptState, Failure, JobRequest, JobState, Progress


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
