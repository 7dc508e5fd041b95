"""The SQL ledger keeps the contract on PostgreSQL, also where processes meet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, LedgerContract, claim_one, new_job

from spoke_jobs.ledger.port import Taken
from spoke_jobs.ledger.sql import SqlLedger
from spoke_jobs.model import Claim


class TestPostgresqlLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, postgres_ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(postgres_ledger_url)

    def test_of_pods_that_claim_at_once_one_wins(self, ledger: SqlLedger) -> None:
        for _ in range(20):
            job = ledger.insert(new_job(queue_name="q", locks_queue=True))
            together = threading.Barrier(8)

            def pod(_: int, job_id: int = job.id, uid: object = job.uid, gate: threading.Barrier = together) -> object:
                gate.wait()
                return ledger.claim(job_id, uid, 1, 1, "pod", LEASE)  # type: ignore[arg-type]

            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(pod, range(8)))
            (claim,) = [answer for answer in answers if isinstance(answer, Claim)]
            assert sum(isinstance(answer, Taken) for answer in answers) == 7
            ledger.succeed(None, claim.token, None)

    def test_workers_that_claim_at_once_share_no_job_and_no_locked_queue(self, ledger: SqlLedger) -> None:
        for number in range(60):
            ledger.insert(new_job(queue_name=f"q{number % 6}", locks_queue=number % 2 == 0))
        held: dict[str, int] = {}
        mistakes: list[str] = []
        done: list[int] = []
        guard = threading.Lock()

        def work(_: int) -> None:
            while len(done) < 60:
                claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
                if claim is None:
                    continue
                job = claim.job
                with guard:
                    if job.locks_queue and held.get(job.queue_name):
                        mistakes.append(f"{job.queue_name} is held by {held[job.queue_name]}, and {job.id} runs")
                    if job.locks_queue:
                        held[job.queue_name] = job.id
                    if job.id in done:
                        mistakes.append(f"{job.id} ran twice")
                with guard:
                    if job.locks_queue:
                        held[job.queue_name] = 0
                    done.append(job.id)
                ledger.succeed(None, claim.token, None)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert mistakes == []
        assert len(set(done)) == 60
