"""Single decisions carried out on the real cluster and database, as a process that has fallen behind does it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from tests.integration.sync.stage import Stage

from spoke_jobs import JobData
from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.contract.custom_resources.spokejob import LedgerState
from spoke_jobs.model import JobRequest, JobState, Progress
from spoke_jobs.sync.effects import Effects
from spoke_jobs.sync.sync_model import ConfirmGone, Launch, Mirror, Row, SpokeJobView
from spoke_jobs.sync.writer import Writer


@pytest.fixture
def effects(stage: Stage) -> Iterator[Effects]:
    writer = Writer(stage.url)
    api = SpokeJobClient.connect(stage.cluster.namespace, Timeouts())
    yield Effects(writer, api)
    writer.close()
    api.close()


def dispatched(stage: Stage) -> JobRequest:
    return stage.runner(submit="sync").dispatch_job(JobData("work"))


def launched(stage: Stage, effects: Effects) -> tuple[JobRequest, SpokeJobView]:
    job = dispatched(stage)
    effects.carry_out(Launch(Row(job, None)))
    return job, effects.spokejobs[Row(job, None).name]


def test_a_name_that_is_taken_is_compared_by_uid(stage: Stage, effects: Effects) -> None:
    own, others = dispatched(stage), dispatched(stage)
    stage.cluster.create(spokejob(own, stage.cluster.namespace))
    foreign = spokejob(others, stage.cluster.namespace)
    foreign["spec"]["uid"] = str(uuid.uuid4())
    stage.cluster.create(foreign)
    for job in (own, others):
        effects.carry_out(Launch(Row(job, None)))
    assert stage.row(own).submitted_at is not None
    assert (stage.row(others).state, stage.row(others).cause) == (JobState.FAILED, "NameTaken")
    assert stage.row(others).submitted_at is None


def test_what_was_decided_long_ago_is_not_carried_out(stage: Stage, effects: Effects) -> None:
    job, seen = launched(stage, effects)
    effects.forget(seen.name)
    effects.carry_out(ConfirmGone(Row(stage.row(job), None)))
    assert stage.row(job).state is JobState.WAITING
    stage.cluster.delete(job)
    effects.carry_out(ConfirmGone(Row(stage.row(job), None)))
    assert stage.row(job).cause == "SpokeJobDeleted"
    effects.carry_out(Launch(Row(job, None)))
    assert stage.cluster.all() == [], "it was launched before"


def test_progress_is_paced_and_an_end_is_not(stage: Stage, effects: Effects) -> None:
    job, seen = launched(stage, effects)
    effects.carry_out(Mirror(seen, Progress(10, ""), None))
    effects.carry_out(Mirror(effects.spokejobs[seen.name], Progress(20, ""), None))
    assert stage.cluster.status(job)["progress"]["percent"] == 10
    effects.carry_out(Mirror(effects.spokejobs[seen.name], Progress(100, ""), LedgerState.SUCCEEDED))
    assert (stage.cluster.status(job)["progress"]["percent"], stage.cluster.status(job)["ledger"]) == (100, "Succeeded")


def test_a_stale_mirror_writes_nothing_and_is_decided_anew(stage: Stage, effects: Effects) -> None:
    job, stale = launched(stage, effects)
    stage.cluster.report(job, outcome="Running", attempt=1)
    effects.carry_out(Mirror(stale, Progress(10, ""), None))
    assert "progress" not in stage.cluster.status(job)
    assert effects.decide_again == {stale.name}
    effects.carry_out(Mirror(effects.spokejobs[stale.name], Progress(10, ""), None))
    assert stage.cluster.status(job)["progress"]["percent"] == 10
