"""Rows that the reference's own code inserts, assigns and deletes, beside those of the runner `kubernetes`.

The loop and the ledger are real. The cluster's objects are a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from tests.contract.ledger import LEASE, new_job
from tests.contract.reference_code import ReferenceCode
from tests.unit.sync.conftest import Turns
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.ledger.port import NoRow
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest, JobState


@pytest.fixture
def code(engine: Engine) -> Iterator[ReferenceCode]:
    found = ReferenceCode(engine)
    yield found
    found.close()


def own(ledger: SqlLedger) -> JobRequest:
    return ledger.insert(new_job(runner="kubernetes", job_type="export"))


def row(ledger: SqlLedger, job_id: int) -> JobRequest:
    found = ledger.get(job_id)
    assert found is not None
    return found


def test_its_rows_get_no_spokejob_and_a_worker_runs_those_that_it_has_not_assigned(
    ledger: SqlLedger, code: ReferenceCode, cluster: FakeCluster, turns: Turns
) -> None:
    inserted, assigned = code.dispatch(), code.dispatch(assigned=True)
    job = own(ledger)
    turns()
    assert list(cluster.objects) == [name_of(job)]
    runners = [(row(ledger, job_id).runner, row(ledger, job_id).state) for job_id in (inserted, assigned)]
    assert runners == [("legacy", JobState.WAITING), ("reference", JobState.WAITING)]
    (claim,) = ledger.claim_batch("legacy", ["export"], "worker", LEASE, 9)
    assert claim.job.id == inserted
    turns()
    ledger.succeed(None, claim.token, None)
    turns()
    assert row(ledger, inserted).state is JobState.SUCCEEDED
    assert list(cluster.objects) == [name_of(job)]


def test_a_launched_job_that_it_assigns_is_its_own_whatever_the_cluster_reports(
    ledger: SqlLedger, code: ReferenceCode, cluster: FakeCluster, turns: Turns
) -> None:
    job = own(ledger)
    turns()
    assert code.assign(job.id)
    assert isinstance(ledger.claim(job.id, job.uid, 1, 1, "pod", LEASE), NoRow)
    ended = [{"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": "NoRow"}]
    cluster.put(cluster.objects[name_of(job)], outcome="Failed", cause="NoRow", attempt=1, attempts=ended)
    turns()
    assert code.progress(job.id, 40) == 1
    found = row(ledger, job.id)
    assert (found.runner, found.state, found.status, found.cause) == ("reference", JobState.WAITING, 40, "")
    cluster.objects.clear()
    turns()
    assert row(ledger, job.id).state is JobState.WAITING, "nor when the SpokeJob is gone"
    code.execute(f"UPDATE job_request SET assigned = false WHERE id = {job.id}")
    turns()
    assert not cluster.objects
    assert [claim.job.id for claim in ledger.claim_batch("legacy", ["export"], "worker", LEASE, 9)] == [job.id]


def test_a_job_that_it_assigns_before_the_launch_is_not_launched(
    ledger: SqlLedger,
    code: ReferenceCode,
    cluster: FakeCluster,
    turns: Turns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sync has read the row already, and reads the PodTemplate."""
    job = own(ledger)
    monkeypatch.setattr(cluster, "pod_template", lambda name: code.assign(job.id) and None)
    turns()
    assert not cluster.objects
    found = row(ledger, job.id)
    assert (found.runner, found.state, found.submitted_at) == ("reference", JobState.WAITING, None)


def test_a_launched_job_that_it_deletes_holds_up_no_other(
    ledger: SqlLedger, code: ReferenceCode, cluster: FakeCluster, turns: Turns
) -> None:
    first, second = own(ledger), own(ledger)
    turns()
    assert code.delete(first.id) == 1
    third = own(ledger)
    ended = [{"number": 1, "finishedAt": "2026-03-01T12:00:00Z", "cause": "NoRow"}]
    for job in (first, second):
        cluster.put(cluster.objects[name_of(job)], outcome="Failed", cause="NoRow", attempt=1, attempts=ended)
    turns()
    assert code.row(first.id) is None
    assert row(ledger, second.id).state is JobState.FAILED
    assert row(ledger, third.id).submitted_at is not None
