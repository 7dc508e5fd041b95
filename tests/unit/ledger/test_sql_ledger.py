"""The SQL ledger keeps the contract on SQLite (on PostgreSQL: tests/integration/ledger)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import event
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, new_job
from tests.contract.ledger_contract import LedgerContract

from spoke_jobs.ledger.claims.claim_cursor import ClaimCursor
from spoke_jobs.ledger.claims.claim_request import SearchedJobs
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_CLAIM


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, sqlite_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(sqlite_ledger_url)

    def test_a_slow_look_for_organizations_is_not_repeated_when_its_plan_is_used_up(self, ledger: SqlLedger) -> None:
        """As where many of their jobs are not due yet."""
        looks: list[str] = []

        def slow_down(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if "WITH RECURSIVE party" in statement:
                looks.append(statement)
                time.sleep(0.2)

        event.listen(ledger.engine, "before_cursor_execute", slow_down)
        for _ in range(4):
            jobs = ledger.insert_many([new_job(organization_id=number) for number in (1, 2)])
            claims = [claim for _ in jobs for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)]
            assert [claim.job.id for claim in claims] == [job.id for job in jobs]
        assert len(looks) == 1

    def test_a_claim_that_begins_behind_due_jobs_says_when_it_finds_them(self, ledger: SqlLedger) -> None:
        jobs = ledger.insert_many([new_job() for _ in range(6)])
        request = SearchedJobs("legacy", ("report",), ANY_CLAIM)
        ledger._claims.cursors[request] = ClaimCursor(place=(0, jobs[3].id), head_due=math.inf)

        def claim(limit: int) -> list[int]:
            return [claim.job.id for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, limit)]

        assert (claim(1), ledger.rest_due) == ([jobs[3].id], None), "it got what it asked for"
        assert (claim(4), ledger.rest_due) == ([jobs[4].id, jobs[5].id], math.inf)
        ledger._claims.cursors.clear()
        assert (claim(4), ledger.rest_due) == ([job.id for job in jobs[:3]], None)
