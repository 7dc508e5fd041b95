"""What only the cluster knows comes to the ledger; what the ledger says shows on the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.sync.stage import Stage, SyncProcess, attempt, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.ledger.port import QueueHeld
from spoke_jobs.model import Failure, JobRequest, JobState, Progress


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
def test_what_the_cluster_says_comes_to_the_row(stage: Stage, sync: SyncProcess) -> None:
    """A failure, the loss of an attempt, and an exit with 0 that nobody recorded. The job's own words stay."""
    failed, raised, exited = (launched(stage) for _ in range(3))
    holder, behind = (launched(stage, queue_name="q", locks_queue=True) for _ in range(2))
    stage.ledger.fail(stage.claim(raised).token, Failure("JobError", "ValueError: row 17"), decide=False)
    stage.claim(exited)
    stage.claim(holder)
    assert isinstance(stage.ledger.claim(behind.id, behind.uid, behind.run, 1, "pod", 60.0), QueueHeld)
    stage.cluster.report(holder, outcome="Running", attempt=1, attempts=[attempt(pod="p")])
    assert stays(lambda: stage.row(holder).state is JobState.RUNNING, 1)
    stage.cluster.report(holder, outcome="Waiting", attempt=1, attempts=[ended(cause="NodeLost", pod="p")])
    stage.cluster.report(failed, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
    stage.cluster.report(raised, outcome="Failed", cause="JobError", attempt=1, attempts=[ended(cause="JobError")])
    stage.cluster.report(exited, outcome="Succeeded", attempt=1, attempts=[ended(cause="")])
    rows = [stage.until(job, lambda row: row.state.final, PROMPT_SECONDS, promised=True) for job in (failed, raised)]
    assert [(row.state, row.status, row.cause) for row in rows] == [
        (JobState.FAILED, -1, "ImageUnavailable"),
        (JobState.FAILED, -1, "JobError"),
    ]
    assert [row.result_message for row in rows] == [
        "The container's image could not be pulled.",
        "ValueError: row 17",
    ]
    row = stage.until(exited, lambda row: row.state.final, PROMPT_SECONDS, promised=True)
    assert (row.state, row.cause, "os._exit(0)" in row.result_message) == (JobState.FAILED, "JobExited", True)
    row = stage.until(holder, lambda row: row.state is JobState.WAITING, PROMPT_SECONDS, promised=True)
    assert row.cause == "NodeLost"
    assert [record.cause for record in stage.ledger.attempts(holder.id)] == ["NodeLost"]
    stage.claim(behind)
    for job in (failed, raised):
        eventually(lambda job=job: stage.cluster.status(job).get("ledger") == "Failed", "the ledger is mirrored")  # type: ignore[misc]
    assert stage.cluster.status(failed)["cause"] == "ImageUnavailable", "the operator's fields are let be"
    assert "row 17" not in str(stage.cluster.get(raised))
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
