"""A second application in a database, with its tables in the schema that SPOKE_SCHEMA names.

It is a process of its own, because the schema is fixed when the library is imported. ``python -m`` this with the steps
to take; each prints one JSON document.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session

from spoke_jobs import JobContext, JobData, close, configure, dispatch_job, dispatch_jobs, get_job, job
from spoke_jobs.ledger import migrations
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.cluster import reports, syncing
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.notify import CHANNEL, TASKS_CHANNEL
from spoke_jobs.ledger.outbox.task_outbox import Outbox, TaskFailure, insert_task
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptReport, Claim, Failure, JobFilter, JobState, Progress
from spoke_jobs.sync.writer import Writer

URL = os.environ["SPOKE_DATABASE_URL"]


@job("who")
def who(_ctx: JobContext) -> str:
    """Say whose process runs the job."""
    return os.environ.get("SPOKE_SCHEMA", "")


def migrate() -> Any:
    """Make the tables, with the owner's URL, and give roles their privileges on them."""
    engine = create_engine(os.environ["OWNER_URL"])
    roles = {process: os.environ[f"ROLE_{process}"] for process in (Process.APPLICATION, Process.JOBS)}
    printed = migrations.statements(engine)
    migrations.migrate(engine, roles=roles)
    found = migrations.differences(engine, roles).values()
    again = migrations.statements(engine)
    engine.dispose()
    return {"first": printed[:3], "again": again, "found": [(*item.excess, *item.lacking) for item in found]}


def dispatch() -> Any:
    """Dispatch in transactions of the application's own engine, which knows nothing of the schema, and without one."""
    configure()
    own = sqlalchemy.create_engine(URL)
    with Session(own) as session:
        ids = [job.id for job in dispatch_jobs([JobData("who"), JobData("who")], session=session)]
        unique = [dispatch_job(JobData("who", unique_key="k"), session=session).id for _ in range(2)]
        found = get_job(ids[0], session=session)
        session.commit()
    alone = dispatch_job(JobData("who"))
    close()
    own.dispose()
    return {"ids": [*ids, *unique, alone.id], "found": found is not None}


def operate() -> Any:
    """Take the other paths to the tables: pods, sync, the outbox, the queries of commands, pruning."""
    writer = Writer(URL)
    leads = writer.lead()
    ledger, outbox = SqlLedger(writer.engine), Outbox(writer.engine, "kubernetes")
    with writer.transaction() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO {os.environ['SPOKE_SCHEMA']}.job_request (payload, queue_name, job_type, locks_queue, runner)"
            " VALUES ('', 'q', 'other', true, 'kubernetes'), ('', 'q', 'other', true, 'kubernetes')"
        )
        first, second = [row for row, _ in syncing.unlaunched(connection, 0.0, [], 9)]
        assert syncing.record_submitted(connection, first)
        insert_task(connection, "kubernetes", "note", "{}")
    claim = ledger.claim(first.id, first.uid, 1, 1, "pod", 30.0)
    assert isinstance(claim, Claim)
    ledger.heartbeat(claim.token, 30.0, Progress(50, "half"))
    with writer.transaction() as connection:
        assert [live for _, live in syncing.claimed(connection)] == [1]
        assert reports.record(connection, first, AttemptReport(1, 1, "NodeLost"))
    situation = Queries(writer.engine).situation(second.id)
    assert situation is not None
    assert situation.holder is not None
    ledger.fail(claim.token, Failure("NodeLost", for_good=True), decide=True)
    assert ledger.retry(first.id) is not None
    assert ledger.cancel(first.id) is not None
    (task,) = outbox.claim(["note"], "w", 30.0, 9)
    outbox.fail(task, TaskFailure("TaskError", retry_seconds=0.0))
    (task,) = outbox.claim(["note"], "w", 30.0, 9)
    assert outbox.finish_many([task])
    assert ledger.reap("kubernetes") == []
    assert ledger.expire_starts("kubernetes", []) == []
    pruned = ledger.prune(9, older_than_seconds=0.0, which=JobFilter(runner="kubernetes"))
    waiting = [job.id for job in ledger.list_jobs() if job.state is JobState.WAITING]
    writer.close()
    writer.engine.dispose()
    return {"leads": leads, "pruned": pruned, "waiting": waiting == [second.id], "channels": [CHANNEL, TASKS_CHANNEL]}


def downgrade() -> Any:
    """Remove the tables."""
    engine = create_engine(os.environ["OWNER_URL"])
    migrations.downgrade(engine)
    engine.dispose()
    return {}


if __name__ == "__main__":
    for step in sys.argv[1:]:
        print(json.dumps(globals()[step]()), flush=True)
