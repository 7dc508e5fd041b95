"""Several databases in one namespace; a database recreated, or restored from a backup, under SpokeJobs of its past.

Nothing is adopted that is another's, and nothing is lost without a name. docs/restoring.md tells operators what reruns:
its table is this module's second half.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from tests.integration.sync.stage import Body, Cluster, Stage, attempt, ended
from tests.waiting import eventually, stays

from spoke_jobs import JobData
from spoke_jobs.cluster.manifest import name_of, spokejob
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.engine import create_engine as create_ledger_engine
from spoke_jobs.ledger.port import AlreadyFinal, NoRow
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptState, Claim, Failure, JobRequest, JobState, Pulse

Stages = Callable[[str], Stage]


@pytest.fixture
def on_copy_of(cluster: Cluster, postgres_url: str) -> Iterator[Stages]:
    """Another stage in the same namespace, on a copy of that database as it is now."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")

    @contextmanager
    def copied(of: str) -> Iterator[Stage]:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with admin.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{of}"'))
        url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        engine = create_ledger_engine(url)
        made = Stage(cluster, SqlLedger(engine), url)
        yield made
        made.close()
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))

    with ExitStack() as stack:
        yield lambda of: stack.enter_context(copied(of))
    admin.dispose()


@pytest.fixture
def other(on_copy_of: Stages, _migrated_template: str, stage: Stage) -> Stage:
    """A second application, with an empty database of its own."""
    assert stage
    return on_copy_of(_migrated_template)


def dispatched(stage: Stage) -> JobRequest:
    """A committed row that nobody but sync launches."""
    return stage.runner(submit="sync").dispatch_job(JobData("work"))


def created(stage: Stage, *, recorded: bool = True) -> JobRequest:
    """The same, its SpokeJob made by its application."""
    job = dispatched(stage)
    stage.cluster.create(spokejob(job, stage.cluster.namespace))
    if recorded:
        with stage.ledger.engine.begin() as connection:
            syncing.record_submitted(connection, job)
    return job


def running(stage: Stage, job: JobRequest, number: int = 1) -> Claim:
    """The operator has started that attempt, and its pod has claimed it."""
    records = [*(ended(earlier, "NodeLost") for earlier in range(1, number)), attempt(number)]
    stage.cluster.report(job, outcome="Running", attempt=number, attempts=records)
    return stage.claim(job, number)


def succeeded(stage: Stage, job: JobRequest, claim: Claim) -> None:
    """Its pod has recorded its success, the operator has seen it go, and sync has shown what the ledger says."""
    stage.ledger.succeed(None, claim.token, {"rows": 5})
    stage.cluster.report(job, outcome="Succeeded", attempt=claim.number, attempts=[ended(claim.number, cause="")])
    with stage.sync():
        eventually(lambda: stage.cluster.status(job).get("ledger") == "Succeeded", "its success shows")


def body(stage: Stage, job: JobRequest) -> Body:
    found = stage.cluster.get(job)
    assert found
    return found


# Two applications in one namespace, each with its database and its sync


def test_two_databases_in_one_namespace_keep_apart(stage: Stage, other: Stage) -> None:
    """Same ids, same types: nothing of the one's comes to the other's rows."""
    with stage.sync(SPOKE_SUBMIT="sync") as one, other.sync(SPOKE_SUBMIT="sync") as two:
        ours, theirs = [[dispatched(which) for _ in range(4)] for which in (stage, other)]
        assert [job.id for job in ours] == [job.id for job in theirs]
        for which, jobs in ((stage, ours), (other, theirs)):
            for job in jobs:
                which.until(job, lambda row: row.submitted_at)
        assert len(stage.cluster.all()) == 8
        assert {one.health()["role"], two.health()["role"]} == {"active"}  # type: ignore[index]

        fails, is_deleted, is_cancelled, works = ours
        held = [running(other, job) for job in theirs]
        stage.cluster.report(fails, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
        stage.cluster.delete(is_deleted)
        running(stage, is_cancelled)
        stage.ledger.cancel(is_cancelled.id)
        assert stage.until(fails, lambda row: row.state.final).cause == "ImageUnavailable"
        assert stage.until(is_deleted, lambda row: row.state.final).cause == "SpokeJobDeleted"
        eventually(lambda: body(stage, is_cancelled)["spec"].get("cancel"), "the cancellation is passed on")
        assert stage.row(works).state is JobState.WAITING
        assert all(other.ledger.heartbeat(claim.token, 60.0, None) is Pulse.HELD for claim in held)
        assert not any(body(other, job)["spec"].get("cancel") for job in theirs)
        assert not any("ledger" in other.cluster.status(job) for job in theirs)


# The database restored from an older backup


@contextmanager
def restored(backup: Stage) -> Iterator[Stage]:
    """Sync is up again, on the database as it was."""
    with backup.sync(SPOKE_SUBMIT="sync") as sync:
        eventually(lambda: (sync.health() or {}).get("secondsSinceCompare") is not None, "it has compared")
        yield backup


def back_up(stage: Stage, on_copy_of: Stages) -> Stage:
    """A copy of the database as it is now."""
    stage.close()
    stage.ledger.engine.dispose()
    return on_copy_of(make_url(stage.url).database or "")


def test_what_had_not_been_launched_when_the_backup_was_taken(stage: Stage, on_copy_of: Stages) -> None:
    expired, waits, runs, failed, done = (dispatched(stage) for _ in range(5))
    backup = back_up(stage, on_copy_of)
    for job in (waits, runs, failed, done):
        stage.cluster.create(spokejob(job, stage.cluster.namespace))
    lost = running(stage, runs)
    stage.cluster.report(failed, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
    succeeded(stage, done, running(stage, done))
    before = {job.id: body(stage, job)["metadata"]["uid"] for job in (waits, runs, failed, done)}
    with stage.sync():  # the expired one ran to its end, and its SpokeJob went when its time was over
        stage.until(expired, lambda row: row.submitted_at)
    stage.cluster.delete(expired)

    with restored(backup):
        backup.until(expired, lambda row: row.submitted_at)
        assert name_of(expired) in {item["metadata"]["name"] for item in backup.cluster.all()}, "it runs again"
        backup.until(runs, lambda row: row.submitted_at)
        assert backup.ledger.heartbeat(lost.token, 60.0, None) is Pulse.GONE, "its pod stops"
        assert backup.can_claim(runs, 2), "and the next attempt of the same SpokeJob runs it again"
        backup.until(waits, lambda row: row.submitted_at)
        assert backup.can_claim(waits, 1), "the same SpokeJob's first attempt runs it"
        assert backup.until(failed, lambda row: row.state.final).cause == "ImageUnavailable"
        row = backup.until(done, lambda row: row.state.final)
        assert (row.state, row.cause) == (JobState.FAILED, "JobExited")
        assert "backup" in row.result_message
        assert {job.id: body(backup, job)["metadata"]["uid"] for job in (waits, runs, failed, done)} == before


def test_what_had_been_launched_when_the_backup_was_taken(stage: Stage, on_copy_of: Stages) -> None:
    waits, runs, failed, expired, done = (created(stage) for _ in range(5))
    backup = back_up(stage, on_copy_of)
    lost = running(stage, runs)
    stage.cluster.report(failed, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
    succeeded(stage, expired, running(stage, expired))
    stage.cluster.delete(expired)
    succeeded(stage, done, running(stage, done))

    with restored(backup):
        assert backup.until(expired, lambda row: row.state.final).cause == "SpokeJobDeleted"
        assert backup.until(done, lambda row: row.state.final).cause == "JobExited"
        assert backup.until(failed, lambda row: row.state.final).cause == "ImageUnavailable"
        assert backup.ledger.heartbeat(lost.token, 60.0, None) is Pulse.GONE
        assert backup.can_claim(runs, 2)
        assert backup.can_claim(waits, 1)
        # Both are started anew by hand, each in a SpokeJob of its own.
        for job in (expired, done):
            again = backup.ledger.retry(job.id)
            assert again
            backup.until(again, lambda row: row.submitted_at)
            assert body(backup, again)["spec"]["run"] == 2


def test_what_ran_when_the_backup_was_taken(stage: Stage, on_copy_of: Stages) -> None:
    goes_on, lapses, came_again, done, expired, failed, was_done = (created(stage) for _ in range(7))
    same, first, finished, _, _ = (running(stage, job) for job in (goes_on, came_again, done, expired, failed))
    stage.cluster.report(lapses, outcome="Running", attempt=1, attempts=[attempt(1)])
    lapsed = stage.claim(lapses, lease_seconds=0.05)
    succeeded(stage, was_done, running(stage, was_done))
    backup = back_up(stage, on_copy_of)
    stage.cluster.report(failed, outcome="Failed", cause="NodeLost", attempt=1, attempts=[ended(1, "NodeLost")])
    stage.ledger.fail(first.token, Failure("NodeLost"), decide=False)
    second = running(stage, came_again, 2)
    succeeded(stage, done, finished)
    stage.cluster.delete(expired)

    with restored(backup):
        assert backup.until(expired, lambda row: row.state.final).cause == "SpokeJobDeleted"
        assert backup.until(done, lambda row: row.state.final).cause == "JobExited"
        backup.until(came_again, lambda row: row.state is JobState.WAITING)
        assert [item.cause for item in backup.ledger.attempts(came_again.id)] == ["NodeLost"]
        assert backup.ledger.heartbeat(second.token, 60.0, None) is Pulse.GONE
        assert backup.can_claim(came_again, 3)
        assert backup.ledger.heartbeat(same.token, 60.0, None) is Pulse.HELD, "the same attempt, undisturbed"
        assert [item.state for item in backup.ledger.attempts(goes_on.id)] == [AttemptState.RUNNING]
        eventually(lambda: backup.can_claim(lapses, 2), "the next attempt of the one whose lease has lapsed")
        assert backup.ledger.heartbeat(lapsed.token, 60.0, None) is Pulse.GONE
        assert backup.until(failed, lambda row: row.state.final).cause == "NodeLost"
        assert backup.row(was_done).state is JobState.SUCCEEDED
        assert body(backup, was_done)["status"]["outcome"] == "Succeeded"


def test_what_was_retried_after_the_backup(stage: Stage, on_copy_of: Stages) -> None:
    job = created(stage)
    stage.cluster.report(job, outcome="Failed", cause="ImageUnavailable", attempt=1, attempts=[ended()])
    with stage.sync():
        stage.until(job, lambda row: row.state.final)
    backup = back_up(stage, on_copy_of)
    retried = stage.ledger.retry(job.id)
    assert retried
    stage.cluster.create(spokejob(retried, stage.cluster.namespace))
    succeeded(stage, retried, running(stage, retried))
    later = body(stage, retried)

    with restored(backup):
        assert stays(lambda: backup.row(job).cause == "ImageUnavailable", 1)
        assert isinstance(backup.ledger.claim(job.id, job.uid, 2, 2, "pod", 60.0), AlreadyFinal)
        assert body(backup, retried) == later
        # A retry meets the SpokeJob of the retry that is lost, and is told how that one ended; the next has its own.
        backup.ledger.retry(job.id)
        assert backup.until(job, lambda row: row.state.final).cause == "JobExited"
        again = backup.ledger.retry(job.id)
        assert again
        backup.until(again, lambda row: row.submitted_at)
        assert body(backup, again)["spec"]["run"] == 3


def test_what_was_dispatched_after_the_backup_is_nobody_s_and_its_id_comes_again(
    stage: Stage, on_copy_of: Stages
) -> None:
    created(stage)
    backup = back_up(stage, on_copy_of)
    lost = created(stage)
    claim, before = running(stage, lost), body(stage, lost)
    with restored(backup):
        fresh = dispatched(backup)
        assert fresh.id == lost.id
        row = backup.until(fresh, lambda row: row.submitted_at)
        assert (row.state, row.attempt) == (JobState.WAITING, 0)
        assert body(backup, lost) == before
        assert backup.ledger.heartbeat(claim.token, 60.0, None) is Pulse.GONE
        assert isinstance(backup.ledger.claim(lost.id, lost.uid, lost.run, 2, "pod", 60.0), NoRow)
        assert body(backup, fresh)["spec"]["uid"] == str(fresh.uid)
