"""API server or PostgreSQL away for everything of ours at once: application, sync, operator, pods. All end right, once.

So do jobs whose namespace a ResourceQuota closes for a while.

Shorter still, of one part at a time: tests/integration/sync/test_faults.py, tests/integration/operator/test_faults.py.
"""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url
from tests.waiting import eventually, stays

from spoke_jobs.model import JobState

from . import e2e_jobs
from .beside import Scene, away

pytestmark = pytest.mark.timeout(900)

SECONDS = 8
"""How long it is away. test_maintenance.py has longer ones."""


def test_the_api_server_away_while_jobs_are_dispatched_and_run(beside: Scene, postgres_ledger_url: str) -> None:
    """Of those that run, half end meanwhile."""
    namespace = beside.namespace()
    beside.operator(namespace)
    application = beside.application(namespace, postgres_ledger_url, beside.database(postgres_ledger_url))
    end_meanwhile = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="meanwhile"))
    run_on = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="afterwards"))
    application.until_all_run([*end_meanwhile, *run_on])
    with away(beside.api, SECONDS, application):
        dispatched = application.dispatch("e2e_slow", e2e_jobs.Slow(seconds=0.5), 4)
        application.open("meanwhile")
        succeeded = {JobState.SUCCEEDED: 1}
        eventually(lambda: application.states(end_meanwhile) == succeeded, "they end: their pods ask nothing of it")
    application.open("afterwards")
    jobs = [*end_meanwhile, *run_on, *dispatched]
    causes = {cause for lost in application.all_succeed(jobs) for cause in lost}
    # On a starved machine, a pod may not reach its database in time. That has nothing to do with the API server.
    assert causes <= {"DatabaseUnreachable"}, "no attempt is lost for it"
    assert application.effects() == {job.id: 1 for job in jobs}, "one result each"
    assert len(namespace.all()) == len(jobs)


def test_postgresql_away_while_jobs_run_and_finish(beside: Scene, postgres_ledger_url: str) -> None:
    """Those that finish do when they find it away; an attempt whose lease lapses, or that can't record, comes again."""
    namespace, database = beside.namespace(), beside.database(postgres_ledger_url)
    beside.operator(namespace)
    application = beside.application(namespace, postgres_ledger_url, database)
    finish = application.dispatch("e2e_waits", e2e_jobs.Waits())
    run_on = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="afterwards"))
    jobs = [*finish, *run_on]
    application.until_all_run(jobs)
    with away(database, SECONDS, application):
        pass
    application.open("afterwards")
    causes = application.all_succeed(jobs)
    print(causes)
    assert {cause for item in causes for cause in item} <= {"DatabaseUnreachable"}, "nobody is at fault"
    for item in namespace.all():
        assert set(item["status"].get("charged", {})) <= {"dependency"}
    assert application.effects() == {job.id: 1 for job in jobs}, "one result each"
    assert len(namespace.all()) == len(jobs)
    tells_no_password(application.sync_log() + beside.operator_log(), postgres_ledger_url)


@pytest.mark.long  # in `make test`: tests/unit/operator/test_quota.py
def test_a_quota_at_zero_for_longer_than_the_start_timeout(beside: Scene, postgres_ledger_url: str) -> None:
    namespace = beside.namespace()
    beside.operator(namespace)
    application = beside.application(namespace, postgres_ledger_url, beside.database(postgres_ledger_url))
    closed = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}}
    namespace.core.create_namespaced_resource_quota(namespace.namespace, closed)
    jobs = application.dispatch("e2e_slow", e2e_jobs.Slow(seconds=0.5), 4, start_timeout_seconds=45)
    held = {"QuotaExceeded"}
    eventually(
        lambda: {(item.get("status") or {}).get("cause") for item in namespace.all()} == held, "they wait for it"
    )
    assert stays(application.nothing_is_given_up, 50, every=0.5)
    namespace.core.patch_namespaced_resource_quota("few", namespace.namespace, {"spec": {"hard": {"pods": "2"}}})
    assert application.all_succeed(jobs) == [[]] * len(jobs), "no attempt is lost for it"
    assert application.effects() == {job.id: 1 for job in jobs}, "one result each"


def tells_no_password(log: str, url: str) -> None:
    """In none of the forms in which a client shows it. (By itself it is a word of many log lines here.)"""
    password = make_url(url).password
    assert password
    assert "database" in log, "they say that it was away"
    assert [form for form in (f":{password}@", f"password={password}", f"password': '{password}") if form in log] == []
