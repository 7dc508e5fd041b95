"""The SQL ledger keeps the contract on PostgreSQL, also with concurrent processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job, present
from tests.contract.ledger_attempts import AttemptContract
from tests.contract.ledger_batches import BatchContract
from tests.contract.ledger_dependencies import DependencyContract, GroupContract
from tests.contract.ledger_eligibility import EligibilityContract
from tests.contract.ledger_lanes import LaneContract
from tests.contract.ledger_limits import LimitContract
from tests.contract.ledger_pods import CheckpointContract
from tests.contract.ledger_requests import RequestContract, UniqueContract
from tests.contract.ledger_starts import StartContract
from tests.contract.ledger_turns import TurnContract
from tests.waiting import eventually

from spoke_jobs.errors import Superseded
from spoke_jobs.execution.context import JobContext
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.claims import single_claim
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.port import Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import Claim, Progress
from spoke_jobs.registry import Registry
from spoke_jobs.runners.ticker import ticker_of


@pytest.fixture
def ledger(role_urls: dict[Process, str]) -> Iterator[SqlLedger]:
    yield from open_ledger(role_urls[Process.APPLICATION])


class TestSameStatements(
    AttemptContract, LaneContract, RequestContract, StartContract, CheckpointContract, DependencyContract, GroupContract
):
    """The parts of the contract whose statements are those of SQLite. Of pods, see test_roles.py."""


class TestPostgresqlEligibility(EligibilityContract):
    """The conditions under which a job may start (on SQLite: tests/unit/ledger)."""


class TestPostgresqlLedger(BatchContract, LimitContract, TurnContract, UniqueContract):
    """The parts with statements of PostgreSQL: claims, heartbeats and successes of many, and unique keys."""

    def test_of_pods_that_claim_at_once_one_wins(self, ledger: SqlLedger) -> None:
        for _ in range(8):
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

    def test_heartbeats_and_successes_of_the_same_claims_never_deadlock(self, ledger: SqlLedger) -> None:
        """A supervisor renews its leases on one connection and records successes on another."""
        for _ in range(6):
            ledger.insert_many([new_job() for _ in range(40)])
            tokens = [claim.token for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 40)]
            together = threading.Barrier(3)

            def beat(order: list[UUID], gate: threading.Barrier = together) -> None:
                gate.wait()
                for _ in range(3):
                    ledger.heartbeats({token: Progress(1, "") for token in order}, LEASE)

            def succeed(order: list[UUID], gate: threading.Barrier = together) -> set[UUID]:
                gate.wait()
                return set(ledger.succeed_many(dict.fromkeys(order)))

            with ThreadPoolExecutor(3) as pool:
                beats = [pool.submit(beat, tokens), pool.submit(beat, tokens[20:] + tokens[:20])]
                assert pool.submit(succeed, tokens[::-1]).result() == set(tokens)
                for future in beats:
                    future.result()

    def test_a_worker_that_loses_the_race_for_a_queue_s_lock_finds_later_jobs(self, ledger: SqlLedger) -> None:
        holder, _, behind = ledger.insert_many(
            [new_job(queue_name="q", locks_queue=True), new_job(queue_name="q", locks_queue=True), new_job()]
        )
        with ledger.engine.connect() as other:
            job = present(ledger.get(holder.id))
            # Another worker is taking the queue's lock: it is not committed, so no query sees it yet.
            other.execute(select(job_request.c.id).where(job_request.c.id == job.id).with_for_update())
            assert single_claim.take_lock(other, job, uuid4())
            single_claim.start(other, job, 1, uuid4(), "other", LEASE)
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(ledger.claim_batch, "legacy", ["report"], "w", LEASE, 1)
                eventually(lambda: blocked(ledger))
                other.commit()
                (claim,) = answer.result()
        assert claim.job.id == behind.id

    def test_the_last_output_waits_for_a_transaction_that_holds_its_row_and_earlier_output_does_not(
        self, ledger: SqlLedger
    ) -> None:
        running, done = (
            claim_one(ledger, "legacy", ["report"], "w", LEASE) for _ in ledger.insert_many([new_job()] * 2)
        )
        assert running is not None
        assert done is not None
        ledger.succeed(None, done.token, None)
        with ledger.engine.connect() as other, ThreadPoolExecutor(1) as pool:
            other.execute(select(job_attempt.c.id).with_for_update())
            ledger.keep_output(running.token, "no matter")
            last = pool.submit(ledger.keep_output, done.token, "the last", ended=True)
            eventually(lambda: last.done() or blocked(ledger))
            other.rollback()
            last.result()
        assert [ledger.attempts(claim.job.id)[0].output_tail for claim in (running, done)] == ["", "the last"]

    def test_a_process_that_hangs_in_its_transaction_holds_up_no_save_of_the_one_that_took_over(
        self, ledger: SqlLedger
    ) -> None:
        job = ledger.insert(new_job())
        first = ledger.claim(job.id, job.uid, 1, 1, "first", -1)
        assert isinstance(first, Claim)
        hanging, going = (
            JobContext(claim, ledger, lambda: Session(ledger.engine), cancel=threading.Event(), report=print)
            for claim in (first, ledger.claim(job.id, job.uid, 1, 1, "second", LEASE))
            if isinstance(claim, Claim)
        )
        hanging.session.execute(text("SELECT 1"))
        hanging.save("theirs")
        going.session.execute(text("SET LOCAL lock_timeout = '2s'"))
        going.save("mine")
        going.session.commit()
        with pytest.raises(Superseded):
            hanging.session.commit()
        hanging.session.rollback()
        assert hanging.checkpoint == "mine"
        hanging.close()
        going.close()

    def test_commits_with_checkpoints_and_claims_of_the_same_jobs_never_deadlock(self, ledger: SqlLedger) -> None:
        """A commit that saves locks the attempt before its job, as a takeover and a cancellation do."""
        claims_of = [self.started(ledger) for _ in range(2)]
        together = threading.Barrier(2)

        def save(claim: Claim) -> None:
            context = JobContext(claim, ledger, lambda: Session(ledger.engine), cancel=threading.Event(), report=print)
            together.wait()
            for row in range(30):
                context.save(row)
                context.session.commit()
            context.close()

        def disturb(claim: Claim) -> None:
            together.wait()
            for _ in range(30):
                ledger.claim(claim.job.id, claim.job.uid, 1, 1, "another", LEASE)
                ledger.heartbeat(claim.token, LEASE, Progress(1, ""))

        with ThreadPoolExecutor(2) as pool:
            for claim in claims_of:
                for future in (pool.submit(save, claim), pool.submit(disturb, claim)):
                    future.result()
                assert [row.value for row in ledger.saved(claim.job.id)] == ["29"]


def blocked(ledger: SqlLedger) -> bool:
    """Whether a connection to the ledger's database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ledger.engine.connect() as connection:
        return bool(connection.scalar(waiting))


@pytest.mark.parametrize("prepares", [False, True])
def test_a_worker_prepares_its_claim_and_what_it_reads_each_second_leaves_it(
    postgres_ledger_url: str, prepares: bool
) -> None:
    """After a ROLLBACK, psycopg prepares all statements of the connection anew, which takes longer than a claim."""
    engine = create_engine(postgres_ledger_url, prepares=prepares, pool_size=1, max_overflow=0)
    ledger = SqlLedger(engine)
    claim_one(ledger, "legacy", ["report"], "w", LEASE)
    ticker_of(ledger, Registry(), "legacy").tick_if_due()
    ledger.cancel_requests([uuid4()])
    ledger.backlog("legacy")
    with engine.connect() as connection:
        prepared = connection.scalars(text("SELECT statement FROM pg_prepared_statements")).all()
    engine.dispose()
    assert any("gen_random_uuid()" in statement for statement in prepared) is prepares
