"""Rows become SpokeJobs: once, whatever crashes, and never a second time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Stage, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.model import JobRequest, JobState

WORK = JobData("work", {"secret": "marker-in-the-payload"})


def unlaunched(stage: Stage, **changes: Any) -> JobRequest:
    """A committed row whose application died before it could create anything."""
    return stage.runner(submit="sync", **changes).dispatch_job(WORK)


def test_a_row_that_the_application_left_behind_is_launched(stage: Stage) -> None:
    with stage.sync():
        job = unlaunched(stage)
        row = stage.until(job, lambda row: row.submitted_at)
        assert row.state is JobState.WAITING
        body = stage.cluster.get(job)
        assert body is not None
        assert (body["spec"]["uid"], body["spec"]["requestId"]) == (str(job.uid), job.id)
        assert "marker-in-the-payload" not in str(body)


@pytest.mark.alone
def test_a_deleted_spokejob_ends_its_row_and_is_not_made_again(stage: Stage) -> None:
    with stage.sync():
        job = unlaunched(stage)
        stage.until(job, lambda row: row.submitted_at)
        stage.cluster.delete(job)
        row = stage.until(job, lambda row: row.state.final, 20, promised=True)  # sooner than a comparison, every 30 s
        assert (row.state, row.cause) == (JobState.FAILED, "SpokeJobDeleted")
        assert stays(lambda: stage.cluster.all() == [], 2)


@pytest.mark.alone
def test_with_submit_sync_the_dispatch_s_own_bell_has_it_launched(stage: Stage) -> None:
    """As the chart has it, where sync itself is told nothing of how others submit; its own looks are a minute apart."""
    with stage.sync(SPOKE_POLL_SECONDS="60") as sync:
        sync.until("active")
        runner = stage.runner(submit="sync")
        for _ in range(5):
            job = runner.dispatch_job(WORK)
            stage.until(job, lambda row: row.submitted_at, 20, promised=True)  # sooner than a comparison, every 30 s


@pytest.mark.alone
def test_what_is_unblocked_by_an_end_that_sync_records_is_launched_at_once(stage: Stage) -> None:
    runner = stage.runner(submit="sync")
    with stage.sync(SPOKE_SUBMIT="sync", SPOKE_POLL_SECONDS="60") as sync:
        sync.until("active")
        first = runner.dispatch_job(WORK)
        second = runner.dispatch_job(JobData("work", after=[first], after_failed="run"))
        stage.until(first, lambda row: row.submitted_at)
        stage.cluster.report(first, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
        stage.until(second, lambda row: row.submitted_at, 20, promised=True)  # sooner than a comparison, every 30 s


def test_metrics_tell_what_waits_what_was_done_and_what_of_it_was_a_repair(stage: Stage) -> None:
    left_behind = unlaunched(stage)
    with stage.sync(SPOKE_SUBMIT="sync") as sync:
        stage.until(left_behind, lambda row: row.submitted_at)
        eventually(lambda: sync.metrics().get("spoke_sync_comparisons_total") == 1, "it has compared")
        launched = unlaunched(stage)
        stage.until(launched, lambda row: row.submitted_at)
        eventually(lambda: sync.metrics()['spoke_sync_actions_total{kind="Launch"}'] == 2, "both are counted")
        found = sync.metrics()
        assert found["spoke_sync_active"] == 1
        assert found["spoke_sync_jobs_unlaunched"] == 0
        assert found['spoke_sync_repairs_total{kind="Launch"}'] == 1, "the one that was left behind"


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
