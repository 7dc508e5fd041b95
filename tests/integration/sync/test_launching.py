"""Rows become SpokeJobs: once, whatever crashes, and never a second time."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.integration.sync.proxy import Proxy, api_server_of, kubeconfig_by
from tests.integration.sync.stage import Stage, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.ledger.tables import job_request
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


def test_rows_that_were_there_before_sync_are_launched(stage: Stage) -> None:
    jobs = [unlaunched(stage) for _ in range(20)]
    with stage.sync(SPOKE_SUBMIT="sync"):
        for job in jobs:
            stage.until(job, lambda row: row.submitted_at)
    assert len(stage.cluster.all()) == 20


def test_a_spokejob_of_the_same_uid_is_the_row_s_own(stage: Stage) -> None:
    """The application died between creating and recording."""
    job = unlaunched(stage)
    made = stage.cluster.create(spokejob(job, stage.cluster.namespace))
    with stage.sync():
        stage.until(job, lambda row: row.submitted_at)
    body = stage.cluster.get(job)
    assert body is not None
    assert body["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_spokejob_of_another_uid_fails_the_row(stage: Stage) -> None:
    """An old one, of a database that is no more."""
    job = unlaunched(stage)
    other = spokejob(job, stage.cluster.namespace)
    other["spec"]["uid"] = str(uuid.uuid4())
    stage.cluster.create(other)
    with stage.sync():
        row = stage.until(job, lambda row: row.state.final)
    assert (row.state, row.cause, row.status) == (JobState.FAILED, "NameTaken", -1)
    assert row.result_message
    assert row.finished_at is not None
    assert "ledger" not in stage.cluster.status(job), "nobody else's SpokeJob is touched"


def test_a_row_that_can_be_no_spokejob_fails_by_name(stage: Stage) -> None:
    stage.registry.job("odd")(lambda _ctx, _payload: None)
    job = stage.runner(submit="sync").dispatch_job(JobData("odd"))
    with stage.ledger.engine.begin() as connection:  # as another release may have written it
        options = job.options.to_json() | {"podTemplate": "x" * 300}
        connection.execute(update(job_request).where(job_request.c.id == job.id).values(options=options))
    with stage.sync():
        row = stage.until(job, lambda row: row.state.final)
    assert row.cause == "InvalidSpec"


@pytest.mark.alone
def test_a_deleted_spokejob_ends_its_row_and_is_not_made_again(stage: Stage) -> None:
    with stage.sync():
        job = unlaunched(stage)
        stage.until(job, lambda row: row.submitted_at)
        stage.cluster.delete(job)
        row = stage.until(job, lambda row: row.state.final, 20, promised=True)  # sooner than a comparison, every 30 s
        assert (row.state, row.cause) == (JobState.FAILED, "SpokeJobDeleted")
        assert stays(lambda: stage.cluster.all() == [], 2)


def test_a_spokejob_deleted_while_sync_was_away_ends_its_row_and_claim(stage: Stage) -> None:
    with stage.sync():
        job = unlaunched(stage)
        stage.until(job, lambda row: row.submitted_at)
    stage.claim(job)
    stage.cluster.delete(job)
    with stage.sync():
        row = stage.until(job, lambda row: row.state.final)
    assert row.cause == "SpokeJobDeleted"
    assert [attempt.cause for attempt in stage.ledger.attempts(job.id)] == ["SpokeJobDeleted"]
    assert stage.cluster.all() == []


def test_a_claimed_row_is_never_launched_even_if_no_submission_is_recorded(stage: Stage) -> None:
    """Created, claimed by its pod, deleted; and whoever created it died before the record."""
    job = unlaunched(stage)
    stage.claim(job)
    with stage.sync():
        row = stage.until(job, lambda row: row.state.final)
    assert row.cause == "SpokeJobDeleted"
    assert stage.cluster.all() == []


def test_spokejobs_of_nobody_are_let_be(stage: Stage) -> None:
    stranger = stage.row(unlaunched(stage)).evolve(id=4711, uid=uuid.uuid4())
    stage.cluster.create(spokejob(stranger, stage.cluster.namespace))
    stage.cluster.report(stranger, outcome="Succeeded", attempt=1)
    with stage.sync():
        eventually(lambda: len(stage.cluster.all()) == 2, "sync has come round")
        assert stage.cluster.status(stranger) == {"outcome": "Succeeded", "attempt": 1} | {
            key: value for key, value in stage.cluster.status(stranger).items() if key not in ("outcome", "attempt")
        }
        assert "ledger" not in stage.cluster.status(stranger)


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


def test_rows_whose_retention_is_over_are_deleted(stage: Stage) -> None:
    job = unlaunched(stage)
    with stage.ledger.engine.begin() as connection:
        over = {"state": JobState.FAILED, "status": -1, "expires_at": datetime.now(UTC) - timedelta(hours=1)}
        connection.execute(update(job_request).where(job_request.c.id == job.id).values(**over))
    with stage.sync():
        eventually(lambda: stage.ledger.get(job.id) is None, "it is deleted")


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
