"""Organizations take turns while eight workers claim at once (PostgreSQL)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from tests.contract.ledger import LEASE, new_job
from tests.waiting import patient

from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.claim_turns import LastTurns
from spoke_jobs.ledger.claims.turn_search import TurnSearch
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.limits_and_pauses.limit_cache import LimitCache
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import Bounds, parse_scope

WORKERS = 8
MANY, FEW = 1500, 40
STARTS = """
SELECT job_id, organization_id FROM job_attempt JOIN job_request ON job_request.id = job_id ORDER BY job_attempt.id
"""


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    engine = create_engine(postgres_ledger_url, pool_size=WORKERS + 2)
    yield engine
    engine.dispose()


def starts(engine: Engine) -> list[tuple[int, int | None]]:
    """The attempts in the order in which they started: each job, and its organization."""
    with engine.connect() as connection:
        return [(row.job_id, row.organization_id) for row in connection.execute(text(STARTS))]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scope", [None, "organization:99"])
def test_eight_workers_let_the_jobs_of_few_pass_those_of_one_with_many(engine: Engine, scope: str | None) -> None:
    ledgers = [SqlLedger(engine) for _ in range(WORKERS)]
    ledgers[0].insert_many([new_job(organization_id=1) for _ in range(MANY)])
    ledgers[0].insert_many([new_job(organization_id=(2, None)[number % 2]) for number in range(2 * FEW)])
    if scope is not None:
        ledgers[0].limits.set(parse_scope(scope), lambda _old: Bounds(12))
    over, guard = threading.Event(), threading.Lock()
    left: dict[int | None, int] = {2: FEW, None: FEW}

    def work(ledger: SqlLedger) -> None:
        while not over.is_set():
            claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 4)
            ledger.succeed_many({claim.token: None for claim in claims})
            with guard:
                for claim in claims:
                    if claim.job.organization_id in left:
                        left[claim.job.organization_id] -= 1
                if not any(left.values()):
                    over.set()

    with ThreadPoolExecutor(WORKERS) as pool:
        for result in [pool.submit(work, ledger) for ledger in ledgers]:
            result.result(patient(150))
    started = starts(engine)
    assert len({job_id for job_id, _ in started}) == len(started)
    organizations = [organization for _, organization in started]
    of_few = [index for index, organization in enumerate(organizations) if organization != 1]
    # Not until the last one: a worker may hold the row of a few while others pass them. Without turns, all jobs of the
    # first organization start before.
    assert organizations[: of_few[len(of_few) * 9 // 10]].count(1) < 4 * FEW


def test_workers_that_claim_at_once_share_all_jobs_of_all_organizations(engine: Engine) -> None:
    ledgers = [SqlLedger(engine) for _ in range(WORKERS)]
    jobs = ledgers[0].insert_many([new_job(organization_id=number % 5 or None) for number in range(400)])
    gate = threading.Barrier(WORKERS)

    def claim(ledger: SqlLedger) -> list[int]:
        gate.wait(patient(60))
        found = []
        while claims := ledger.claim_batch("legacy", ["report"], "w", LEASE, 3):
            found += [claim.job.id for claim in claims]
        return found

    with ThreadPoolExecutor(WORKERS) as pool:
        claimed = [job_id for found in pool.map(claim, ledgers) for job_id in found]
    assert sorted(claimed) == [job.id for job in jobs]


def test_a_thousand_organizations_and_more_are_all_reached(engine: Engine) -> None:
    """A look finds a thousand. The next one goes on behind them."""
    ledger = SqlLedger(engine)
    jobs = ledger.insert_many([new_job(organization_id=number) for number in range(1, 1201)])
    organizations = {job.id: job.organization_id for job in jobs}
    search = TurnSearch(engine.connect, LimitCache())
    looks = []
    for _ in range(3):
        search.look(ClaimRequest("legacy", ["report"], "w", LEASE), LastTurns(), limited=False)
        looks.append({organizations[job_id] for job_id in search.plan.ids})
    assert looks == [set(range(1, 1001)), set(range(1001, 1201)), set(range(1, 1001))]
    found: list[int] = []
    while len(found) < 1200:
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 100)
        assert len(claims) == 100
        found += [claim.job.organization_id or 0 for claim in claims]
    assert sorted(found) == list(range(1, 1201))
