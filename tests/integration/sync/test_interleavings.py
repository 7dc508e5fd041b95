"""What happens right while sync is at it: it is stopped at a point of its work, the world goes on, and so does it.

None of it may launch a job twice that is alive, or declare one dead that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.orm import Session
from tests.integration.sync.stage import Stage, SyncProcess, attempt, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.model import AttemptState, JobRequest, JobState, Pulse


def dispatched(stage: Stage, job_type: str = "work") -> JobRequest:
    """A committed row that nobody but sync launches."""
    return stage.runner(submit="sync").dispatch_job(JobData(job_type))


def created(stage: Stage, job_type: str = "work", *, recorded: bool = True) -> JobRequest:
    """A row whose SpokeJob its application has created, and has lived to record or not."""
    job = dispatched(stage, job_type)
    stage.cluster.create(spokejob(job, stage.cluster.namespace))
    if recorded:
        with stage.ledger.engine.begin() as connection:
            syncing.record_submitted(connection, job)
    return job


def made(stage: Stage) -> dict[str, str]:
    """By the rows' uids the SpokeJobs that there are, as Kubernetes tells them apart."""
    return {item["spec"]["uid"]: item["metadata"]["uid"] for item in stage.cluster.all()}


@contextmanager
def stopped(stage: Stage, point: str) -> Iterator[SyncProcess]:
    """A sync that stops at that point of its work; it goes on, if it hasn't, and ends."""
    with stage.sync(SPOKE_SUBMIT="sync", FAILPOINT=f"stop {point}") as sync:
        try:
            yield sync
        finally:
            sync.go_on()


def compared(sync: SyncProcess) -> None:
    """Sync has come round once it goes on."""
    sync.go_on()
    eventually(lambda: (sync.health() or {}).get("secondsSinceCompare") is not None, "it has compared")


# What happens while sync lists


def test_what_happens_while_sync_lists_is_neither_done_twice_nor_undone(stage: Stage) -> None:
    """Sync has read the rows. The listing shows the new SpokeJobs, the exit with 0, and the second attempt."""
    succeeded, goes_on = created(stage), created(stage)
    success = stage.claim(succeeded)
    stage.claim(goes_on, 1, lease_seconds=0.05)
    with stopped(stage, "before list") as sync:
        sync.until_stopped()
        stage.ledger.succeed(None, success.token, {"rows": 5})
        stage.cluster.report(succeeded, outcome="Succeeded", attempt=1, attempts=[ended(cause="")])
        eventually(lambda: stage.can_claim(goes_on, 2), "the lease has lapsed, and the second pod has the job")
        records = [ended(1, "NodeLost"), attempt(2)]
        stage.cluster.report(goes_on, outcome="Running", attempt=2, attempts=records)
        bare, whole, unrecorded = dispatched(stage), created(stage), created(stage, recorded=False)
        before = made(stage)
        claims = [stage.claim(job) for job in (whole, unrecorded)]
        compared(sync)
        for job in (bare, unrecorded):
            stage.until(job, lambda row: row.submitted_at)
        eventually(lambda: stage.cluster.status(succeeded).get("ledger") == "Succeeded", "the success shows")
        assert all(stage.ledger.heartbeat(claim.token, 60.0, None) is Pulse.HELD for claim in claims)
    assert before.items() <= made(stage).items(), "the very same"
    assert len(stage.cluster.all()) == 5
    assert (stage.row(succeeded).state, stage.row(succeeded).result) == (JobState.SUCCEEDED, {"rows": 5})
    states = [(item.number, item.state) for item in stage.ledger.attempts(goes_on.id)]
    assert states == [(1, AttemptState.FAILED), (2, AttemptState.RUNNING)]


# A SpokeJob deleted between create and record


def test_a_spokejob_deleted_before_sync_has_recorded_it_is_not_made_again(stage: Stage) -> None:
    with stopped(stage, "after api Launch") as sync:
        job = dispatched(stage)
        sync.until_stopped()
        assert stage.row(job).submitted_at is None
        stage.cluster.delete(job)
        sync.go_on()
        assert stage.until(job, lambda row: row.state.final).cause == "SpokeJobDeleted"
        assert stays(lambda: stage.cluster.all() == [], 1)


def test_a_claim_made_while_sync_is_about_to_launch_leaves_one_alive(stage: Stage) -> None:
    """The application's own try is slow, and comes in between sync's last look and its call."""
    with stopped(stage, "before api Launch") as sync:
        job = dispatched(stage)
        sync.until_stopped()
        stage.cluster.create(spokejob(job, stage.cluster.namespace))
        before, claim = made(stage), stage.claim(job)
        sync.go_on()
        stage.until(job, lambda row: row.submitted_at)
        assert stage.ledger.heartbeat(claim.token, 60.0, None) is Pulse.HELD
    assert made(stage) == before


# Ids that are committed out of order


def test_a_row_committed_after_later_ids_is_launched(stage: Stage) -> None:
    runner = stage.runner(submit="sync")
    with stage.sync(SPOKE_SUBMIT="sync") as sync, Session(stage.ledger.engine) as early:
        first = runner.dispatch_job(JobData("work"), session=early)
        with Session(stage.ledger.engine) as late:
            second = runner.dispatch_job(JobData("work"), session=late)
            late.commit()
        assert first.id < second.id
        stage.until(second, lambda row: row.submitted_at)
        compared(sync)
        assert list(made(stage)) == [str(second.uid)]
        early.commit()
        stage.until(first, lambda row: row.submitted_at)
    assert len(stage.cluster.all()) == 2


# Two syncs: the lock goes with its connection, in the middle of a write


def cut_the_writer(stage: Stage) -> None:
    """End the session that holds the lock, as a server or a network does that fails."""
    holders = """SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database
                 WHERE locktype = 'advisory' AND granted AND datname = current_database()"""
    with stage.ledger.engine.begin() as connection:
        (pid,) = connection.scalars(text(holders))
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_cut_off_before_it_creates_the_spokejob_it_finds_the_other_s(stage: Stage) -> None:
    with stopped(stage, "before api Launch") as first:
        job = dispatched(stage)
        first.until_stopped()
        cut_the_writer(stage)
        with stage.sync(SPOKE_SUBMIT="sync") as second:
            submitted = stage.until(job, lambda row: row.submitted_at).submitted_at
            before = made(stage)
            first.go_on()
            first.until("standby")
            assert made(stage) == before
            later = dispatched(stage)
            stage.until(later, lambda row: row.submitted_at)
            second.end()
            assert f"job {later.id} " in second.log
    assert stage.row(job).submitted_at == submitted
    assert f"job {later.id} " not in first.log


def test_cut_off_in_the_middle_of_a_transaction_it_ends_no_later_attempt(stage: Stage) -> None:
    job = created(stage)
    stage.claim(job)
    stage.cluster.report(job, outcome="Waiting", attempt=1, attempts=[ended(1, "NodeLost")])
    with stopped(stage, "before sql EndAttempt") as first:
        first.until_stopped()
        assert stage.row(job).state is JobState.RUNNING, "it isn't committed"
        cut_the_writer(stage)
        with stage.sync(SPOKE_SUBMIT="sync"):
            assert stage.until(job, lambda row: row.state is JobState.WAITING).cause == "NodeLost"
            stage.cluster.report(job, outcome="Running", attempt=2, attempts=[ended(1, "NodeLost"), attempt(2)])
            claim = stage.claim(job, 2)
            first.go_on()
            first.until("standby")
            assert stage.ledger.heartbeat(claim.token, 60.0, None) is Pulse.HELD
    assert [item.cause for item in stage.ledger.attempts(job.id)] == ["NodeLost", ""]


def test_cut_off_after_the_commit_its_failure_is_followed_by_one_job(stage: Stage) -> None:
    stage.registry.job("after")(lambda _ctx, _payload: None)
    stage.registry.job("followed", on_failure="after")(lambda _ctx, _payload: None)
    job = created(stage, "followed")
    stage.cluster.report(job, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
    with stopped(stage, "after sql FailJob") as first:
        first.until_stopped()
        finished = stage.row(job).finished_at
        cut_the_writer(stage)
        with stage.sync(SPOKE_SUBMIT="sync"):
            eventually(lambda: stage.cluster.status(job).get("ledger") == "Failed", "its end is shown")
            first.go_on()
            first.until("standby")
    assert (stage.row(job).finished_at, stage.row(job).cause) == (finished, "ImageUnavailable")
    assert [item.job_type for item in stage.ledger.list_jobs() if item.id != job.id] == ["after"]
