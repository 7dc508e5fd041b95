"""Dependencies in the database: ends at the same moment, dispatches during an end, and what they cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session
from tests.conftest import open_ledger
from tests.contract.dependency_moves import Graph, all_jobs, steps
from tests.contract.ledger import LEASE, LedgerSteps, new_job, present
from tests.integration.ledger.test_sql_ledger import blocked
from tests.waiting import eventually, patient

from spoke_jobs.ledger.lifecycle.dispatching import dispatch_jobs
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import Claim, JobRequest, JobState


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(postgres_ledger_url)


def test_the_last_two_ends_at_once_unblock_once(ledger: SqlLedger) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(8):
            pair = ledger.insert_many([new_job(), new_job()])
            job = ledger.insert(new_job(after=tuple(one.id for one in pair)))
            claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
            gate = threading.Barrier(2)
            list(pool.map(lambda claim, how=number, gate=gate: end_at(ledger, claim, how, gate), claims))
            (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
            assert claim.job.id == job.id
            assert ledger.succeed_many({claim.token: None}) == {claim.token}


def end_at(ledger: SqlLedger, claim: Claim, how: int, gate: threading.Barrier) -> None:
    if how % 2:  # each has recorded its end, and not committed
        with Session(ledger.engine) as session:
            session.execute(select(1))
            gate.wait(patient(30))
            ledger.succeed(session, claim.token, None)
            session.commit()
    else:
        gate.wait(patient(30))
        assert ledger.succeed_many({claim.token: None}) == {claim.token}


def test_a_batch_that_ends_and_is_closed_at_once_is_followed_once(ledger: SqlLedger) -> None:
    with ThreadPoolExecutor(3) as pool:
        for number in range(8):
            batch = ledger.open_batch("march", new_job())
            ledger.insert_many([new_job(batch_id=batch.id) for _ in range(2)])
            first, second = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
            gate = threading.Barrier(3)

            def close(gate: threading.Barrier = gate, batch_id: int = batch.id) -> None:
                gate.wait(patient(30))
                ledger.close_batch(batch_id)

            done = [pool.submit(end_at, ledger, claim, number, gate) for claim in (first, second)]
            for future in [*done, pool.submit(close)]:
                future.result(patient(30))
            (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
            assert claim.job.id == batch.then_id
            assert ledger.succeed_many({claim.token: None}) == {claim.token}


def test_several_ends_and_a_dispatch_lock_jobs_in_the_same_order(ledger: SqlLedger) -> None:
    first = ledger.insert(new_job())
    dependent = ledger.insert(new_job(after=(first.id,)))
    last = ledger.insert(new_job())
    ledger.insert(new_job(after=(last.id,)))
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
    assert {claim.job.id for claim in claims} == {first.id, last.id}
    with ThreadPoolExecutor(1) as pool, ledger.engine.connect() as dispatching:
        locked = select(job_request.c.id).with_for_update(key_share=True, nowait=True)
        dispatching.execute(locked.where(job_request.c.id == dependent.id))
        ends = pool.submit(ledger.succeed_many, {claim.token: None for claim in claims})
        eventually(lambda: blocked(ledger))
        # A dispatch after both locks the smaller id first. The ends, which wait for it, have not locked the larger one.
        dispatching.execute(locked.where(job_request.c.id == last.id))
        dispatching.rollback()
        assert ends.result(patient(30)) == {claim.token for claim in claims}


def test_several_ends_of_which_a_retry_makes_one_awaited_lock_jobs_in_the_same_order(ledger: SqlLedger) -> None:
    """Without that, the ends hold the last job and wait for a dependent, and a dispatch after both the other way."""
    first = ledger.insert(new_job())
    dependent = ledger.insert(new_job(after=(first.id,)))
    last = ledger.insert(new_job())
    ledger.cancel(dependent.id)
    ledger.cancel(ledger.insert(new_job(after=(last.id,))).id)
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 8)
    assert {claim.job.id for claim in claims} == {first.id, last.id}
    ends = threading.get_ident()
    dispatched: list[Future[JobRequest]] = []
    retried, errors = [], []

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() != ends or dispatched:
            return
        if statement.startswith("\nWITH given") and "NOT job_request.awaited" not in statement and not retried:
            retried.append(pool.submit(ledger.retry, dependent.id).result(patient(30)))
        elif "job_request.state = 'blocked'" in statement and statement.endswith("FOR NO KEY UPDATE"):
            dispatched.append(pool.submit(ledger.insert, new_job(after=(dependent.id, last.id))))
            eventually(lambda: blocked(ledger))

    event.listen(ledger.engine, "before_cursor_execute", before)
    event.listen(ledger.engine, "handle_error", lambda context: errors.append(context.original_exception))
    with ThreadPoolExecutor(1) as pool:
        assert ledger.succeed_many({claim.token: None for claim in claims}) == {claim.token for claim in claims}
        (job,) = [future.result(patient(30)) for future in dispatched]
    assert [one.state for one in retried if one is not None] == [JobState.BLOCKED]
    assert (job.state, job.open_dependencies) == (JobState.BLOCKED, 1)
    assert errors == []


def test_a_dispatch_that_the_database_ends_because_of_a_deadlock_runs_again(ledger: SqlLedger) -> None:
    """Other code may lock jobs in any order."""
    needed = ledger.insert(new_job())
    ended = []

    def before(_connection: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> tuple[str, Any]:
        if not ended and statement.startswith("INSERT INTO job_dependency"):
            ended.append(statement)
            return "DO $$ BEGIN RAISE deadlock_detected; END $$", ()
        return statement, given

    event.listen(ledger.engine, "before_cursor_execute", before, retval=True)
    job = ledger.insert(new_job(after=(needed.id,)))
    assert ended
    assert [one.id for one in ledger.list_jobs()] == [job.id, needed.id]
    assert (job.state, job.open_dependencies) == (JobState.BLOCKED, 1)


@pytest.mark.parametrize("commits", [True, False])
def test_an_end_waits_for_a_dispatch_that_depends_on_it(ledger: SqlLedger, commits: bool) -> None:
    claims = [LedgerSteps().started(ledger) for _ in range(3)]
    with ThreadPoolExecutor(1) as pool, ledger.engine.connect() as dispatching:
        (job,) = dispatch_jobs(dispatching, [new_job(after=(claims[1].job.id,))])
        ends = pool.submit(ledger.succeed_many, {claim.token: None for claim in claims})
        eventually(lambda: blocked(ledger))
        if commits:
            dispatching.commit()
        else:
            dispatching.rollback()
        assert ends.result(patient(30)) == {claim.token for claim in claims}
    found = ledger.get(job.id)
    assert (found is None) is not commits
    assert found is None or (found.state, found.open_dependencies) == (JobState.WAITING, 0)


def test_dispatches_after_one_job_do_not_wait_for_each_other(ledger: SqlLedger) -> None:
    job = ledger.insert(new_job())
    ledger.insert(new_job(after=(job.id,)))
    with ledger.engine.connect() as first, ledger.engine.connect() as second:
        second.exec_driver_sql("SET lock_timeout = '2s'")
        dispatch_jobs(first, [new_job(after=(job.id,))])
        dispatch_jobs(second, [new_job(after=(job.id,))])


def test_dispatches_after_a_job_whose_last_dependent_goes_meanwhile_do_not_deadlock(ledger: SqlLedger) -> None:
    """Both have seen that others depend on the job, and lock it together; both then find that none does any more."""
    job = ledger.insert(new_job())
    ledger.insert(new_job(after=(job.id,)))
    seen, unmarked, locked = threading.Barrier(3), threading.Event(), threading.Barrier(2)

    def share(statement: str) -> bool:
        return statement.endswith("FOR SHARE")

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if share(statement):
            seen.wait(patient(60))
            assert unmarked.wait(patient(60))

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if share(statement):
            locked.wait(patient(60))

    event.listen(ledger.engine, "before_cursor_execute", before)
    event.listen(ledger.engine, "after_cursor_execute", after)
    with ThreadPoolExecutor(2) as pool:
        dispatched = [pool.submit(ledger.insert, new_job(after=(job.id,))) for _ in range(2)]
        seen.wait(patient(60))
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).values(awaited=False))
        unmarked.set()
        assert {future.result(patient(60)).state for future in dispatched} == {JobState.BLOCKED}
    found = present(ledger.get(job.id))
    assert found.awaited


def test_the_end_of_a_job_that_nobody_depends_on_takes_one_statement(ledger: SqlLedger) -> None:
    claims = [LedgerSteps().started(ledger) for _ in range(3)]
    statements: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert ledger.succeed_many({claim.token: None for claim in claims}) == {claim.token for claim in claims}
    assert len(statements) == 1


def test_a_claim_reads_no_dependency(ledger: SqlLedger) -> None:
    """So that a claim of jobs that depended on others costs what it costs of any."""
    first = ledger.insert(new_job())
    sides = ledger.insert_many([new_job(after=(first.id,)) for _ in range(2)])
    last = ledger.insert(new_job(after=tuple(job.id for job in sides)))
    statements: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    order: list[int] = []
    while claims := ledger.claim_batch("legacy", ["report"], "w", LEASE, 8):
        order += [claim.job.id for claim in claims]
        assert statements
        assert not [one for one in statements if "job_dependency" in one]
        ledger.succeed_many({claim.token: None for claim in claims})
        statements.clear()
    assert order == [first.id, *(job.id for job in sides), last.id]


def play(ledger: SqlLedger, rounds: int) -> None:
    """Let four threads take random steps at once. At rest, each job's state follows from its dependencies."""
    with ThreadPoolExecutor(4) as pool:
        for number in range(rounds):
            graph = Graph()

            def several(seed: int, graph: Graph = graph) -> None:
                for step in steps(seed, 15):
                    graph.take(step, ledger)

            for future in [pool.submit(several, 4 * number + thread) for thread in range(4)]:
                future.result()
            while ledger.settle():
                pass
            graph.check(all_jobs(ledger))
            graph.finish(ledger)


def test_random_graphs_with_ends_at_the_same_time(ledger: SqlLedger) -> None:
    play(ledger, 2)


@pytest.mark.long
def test_random_graphs_for_longer(ledger: SqlLedger) -> None:
    play(ledger, 60)
