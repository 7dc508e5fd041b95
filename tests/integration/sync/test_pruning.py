"""Rows that can't be deleted, and all else that sync does beside them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from tests.waiting import eventually

from spoke_jobs import JobData

from .stage import Stage


@pytest.mark.alone
def test_what_can_not_be_deleted_keeps_nothing_else_from_its_turn(stage: Stage) -> None:
    """An application's table refers to jobs, and somebody has its row locked for longer than sync waits."""
    runner = stage.runner(submit="sync")
    old = runner.dispatch_job(JobData("work", retention_seconds=0))
    stage.ledger.cancel(old.id)
    with stage.ledger.engine.begin() as connection:
        table = "CREATE TABLE note (job_id bigint REFERENCES job_request (id) ON DELETE CASCADE)"
        connection.execute(text(table))
        connection.execute(text("INSERT INTO note VALUES (:id)"), {"id": old.id})
    with stage.ledger.engine.connect() as holder, stage.sync() as sync:
        holder.execute(text("SELECT * FROM note FOR UPDATE"))
        eventually(lambda: sync.metrics()["spoke_sync_comparisons_total"] >= 1, "it has tried")
        for _ in range(3):
            job = runner.dispatch_job(JobData("work"))
            stage.until(job, lambda row: row.submitted_at, 20, promised=True)  # sooner than a comparison, every 30 s
        holder.rollback()
    kept = stage.row(old)
    assert kept.expires_at is not None
    assert kept.expires_at > kept.created_at + timedelta(minutes=5), "it is tried again later"
    assert "unexpected error" not in sync.log
