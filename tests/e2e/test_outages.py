"""API server or PostgreSQL away for everything of ours at once: application, sync, operator, pods. All end right, once.

Short ones, of one part at a time: tests/integration/sync/test_faults.py, tests/integration/operator/test_faults.py.
"""

from __future__ import annotations

import pytest

from spoke_jobs.model import JobState

from . import e2e_jobs
from .beside import Scene, away

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SECONDS = 60


def test_the_api_server_away_while_20_are_dispatched_and_10_run(beside: Scene, postgres_ledger_url: str) -> None:
    """Of the 10, 5 end meanwhile."""
    namespace = beside.namespace()
    beside.operator(namespace)
    application = beside.application(namespace, postgres_ledger_url, beside.database(postgres_ledger_url))
    end_meanwhile = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="meanwhile"), 5)
    run_on = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="afterwards"), 5)
    application.until_all_run([*end_meanwhile, *run_on])
    with away(beside.api, SECONDS, application):
        dispatched = application.dispatch("e2e_slow", e2e_jobs.Slow(seconds=0.5), 20)
        application.open("meanwhile")
    assert application.states(end_meanwhile) == {JobState.SUCCEEDED: 5}, "their pods ask nothing of it"
    application.open("afterwards")
    jobs = [*end_meanwhile, *run_on, *dispatched]
    assert application.all_succeed(jobs) == [[]] * 30, "no attempt is lost for it"
    assert application.effects() == {job.id: 1 for job in jobs}, "one result each"
    assert len(namespace.all()) == 30


def test_postgresql_away_while_10_run_and_5_finish(beside: Scene, postgres_ledger_url: str) -> None:
    """Those that finish do when they find it away; an attempt whose lease lapses, or that can't record, comes again."""
    namespace, database = beside.namespace(), beside.database(postgres_ledger_url)
    beside.operator(namespace)
    application = beside.application(namespace, postgres_ledger_url, database)
    finish = application.dispatch("e2e_waits", e2e_jobs.Waits(), 5)
    run_on = application.dispatch("e2e_waits", e2e_jobs.Waits(gate="afterwards"), 5)
    jobs = [*finish, *run_on]
    application.until_all_run(jobs)
    with away(database, SECONDS, application):
        pass
    application.open("afterwards")
    causes = application.all_succeed(jobs)
    print(causes)
    assert {cause for item in causes for cause in item} <= {"DatabaseUnreachable", "WorkerLost"}
    assert application.effects() == {job.id: 1 for job in jobs}, "one result each"
    assert len(namespace.all()) == 10
