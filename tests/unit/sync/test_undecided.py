"""An error in any decision of sync ends its job as `Undiagnosable`, frees its queue, and holds up no other job.

The decisions are the functions of the pure modules that the loop, its parts and the ends in the ledger import. The test
finds them itself. Each raises an error whenever it is called about one job, its dependent or its limit. The ledger is
real, on SQLite.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from sqlalchemy import Engine
from tests.contract.ledger import new_job
from tests.unit.sync.engine_writer import loop_on
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.contract.failed_decisions import TRIES
from spoke_jobs.ledger.lifecycle import finish
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import Claim, JobRequest, JobState
from spoke_jobs.sync import output_keeper
from spoke_jobs.sync.decide import failed_attempts
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.sync_model import SpokeJobView

PURE = (
    "spoke_jobs.sync.decide",
    "spoke_jobs.sync.sync_model",
    "spoke_jobs.cluster.manifest",
    "spoke_jobs.ledger.dependencies.dependency_rules",
    "spoke_jobs.limits.operator_limits",
    "spoke_jobs.limits.published_limits",
)
PARTS = ("sync.leader_loop", "sync.effects", "sync.output_keeper", "sync.limit_publisher", "ledger.lifecycle.finish")
LATER = {"after_ends", "failure_of"}
"""Decisions about what depends on the job: the job ends in any case, and they are repeated."""


class Defect(Exception):
    """The error that is injected. No code knows it."""


def decisions() -> list[tuple[str, str]]:
    """Module and name of each decision, as the loop and its parts know it."""
    found = []
    for part in PARTS:
        for name, item in vars(importlib.import_module(f"spoke_jobs.{part}")).items():
            if inspect.isfunction(item) and item.__module__ in PURE:
                found.append((part, name))
    return sorted(found)


@pytest.mark.parametrize(("part", "name"), decisions())
def test_an_error_in_a_decision_ends_its_job_and_holds_up_no_other(
    part: str, name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, cluster, now = SqlLedger(engine), FakeCluster(), 100.0
    options = {"runner": "kubernetes", "queue_name": "exports", "locks_queue": True}
    offender = ledger.insert(new_job(**options, job_type="offender"))
    dependent = ledger.insert(new_job(**options, job_type="offender's", after=(offender.id,)))
    SqlLimits(engine).set(parse_scope("type:offender"), lambda _: Bounds(max_running=7))
    good = ledger.insert(new_job(**options, job_type="good"))
    claim(ledger, offender)
    raised = 0
    holder = importlib.import_module(f"spoke_jobs.{part}")
    real = getattr(holder, name)

    def broken(*args: Any, **given: Any) -> Any:
        nonlocal raised
        if "offender" in repr((args, given)) or (name == "after_ends" and offender.id in args[0]):
            raised += 1
            raise Defect("offender")
        return real(*args, **given)

    monkeypatch.setattr(holder, name, broken)
    health = SyncHealth()
    loop = loop_on(engine, cluster, lambda: now, health, launch=1, progress=1, compare=1, prune=1e9, patience=0)

    def turns(*jobs: JobRequest) -> dict[str, JobRequest]:
        """Run sync until the jobs have ended, or for 60 turns. Return their rows by type."""
        nonlocal now
        for _ in range(60):
            loop.turn()
            now += 2
            for body in list(cluster.objects.values()):
                attempts = [{"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": "NodeLost", "pod": "pod-1"}]
                cluster.put(body, outcome="Failed", cause="NodeLost", attempt=1, attempts=attempts)
            rows = [found for job in jobs if (found := ledger.get(job.id))]
            if all(row.state.final for row in rows):
                break
        return {row.job_type: row for row in rows}

    ends = turns(offender, good)
    assert ends["good"].cause == "NodeLost", "the other job ends as the cluster says"
    assert ends["offender"].state is JobState.FAILED
    third = ledger.insert(new_job(**options))
    assert isinstance(ledger.claim(third.id, third.uid, 1, 1, "pod", 30.0), Claim), "the queue is free"
    assert health.failures["given up"] == (ends["offender"].cause == "Undiagnosable")
    if ends["offender"].cause == "Undiagnosable":
        assert raised >= TRIES
        assert "Defect in test_undecided.py" in ends["offender"].result_message
    if name in LATER:
        assert raised
        assert ends["offender"].cause == "SpokeJobDeleted", "its own end is written"
        monkeypatch.undo()
    assert turns(dependent)["offender's"].cause == "DependencyFailed", "what depends on the job ends after it"
    loop._outputs.close()


def test_an_error_about_an_earlier_run_does_not_end_the_later_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, cluster, health, now = SqlLedger(engine), FakeCluster(), SyncHealth(), 100.0
    offender = ledger.insert(new_job(runner="kubernetes"))
    loop = loop_on(engine, cluster, lambda: now, health, launch=1, progress=1, compare=1, prune=1e9, patience=0)
    loop.turn()
    (first,) = cluster.objects.values()
    attempts = [{"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": "NodeLost", "pod": "pod-1"}]
    ledger.cancel(offender.id)
    ledger.retry(offender.id)
    good = ledger.insert(new_job(runner="kubernetes"))
    cluster.put(first, outcome="Failed", cause="NodeLost", attempt=1, attempts=attempts)
    raised = 0

    def broken(seen: SpokeJobView) -> Any:
        nonlocal raised
        if seen.job_uid == offender.uid and seen.run == 1:
            raised += 1
            raise Defect
        return failed_attempts(seen)

    monkeypatch.setattr(output_keeper, "failed_attempts", broken)
    for _ in range(2 * TRIES):
        now += 2
        loop.turn()
    assert raised == health.failures["failed"] == TRIES, "it is tried a few times"
    for job in (offender, good):
        found = ledger.get(job.id)
        assert found is not None
        assert (found.state, found.submitted_at is not None) == (JobState.WAITING, True)
    loop._outputs.close()


def claim(ledger: SqlLedger, job: JobRequest) -> None:
    """Claim the job's first attempt, as its pod does."""
    assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", 3600.0), Claim)


def test_the_decisions_are_found() -> None:
    assert {
        ("sync.leader_loop", "decide"),
        ("sync.effects", "spokejob"),
        ("sync.output_keeper", "failed_attempts"),
        ("sync.limit_publisher", "to_publish"),
        ("ledger.lifecycle.finish", "after_ends"),
    } <= set(decisions())


def test_an_error_about_dependents_undoes_no_success(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = SqlLedger(engine)
    needed = ledger.insert(new_job())
    dependent = ledger.insert(new_job(after=(needed.id,)))
    claimed = ledger.claim(needed.id, needed.uid, 1, 1, "pod", 30.0)
    assert isinstance(claimed, Claim)

    def broken(*_: object) -> None:
        raise Defect

    monkeypatch.setattr(finish, "after_ends", broken)
    ledger.succeed(None, claimed.token, None)
    assert state_of(ledger, needed) is JobState.SUCCEEDED
    ledger.settle()
    assert state_of(ledger, dependent) is JobState.BLOCKED
    monkeypatch.undo()
    ledger.settle()
    assert state_of(ledger, dependent) is JobState.WAITING


def state_of(ledger: SqlLedger, job: JobRequest) -> JobState:
    """Read the job's state."""
    found = ledger.get(job.id)
    assert found is not None
    return found.state
