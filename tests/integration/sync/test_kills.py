"""Sync killed before and after every write of a job's life: the end is the same, and nothing happens twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.integration.sync.stage import Stage, SyncProcess, attempt, ended
from tests.waiting import eventually

from spoke_jobs import JobData
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import AttemptState, Claim, JobRequest, JobState, Progress, Pulse

Story = Iterator[Callable[[], Any]]
"""What application, operator and pods do with a job; each time, what sync has to bring about before they go on."""


@dataclass
class Life:
    """A job, its pod, and all that was ever seen of its SpokeJob."""

    stage: Stage
    job: JobRequest
    pod: Claim | None = None
    """The attempt whose pod is alive, by what the operator has said."""
    made: set[str] = field(default_factory=set)
    """Kubernetes' uids of the SpokeJobs that were there."""

    @property
    def row(self) -> JobRequest:
        return self.stage.row(self.job)

    @property
    def spec(self) -> Any:
        return (self.stage.cluster.get(self.job) or {}).get("spec", {})

    @property
    def status(self) -> Any:
        return self.stage.cluster.status(self.job)

    def starts(self, number: int, percent: int) -> None:
        """The operator starts an attempt, its pod claims, and has come so far."""
        records = [*(self.status.get("attempts") or []), attempt(number)]
        self.stage.cluster.report(self.job, outcome="Running", attempt=number, attempts=records)
        self.pod = self.stage.claim(self.job, number, 600.0)
        assert self.stage.ledger.heartbeat(self.pod.token, 600.0, Progress(percent, "")) in Pulse

    def look(self) -> None:
        """What holds at every moment."""
        self.made |= {item["metadata"]["uid"] for item in self.stage.cluster.all() if item["spec"]["uid"] == self.uid}
        assert len(self.made) <= 1, "launched twice"
        if self.pod is not None:
            live = [item for item in self.stage.ledger.attempts(self.job.id) if item.state is AttemptState.RUNNING]
            assert [item.number for item in live] == [self.pod.number], "declared dead while it was alive"

    @property
    def uid(self) -> str:
        return str(self.job.uid)


def succeeds_at_the_second_attempt(life: Life) -> Story:
    stage, job = life.stage, life.job
    yield lambda: life.row.submitted_at
    life.starts(1, 40)
    yield lambda: life.status.get("progress", {}).get("percent") == 40
    life.pod = None
    stage.cluster.report(job, outcome="Waiting", attempt=1, attempts=[ended(1, "NodeLost")])
    yield lambda: life.row.state is JobState.WAITING
    life.starts(2, 60)
    yield lambda: life.status["progress"]["percent"] == 60
    assert life.pod
    stage.ledger.succeed(None, life.pod.token, {"rows": 5})
    life.pod = None
    yield lambda: life.status.get("ledger") == "Succeeded"
    assert (life.row.state, life.row.result, life.status["progress"]["percent"]) == (
        JobState.SUCCEEDED, {"rows": 5}, 100)  # fmt: skip
    assert [item.cause for item in stage.ledger.attempts(job.id)] == ["NodeLost", ""]
    with stage.ledger.engine.begin() as connection:
        over = {"expires_at": datetime.now(UTC) - timedelta(hours=1)}
        connection.execute(update(job_request).where(job_request.c.id == job.id).values(**over))
    yield lambda: stage.ledger.get(job.id) is None


def is_cancelled(life: Life) -> Story:
    """Its application died between create and record."""
    stage, job = life.stage, life.job
    stage.cluster.create(spokejob(job, stage.cluster.namespace))
    yield lambda: life.row.submitted_at
    life.starts(1, 0)
    stage.ledger.cancel(job.id)
    yield lambda: life.spec.get("cancel")
    life.pod = None
    stage.cluster.report(job, outcome="Failed", cause="Cancelled", attempt=1, attempts=[ended(1, "Cancelled")])
    yield lambda: life.status.get("ledger") == "Failed"
    assert (life.row.state, life.row.cause) == (JobState.FAILED, "Cancelled")
    assert [item.state for item in stage.ledger.attempts(job.id)] == [AttemptState.FAILED]


def is_deleted_as_it_runs(life: Life) -> Story:
    stage, job = life.stage, life.job
    stage.cluster.create(spokejob(job, stage.cluster.namespace))
    yield lambda: life.row.submitted_at
    life.starts(1, 0)
    life.pod = None
    stage.cluster.delete(job)
    yield lambda: life.row.state.final
    assert (life.row.state, life.row.cause) == (JobState.FAILED, "SpokeJobDeleted")
    assert stage.cluster.all() == []


def can_be_no_spokejob(life: Life) -> Story:
    stage, job = life.stage, life.job
    with stage.ledger.engine.begin() as connection:  # as another release may have written it
        options = job.options.to_json() | {"podTemplate": "x" * 300}
        connection.execute(update(job_request).where(job_request.c.id == job.id).values(options=options))
    yield lambda: life.row.state.final
    assert (life.row.state, life.row.cause) == (JobState.FAILED, "InvalidSpec")


def lived_through(stage: Stage, story: Callable[[Life], Story]) -> Counter[str]:
    """A job's life, in which no sync makes more than one write; gives how often each write was come to."""
    life = Life(stage, stage.runner(submit="sync").dispatch_job(JobData("work")))
    goes_on = story(life)
    wanted: list[Callable[[], Any] | None] = [next(goes_on)]

    def over() -> bool:
        life.look()
        while wanted[0] is not None and wanted[0]():
            wanted[0] = next(goes_on, None)
        return wanted[0] is None

    deaths, log = 0, ""
    while not over():
        moment = "after" if deaths % 2 else "before"
        sync = SyncProcess(stage, {"SPOKE_SUBMIT": "sync", "FAILPOINT": f"die {moment}"})
        try:
            eventually(lambda sync=sync: sync.process.poll() is not None or over(), "it dies, or all is done")
        finally:
            alive = sync.process.poll() is None
            sync.kill() if alive else sync.died()
            log += sync.log
        if not alive:
            deaths += 1
            assert deaths < 40, f"it goes in circles: {log}"
    print(f"killed {deaths} times")
    return Counter(line.removeprefix("failpoint: ") for line in log.splitlines() if line.startswith("failpoint"))


WRITES = {
    succeeds_at_the_second_attempt: {
        "api Launch": 1, "sql RecordSubmitted": 1, "api Mirror": 3, "sql EndAttempt": 1, "sql Prune": 1},
    is_cancelled: {"sql RecordSubmitted": 1, "api Cancel": 1, "sql FailJob": 1, "api Mirror": 1},
    is_deleted_as_it_runs: {"sql RecordSubmitted": 1, "sql ConfirmGone": 1},
    can_be_no_spokejob: {"sql Launch": 1},
}  # fmt: skip
"""How often each has to be made, in a life in which each is made and not remembered."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("story", WRITES, ids=lambda story: story.__name__)
def test_killed_before_and_after_every_write_of_a_job_that(stage: Stage, story: Callable[[Life], Story]) -> None:
    """No process makes more than one write. Each is first prevented, then made and not remembered."""
    passed = lived_through(stage, story)
    print(dict(passed))
    for write, times in WRITES[story].items():
        assert passed[f"after {write}"] == times, write
        assert passed[f"before {write}"] >= 2 * times, write
