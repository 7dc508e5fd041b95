"""The dispatch of a batch of 10,000 jobs in one transaction, and the ends of a batch's jobs."""

from __future__ import annotations

import time

from pydantic import BaseModel, SecretStr
from sqlalchemy.orm import Session
from tests.bench.claims import new_job
from tests.bench.lib.database import ledger_database

from spoke_jobs import JobData, Registry
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobState
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings

JOBS = 10_000
_ENDS = 1_600
_AT_ONCE = 8
_LEASE = 3600.0


class Work(BaseModel):
    """The payload."""

    number: int


def dispatch_seconds() -> float:
    """Seconds of one transaction that dispatches a batch, with a job that follows it."""
    registry = Registry()
    registry.job("work", payload=Work)(lambda _ctx, _payload: None)
    with ledger_database() as engine:
        url = SecretStr(engine.url.render_as_string(hide_password=False))
        runner = LegacyRunner(Settings(job_runner="legacy", database_url=url), registry)
        began = time.perf_counter()
        with Session(engine) as session:
            batch = runner.open_batch("bench", JobData("work", Work(number=0)), session=session)
            jobs = [JobData("work", Work(number=number), batch_id=batch.id) for number in range(JOBS)]
            runner.dispatch_jobs(jobs, session=session)
            runner.close_batch(batch.id, session=session)
            session.commit()
        taken = time.perf_counter() - began
        runner.close()
    return taken


def ends_per_second(*, batch: bool) -> float:
    """Successes recorded in a second, eight at a time as a worker does. The last one dispatches what follows."""
    with ledger_database() as engine:
        ledger = SqlLedger(engine)
        opened = ledger.open_batch("bench", new_job()) if batch else None
        ledger.insert_many([new_job(batch_id=opened.id if opened else None) for _ in range(_ENDS)])
        if opened is not None:
            ledger.close_batch(opened.id)
        seconds = 0.0
        for _ in range(0, _ENDS, _AT_ONCE):
            claims = ledger.claim_batch("legacy", ["report"], "w", _LEASE, _AT_ONCE)
            began = time.perf_counter()
            ended = ledger.succeed_many({claim.token: None for claim in claims})
            seconds += time.perf_counter() - began
            assert len(ended) == _AT_ONCE
        if opened is not None:
            finished = ledger.batch(opened.id)
            then = ledger.get(finished.then_id) if finished is not None and finished.then_id is not None else None
            assert then is not None
            assert then.state is JobState.WAITING
        return _ENDS / seconds
