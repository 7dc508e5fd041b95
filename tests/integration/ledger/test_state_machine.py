"""Concurrent moves on one PostgreSQL database: in any order, the tables stay consistent.

Each step lets several workers, pods, reapers and people move at the same time, each on a connection of its own. When
they are done the tables are read and held to the rules; triggers have written down every transition in between.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from hypothesis import strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from sqlalchemy import Engine, select, text
from tests.contract.ledger import LEASE
from tests.contract.ledger_moves import LAPSED, Known, Move, by_token, moves, perform, play
from tests.waiting import patient

from spoke_jobs.errors import ChangeRefused
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_request, queue_lock
from spoke_jobs.model import FailedJob, Pulse

THREADS = 5
TRIGGERS = """
CREATE TABLE move_log (
    id bigserial PRIMARY KEY, job_id bigint, kind text, old text, new text, runs integer, cause text);;
CREATE FUNCTION log_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO move_log (job_id, kind, old, new, runs, cause)
    VALUES (new.id, 'job', old.state, new.state, new.run - old.run, new.cause); RETURN new; END $$;;
CREATE FUNCTION log_attempt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO move_log (job_id, kind, old, new) VALUES (new.job_id, 'attempt',
        CASE WHEN TG_OP = 'INSERT' THEN '' ELSE old.state END, new.state); RETURN new; END $$;;
CREATE TRIGGER log_job AFTER UPDATE ON job_request FOR EACH ROW EXECUTE FUNCTION log_job();;
CREATE TRIGGER log_attempt AFTER INSERT OR UPDATE ON job_attempt FOR EACH ROW EXECUTE FUNCTION log_attempt()
"""
JOB_MOVES = {
    ("waiting", "running"), ("waiting", "failed"), ("running", "waiting"), ("running", "succeeded"),
    ("running", "failed"), ("running", "running"), ("waiting", "waiting"),
}  # fmt: skip
ATTEMPT_MOVES = {("", "running"), ("running", "running"), ("running", "succeeded"), ("running", "failed")}


class Concurrent(RuleBasedStateMachine):
    """See the module."""

    engine: ClassVar[Engine]
    pool: ClassVar[ThreadPoolExecutor]
    said: ClassVar[list[BaseException]]
    """The first errors: hypothesis replays them, with other results."""

    @initialize()
    def begin(self) -> None:
        """Start with empty tables and a ledger for each thread, as each process has one."""
        with self.engine.begin() as connection:
            for table in ("queue_lock", "job_attempt", "job_request", "move_log"):
                connection.execute(text(f"DELETE FROM {table}"))
        self.ledgers = [SqlLedger(self.engine) for _ in range(THREADS + 1)]
        self.known = Known()
        self.logged = 0
        self.failed_for_good: Counter[int] = Counter()

    @rule(together=strategies.lists(moves(), min_size=2, max_size=THREADS + 1))
    def several_move(self, together: list[Move]) -> None:
        lost, seen = set(self.known.lost), len(self.known.accepted)
        gate = threading.Barrier(len(together))

        def one(ledger: SqlLedger, move: Move) -> None:
            gate.wait(patient(30))
            perform(move, ledger, self.known)

        for future in [self.pool.submit(one, *pair) for pair in zip(self.ledgers, together, strict=False)]:
            future.result()
        late = lost & set(self.known.accepted[seen:])
        assert not late, "a token counted that had lost its claim"

    @rule(kind=strategies.sampled_from(["claim", "succeed", "fail", "reap"]), how=strategies.integers(0, 5))
    def all_do_the_same(self, kind: str, how: int) -> None:
        self.several_move([Move(kind, 0, how)] * THREADS)

    @rule(shape=strategies.sampled_from([0, 1]), how=strategies.integers(0, 5))
    def all_rush_to_a_queue_that_is_free_again(self, shape: int, how: int) -> None:
        self.let_all_leases_lapse()
        self.several_move([Move("dispatch", shape, 0)] * THREADS + [Move("reap", 0, 0)])
        self.several_move([Move("claim", 0, how)] * THREADS)

    @rule(cancelled=strategies.booleans(), thawed=strategies.booleans(), next_one=strategies.booleans())
    def pods_follow_one_that_was_lost(self, cancelled: bool, thawed: bool, next_one: bool) -> None:
        self.let_all_leases_lapse()
        self.several_move([Move("reap", 0, 0)])
        self.several_move([Move("dispatch", 3, 0)])
        self.several_move([Move("pod", 0, 1)])
        self.several_move([Move("lapse", 0, 0)])
        if cancelled:
            self.several_move([Move("cancel", 0, 0)])
        self.several_move([Move("pod", 0, int(next_one))] * 2 + [Move("beat", 0, 0)] * int(thawed))

    def let_all_leases_lapse(self) -> None:
        for claim in self.known.claims:
            if claim.token not in self.known.lost:
                self.known.heard(claim, self.ledgers[0].heartbeat(claim.token, LAPSED) is not Pulse.GONE)

    @rule(which=strategies.integers(0, 50), how=strategies.integers(0, 3))
    def a_lost_claim_s_owner_writes_nothing(self, which: int, how: int) -> None:
        lost = [claim for claim in self.known.claims if claim.token in self.known.lost]
        if not lost:
            return
        claim, before = lost[which % len(lost)], self.tables()
        for kind in ("beat", "lapse", "succeed", "fail", "release"):
            by_token(kind, claim, Move(kind, 0, how), self.ledgers[0], self.known)
        self.ledgers[0].succeed_many({claim.token: "late"})
        assert self.tables() == before

    @invariant()
    def the_rules_hold(self) -> None:
        try:
            self.the_tables_are_right()
        except AssertionError as error:
            self.said.append(error)
            raise

    def the_tables_are_right(self) -> None:
        tokens = [claim.token for claim in self.known.claims]
        assert len(tokens) == len(set(tokens)), "two owners were given one token"
        jobs, attempts, locks = self.tables()
        running = {attempt["job_id"]: attempt for attempt in attempts if attempt["state"] == "running"}
        assert len(running) == sum(attempt["state"] == "running" for attempt in attempts)
        unfinished_keys = [job["unique_key"] for job in jobs.values() if job["unique_key"] and not final(job)]
        assert len(unfinished_keys) == len(set(unfinished_keys))
        for job in jobs.values():
            self.job_agrees(job, running.get(job["id"]), [one for one in attempts if one["job_id"] == job["id"]])
        held = {(jobs[number]["queue_name"], number, one["token"]) for number, one in running.items()
                if jobs[number]["locks_queue"]}  # fmt: skip
        assert {(lock["queue_name"], lock["job_id"], lock["token"]) for lock in locks} == held
        self.transitions_were_allowed()
        told = Counter(
            FailedJob.model_validate_json(job["payload"]).id for job in jobs.values() if job["job_type"] == "tell"
        )
        assert told == self.failed_for_good

    def job_agrees(self, job: Any, live: Any, attempts: list[Any]) -> None:
        assert (job["state"] == "running") == (live is not None)
        if live is not None:
            assert (live["run"], live["number"]) == (job["run"], job["attempt"])
        assert (job["finished_at"] is not None) == (job["expires_at"] is not None) == final(job)
        assert (job["status"] == 100) == (job["state"] == "succeeded")
        assert (job["status"] == -1) == (job["state"] == "failed")
        assert (job["state"] == "failed") <= bool(job["cause"])
        assert not (job["state"] == "waiting" and job["assigned"])
        successes = [attempt for attempt in attempts if attempt["state"] == "succeeded"]
        assert len(successes) == (job["state"] == "succeeded")
        counted = [token for token, job_id in self.known.counted.items() if job_id == job["id"]]
        assert [attempt["token"] for attempt in successes] == counted  # exactly the callers that were told so
        for attempt in successes:
            assert attempt["run"] == job["run"]
            assert job["result"] == f"{job['id']}-{attempt['number']}"
        assert all((attempt["finished_at"] is None) == (attempt["state"] == "running") for attempt in attempts)

    def transitions_were_allowed(self) -> None:
        with self.engine.connect() as connection:
            statement = text("SELECT * FROM move_log WHERE id > :last ORDER BY id")
            rows = connection.execute(statement, {"last": self.logged}).all()
        for row in rows:
            self.logged = row.id
            if row.kind == "attempt":
                assert (row.old, row.new) in ATTEMPT_MOVES, row
            elif (row.old, row.new) == ("failed", "waiting"):
                assert row.runs == 1, row
            else:
                assert (row.old, row.new) in JOB_MOVES, row
                assert row.runs == 0, row
            if (
                row.kind == "job"
                and row.new == "failed"
                and row.cause != "Cancelled"
                and row.job_id in self.with_hook()
            ):
                self.failed_for_good[row.job_id] += 1

    def with_hook(self) -> set[int]:
        with self.engine.connect() as connection:
            rows = connection.execute(select(job_request.c.id, job_request.c.options))
            return {row.id for row in rows if row.options["onFailure"]}

    def tables(self) -> tuple[dict[int, Any], list[Any], list[Any]]:
        with self.engine.connect() as connection:
            jobs = {row["id"]: dict(row) for row in connection.execute(select(job_request)).mappings()}
            attempts = [
                dict(row) for row in connection.execute(select(job_attempt).order_by(job_attempt.c.id)).mappings()
            ]
            locks = [dict(row) for row in connection.execute(select(queue_lock)).mappings()]
        return jobs, attempts, locks

    def teardown(self) -> None:
        """Every job ends, whatever happened to its workers."""
        if not hasattr(self, "known"):
            return
        ledger = self.ledgers[0]
        for claim in self.known.claims:
            ledger.heartbeat(claim.token, LAPSED)
        for _ in range(200):
            for job_id in self.known.jobs:
                for change in (ledger.resume, ledger.run_now):
                    with suppress(ChangeRefused):
                        change(job_id)
            ledger.reap("legacy")
            ledger.expire_starts("legacy", ["report"])
            claims = ledger.claim_batch("legacy", ["report", "tell"], "w", LEASE, 16)
            ledger.succeed_many({claim.token: f"{claim.job.id}-{claim.number}" for claim in claims})
            self.known.counted |= {claim.token: claim.job.id for claim in claims}
            if all(final(job) for job in self.tables()[0].values()):
                break
        jobs, _, locks = self.tables()
        assert all(final(job) for job in jobs.values())
        assert locks == []
        self.the_tables_are_right()


def final(job: Any) -> bool:
    return job["state"] in ("succeeded", "failed")


@pytest.fixture
def machine(postgres_ledger_url: str) -> Iterator[type[Concurrent]]:
    engine = create_engine(postgres_ledger_url, pool_size=THREADS + 2)
    with engine.begin() as connection:
        for statement in TRIGGERS.split(";;\n"):
            connection.execute(text(statement.replace(":=", r"\:=")))
    with ThreadPoolExecutor(THREADS + 1) as pool:
        yield type("Machine", (Concurrent,), {"engine": engine, "pool": pool, "said": []})
    engine.dispose()


@pytest.mark.parametrize(
    ("examples", "steps"), [(5, 12), pytest.param(60, 30, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_concurrent_moves_leave_the_tables_consistent(machine: type[Concurrent], examples: int, steps: int) -> None:
    try:
        play(machine, examples, steps)
    except Exception as error:
        raise machine.said[0] if machine.said else error from None
