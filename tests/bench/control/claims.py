"""Claims of jobs that no limit applies to, beside 0, 1, 10 and 1,000 limits of others."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import Any

from sqlalchemy import text
from tests.bench.claims import new_job
from tests.bench.lib.database import ledger_database

from spoke_jobs.ledger.claims import bulk, due_jobs
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import Bounds, parse_scope

LIMITS = (0, 1, 10, 1000)
SIZES = (1, 8)
_CASES = (None, *LIMITS)
"""None: the claim without the code of limits."""
_LEASE = 3600.0
_WARM_UP = 6
"""Claims that are not counted: of new connections, and before statements are prepared."""
_LIMITED_FROM = 1000
"""The first organization with a limit. The jobs belong to others."""


def limit_organizations(ledger: SqlLedger, count: int) -> None:
    """Set a limit of one running job for as many organizations."""
    declared = {parse_scope(f"organization:{_LIMITED_FROM + number}"): Bounds(1) for number in range(count)}
    ledger.limits.declare(declared, "bench")


def _statements() -> dict[due_jobs.Variant, Any]:
    """The claim as it would be without limits."""
    found = {}
    for variant in due_jobs.VARIANTS:
        candidates = bulk._UNLIMITED.format(search=due_jobs.search(variant))
        search = candidates[candidates.index("candidates AS MATERIALIZED") :]
        search = search.replace("NOT EXISTS (SELECT 1 FROM limited) AND ", "")
        statement = bulk.CLAIM.format(candidates=f"limited AS (SELECT 1 WHERE false), {search}")
        found[variant] = bulk.typed(due_jobs.search_text(statement))
    return found


_WITHOUT, _WITH = _statements(), dict(bulk._CLAIM_FOUND)


def claim_seconds(rounds: int) -> dict[tuple[int | None, int], list[float]]:
    """Seconds of each claim, by the number of limits and the size of the batch. The cases take turns."""
    times: dict[tuple[int | None, int], list[float]] = {(case, size): [] for case in _CASES for size in SIZES}
    with ExitStack() as stack:
        ledgers = {}
        for case in _CASES:
            ledger = SqlLedger(stack.enter_context(ledger_database()))
            limit_organizations(ledger, case or 0)
            _fill(ledger, sum(SIZES) * (_WARM_UP + rounds))
            ledgers[case] = ledger
        order = random.Random(7)
        for _ in range(_WARM_UP + rounds):
            for size in SIZES:
                for case in order.sample(_CASES, len(_CASES)):
                    times[case, size].append(_claim(ledgers[case], size, without=case is None))
    return {key: taken[_WARM_UP:] for key, taken in times.items()}


def _fill(ledger: SqlLedger, jobs: int) -> None:
    ledger.insert_many([new_job(organization_id=number % 900) for number in range(jobs)])
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _claim(ledger: SqlLedger, size: int, *, without: bool) -> float:
    bulk._CLAIM_FOUND.update(_WITHOUT if without else _WITH)
    began = time.perf_counter()
    claims = ledger.claim_batch("legacy", ["report", "ingest.*"], "w", _LEASE, size)
    taken = time.perf_counter() - began
    assert len(claims) == size
    ledger.succeed_many({claim.token: None for claim in claims})
    return taken
