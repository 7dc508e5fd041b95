"""Rows become SpokeJobs: once, whatever crashes, and never a second time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Stage, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.model import JobRequest, JobState

WORK = JobData("work", {"secret": "marker-in-the-payload"})


def unlaunched(stage: Stage, **changes: Any) -> JobRequest:
    """A committed row whose application died before it could create anything."""
    return stage.runner(submit="sync", **changes).dispatch_job(WORK)


@pytest.mark.alone
def test_rows_become_spokejobs_once_and_sooner_than_sync_looks_by_itself(stage: Stage) -> None:
    """As the chart has it, where sync itself is told nothing of how others submit; its own looks are a minute apart."""
    runner, prompt = stage.runner(submit="sync"), 20  # sooner than a comparison, every 30 s
    left_behind, first = unlaunched(stage), unlaunched(stage)
    second = runner.dispatch_job(JobData("work", after=[first], after_failed="run"))
    with stage.ledger.engine.begin() as connection:  # sync leaves young rows to their process for a moment
        connection.execute(text("UPDATE job_request SET created_at = created_at - interval '1 hour'"))
    with stage.sync(SPOKE_POLL_SECONDS="60") as sync:
        assert stage.until(left_behind, lambda row: row.submitted_at).state is JobState.WAITING
        body = stage.cluster.get(left_behind)
        assert body is not None
        assert (body["spec"]["uid"], body["spec"]["requestId"]) == (str(left_behind.uid), left_behind.id)
        assert "marker-in-the-payload" not in str(body)
        eventually(lambda: sync.metrics()['spoke_sync_repairs_total{kind="Launch"}'] >= 1, "it was left behind")
        for _ in range(3):  # each dispatch notifies sync
            job = runner.dispatch_job(WORK)
            stage.until(job, lambda row: row.submitted_at, prompt, promised=True)
        stage.until(first, lambda row: row.submitted_at)
        stage.cluster.report(first, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
        stage.until(second, lambda row: row.submitted_at, prompt, promised=True)
        stage.cluster.delete(left_behind)
        row = stage.until(left_behind, lambda row: row.state.final, prompt, promised=True)
        assert (row.state, row.cause) == (JobState.FAILED, "SpokeJobDeleted")
        assert stays(lambda: stage.cluster.get(left_behind) is None, 1)


def test_metrics_tell_how_long_a_row_has_waited_that_can_t_be_launched(stage: Stage, tmp_path: Path) -> None:
    """The API server is away: as an alert would hear of it."""
    proxy = Proxy(api_server_of(stage.cluster.kubeconfig))
    path = kubeconfig_by(proxy.port, stage.cluster.kubeconfig, tmp_path / "kubeconfig")
    proxy.cut()
    job = unlaunched(stage)
    not_due = stage.runner(submit="sync").dispatch_job(
        JobData("work", run_after=datetime.now(UTC) + timedelta(hours=1))
    )
    with stage.sync(SPOKE_SUBMIT="sync", KUBECONFIG=path) as sync:
        eventually(lambda: sync.metrics()["spoke_sync_oldest_unlaunched_seconds"] > 1, "it waits")
        assert sync.metrics()["spoke_sync_jobs_unlaunched"] == 1
        proxy.mend()
        stage.until(job, lambda row: row.submitted_at)
        eventually(lambda: sync.metrics()["spoke_sync_jobs_unlaunched"] == 0, "none waits")
        assert sync.metrics()["spoke_sync_oldest_unlaunched_seconds"] == 0
    assert stage.row(not_due).submitted_at is None
    proxy.close()
