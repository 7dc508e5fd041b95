"""The queries of the command line, with the same answers on each database. Subclass it with a fixture ``ledger``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import LEASE, SHORT, claim_one, eventually, new_job

from spoke_jobs.ledger.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, JobRequest, JobState


def start(ledger: SqlLedger, lease: float = LEASE, worker: str = "w") -> JobRequest:
    """Claim the next job."""
    claim = claim_one(ledger, "legacy", ["report"], worker, lease)
    assert claim is not None
    return claim.job


class QueriesContract:
    """The reads that `spoke-jobs why` and `watch` depend on."""

    @pytest.fixture
    def queries(self, ledger: SqlLedger) -> Queries:
        return Queries(ledger.engine)

    def test_a_job_that_is_not_there(self, queries: Queries) -> None:
        assert queries.situation(7) is None

    def test_the_database_s_time_has_a_zone(self, queries: Queries) -> None:
        now = queries.now()
        assert now.utcoffset() == timedelta(0)
        assert abs(now - datetime.now(UTC)) < timedelta(hours=1)

    def test_jobs_by_id_in_the_order_of_their_ids(self, ledger: SqlLedger, queries: Queries) -> None:
        first, second, _ = (ledger.insert(new_job()) for _ in range(3))
        now, found = queries.jobs([second.id, 999, first.id])
        assert found == [first, second]
        assert now >= second.created_at

    def test_who_holds_the_queue(self, ledger: SqlLedger, queries: Queries) -> None:
        holder = ledger.insert(new_job(queue_name="q", locks_queue=True))
        waiting = ledger.insert(new_job(queue_name="q", locks_queue=True))
        beside = ledger.insert(new_job(queue_name="q"))
        other = ledger.insert(new_job(queue_name="other", locks_queue=True))
        assert start(ledger, worker="host:1").id == holder.id
        situation = queries.situation(waiting.id)
        assert situation is not None
        assert situation.holder is not None
        assert (situation.holder.job_id, situation.holder.worker) == (holder.id, "host:1")
        assert situation.holder.job_type == "report"
        assert timedelta(0) < situation.holder.lease_expires_at - situation.holder.since < timedelta(seconds=LEASE + 1)
        for job in (beside, other):
            situation = queries.situation(job.id)
            assert situation is not None
            assert situation.holder is None, "it locks no queue, or another one"

    def test_what_comes_before_a_job(self, ledger: SqlLedger, queries: Queries) -> None:
        held = ledger.insert(new_job(queue_name="q", locks_queue=True))
        assert start(ledger).id == held.id
        ledger.insert(new_job(queue_name="q", locks_queue=True))  # due, but its queue is held
        ledger.insert(new_job(queue_name="q"))  # locks nothing, and so may run
        ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        ledger.insert(new_job(runner="kubernetes"))
        ledger.insert(new_job(priority=-1))
        mine = ledger.insert(new_job(queue_name="r", locks_queue=True))
        ledger.insert(new_job())
        urgent = ledger.insert(new_job(priority=5, queue_name="r", locks_queue=True))
        situation = queries.situation(mine.id)
        assert situation is not None
        assert (situation.ahead, situation.ahead_in_queue) == (2, 1), "the one that locks nothing, and the urgent one"
        situation = queries.situation(urgent.id)
        assert situation is not None
        assert (situation.ahead, situation.ahead_in_queue) == (0, 0)

    def test_what_runs_and_who_runs_it(self, ledger: SqlLedger, queries: Queries) -> None:
        for _ in range(4):
            ledger.insert(new_job())
        start(ledger, worker="a")
        start(ledger, worker="a")
        start(ledger, SHORT, worker="b")
        mine = ledger.list_jobs(1)[0]

        def lapsed() -> bool:
            situation = queries.situation(mine.id)
            return situation is not None and [(load.worker, load.running, load.lapsed) for load in situation.load] == [
                ("a", 2, 0),
                ("b", 1, 1),
            ]

        assert eventually(lapsed)
        situation = queries.situation(mine.id)
        assert situation is not None
        assert all(load.heartbeat_at <= situation.now for load in situation.load)

    def test_what_ran_before_newest_first(self, ledger: SqlLedger, queries: Queries) -> None:
        ledger.insert(new_job(priority=3, queue_name="q", locks_queue=True))
        ledger.insert(new_job(job_type="other"))
        ledger.insert(new_job(runner="kubernetes", job_type="pod"))
        mine = ledger.insert(new_job(job_type="mine"))
        claims = [claim_one(ledger, "legacy", ["report", "other"], "w", LEASE) for _ in range(2)]
        assert claim_one(ledger, "kubernetes", ["pod"], "p", LEASE) is not None
        assert claims[0] is not None
        ledger.succeed(None, claims[0].token, None)
        situation = queries.situation(mine.id)
        assert situation is not None
        assert [(trace.job_type, trace.priority, trace.locks_queue) for trace in situation.traces] == [
            ("other", 0, False),
            ("report", 3, True),
        ]
        assert situation.traces[0].finished_at is None
        assert situation.traces[1].finished_at is not None

    def test_a_job_that_runs_comes_with_its_attempts_alone(self, ledger: SqlLedger, queries: Queries) -> None:
        job = ledger.insert(new_job())
        claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
        assert claim is not None
        ledger.fail(claim.token, Failure("JobError", "no", output_tail="the tail"), decide=True)
        start(ledger)
        situation = queries.situation(job.id)
        assert situation is not None
        assert situation.job.state is JobState.RUNNING
        assert [attempt.cause for attempt in situation.attempts] == ["JobError", ""]
        assert situation.attempts[0].output_tail == "the tail"
        assert situation.traces == ()
