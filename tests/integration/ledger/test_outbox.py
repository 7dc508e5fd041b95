"""The outbox keeps its contract on PostgreSQL, also with concurrent claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from tests.contract.outbox import NAMES, OutboxContract, put, rows

from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.outbox.task_outbox import Outbox
from spoke_jobs.ledger.tables import sql_name


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_ledger_url, pool_size=8)
    yield made
    made.dispose()


class TestOutbox(OutboxContract):
    @pytest.fixture
    def engine(self, role_urls: dict[Process, str]) -> Iterator[Engine]:
        made = create_engine(role_urls[Process.APPLICATION], pool_size=8)
        yield made
        made.dispose()


def test_of_many_replicas_each_task_is_claimed_by_one(engine: Engine) -> None:
    put(engine, *map(str, range(400)))

    def work(worker: int) -> list[str]:
        outbox, done = Outbox(engine, "kubernetes"), []
        while tasks := outbox.claim(NAMES, f"w{worker}", 30.0, 17):
            assert len(outbox.finish_many(tasks)) == len(tasks)
            done += [task.payload for task in tasks]
        return done

    with ThreadPoolExecutor(4) as pool:
        done = Counter(payload for part in pool.map(work, range(4)) for payload in part)
    assert sum(done.values()) == len(done) == 400
    assert rows(engine) == []


def test_a_job_cannot_put_its_tasks_before_those_of_others(engine: Engine, role_urls: dict[Process, str]) -> None:
    put(engine, "1", "2")
    jobs = create_engine(role_urls[Process.JOBS])
    with jobs.begin() as connection:
        times = {"created": datetime(2020, 1, 1, tzinfo=UTC), "due": datetime(100, 1, 1, tzinfo=UTC)}
        connection.execute(
            text(
                f"INSERT INTO {sql_name('task_outbox')} (uid, runner, name, payload, created_at, due_at) "
                "VALUES (gen_random_uuid(), 'kubernetes', 'send', 'mine', :created, :due)"
            ),
            times,
        )
    jobs.dispose()
    outbox = Outbox(engine, "kubernetes")
    assert outbox.backlog()["oldest"] < 60
    assert [task.payload for task in outbox.claim(NAMES, "w", 30.0, 2)] == ["1", "2"]
    (last,) = outbox.claim(NAMES, "w", 30.0, 2)
    assert last.payload == "mine"
    assert last.waited_seconds < 60


def test_renewing_waits_for_no_commit_that_is_slow(engine: Engine) -> None:
    put(engine, "slow", "2")
    outbox = Outbox(engine, "kubernetes")
    slow, other = outbox.claim(NAMES, "w", 30.0, 2)
    with Session(engine) as session:
        outbox.finish(session, slow)  # its lock is held until the commit
        assert outbox.renew([slow, other], 60.0) == {slow.id, other.id}
        session.commit()
    assert outbox.renew([slow, other], 60.0) == {other.id}


def test_a_claim_uses_an_index_and_reads_no_table(engine: Engine) -> None:
    put(engine, *map(str, range(5_000)))
    with engine.begin() as connection:
        connection.execute(text("UPDATE task_outbox SET due_at = now() + interval '1 day' WHERE id > 10"))
        connection.execute(text("ANALYZE task_outbox"))
        connection.execute(text("SET LOCAL enable_seqscan = on"))
        plan = connection.scalars(
            text(
                "EXPLAIN SELECT id FROM task_outbox WHERE state = 'pending' AND runner = 'kubernetes' "
                "AND due_at <= (SELECT clock_timestamp()) AND name IN ('send') ORDER BY due_at, id LIMIT 10"
            )
        ).all()
    assert "ix_task_outbox_due" in "\n".join(plan)
