"""Ledgers for the pages to show: one with something of everything, one with hostile texts everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update
from tests.contract import scheduled_app
from tests.contract.dashboard_scene import HOSTILE
from tests.contract.ledger import claim_one, new_job

from spoke_jobs import Cron, Every
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import NewMute
from spoke_jobs.ledger.outbox.task_outbox import Outbox, TaskFailure, insert_task
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_attempt, job_event, job_request, job_schedule, task_outbox
from spoke_jobs.limits.job_limit import Bounds, Rate, parse_scope
from spoke_jobs.model import Claim, Failure, Progress
from spoke_jobs.web.job_search import encoded

LONG_LEASE = 7200.0
"""Longer than all tests of this folder take."""
TRACEBACK = """Traceback (most recent call last):
  File "/app/shop/exports.py", line 47, in export_orders
    rows = fetch(connection, order.customer_identifier, order.created_at, order.warehouse, order.delivery_address)
ValueError: the column 'delivery_address' is longer than 120 characters"""
FAILED = Failure(
    "JobError",
    "the column 'delivery_address' is longer than 120 characters",
    "ValueError",
    TRACEBACK,
    for_good=True,
    fingerprint="ValueError@shop.exports.export_orders",
)
RUNNER = "kubernetes"
"""Whose tasks the outbox has."""

PAGES = (
    "/",
    "/jobs",
    "/jobs?state=failed",
    "/jobs/{waiting}",
    "/jobs/{running}",
    "/jobs/{blocked}",
    "/jobs/{succeeded}",
    "/jobs/{failed}",
    "/jobs/{cancelled}",
    "/jobs/{running}/output",
    "/jobs/{failed}/output",
    "/bulk/cancel?state=waiting",
    "/bulk/retry?state=failed",
    "/failures",
    "/queues",
    "/schedules",
    "/schedules/backfill?schedule={schedule}&from=2026-03-01T00:00&to=2026-03-20T00:00",
    "/batches",
    "/tasks",
    "/tasks?state=failed",
    "/tasks/{task}",
    "/tasks/{claimed_task}",
    "/cluster",
    "/audit",
    "/audit?action=cancel",
)
"""The pages of a ledger with something of everything, with the fields of :class:`Filled`."""


@dataclass(frozen=True)
class Filled:
    """What pages of their own show: the ids, and the name of a schedule."""

    waiting: int
    running: int
    blocked: int
    succeeded: int
    failed: int
    cancelled: int
    task: int
    claimed_task: int
    schedule: str
    """As it is in an address."""


def claimed(ledger: SqlLedger, job_type: str, worker: str = "worker-7f9c:12") -> Claim:
    """Start the first job of a type."""
    claim = claim_one(ledger, "legacy", [job_type], worker, LONG_LEASE)
    assert claim is not None
    return claim


def add_schedule(ledger: SqlLedger, name: str, timing: Cron | Every, **options: Any) -> None:
    """Declare a schedule of the job that :mod:`tests.contract.scheduled_app` has."""
    schedule = scheduled_app.registry.make_schedule(name, "report", timing, None, options)
    with ledger.engine.begin() as connection:
        schedule_rows.put(connection, "legacy", schedule, "grace")


def put_task(ledger: SqlLedger, name: str, payload: str = '{"to": "+15550100"}') -> None:
    """Dispatch a task with a session."""
    with ledger.engine.begin() as connection:
        insert_task(connection, RUNNER, name, payload)


def failed_task(ledger: SqlLedger, name: str) -> int:
    """Let a task fail for good; return its id."""
    put_task(ledger, name)
    outbox = Outbox(ledger.engine, RUNNER)
    (task,) = outbox.claim([name], "tasks-5d8b-x2x4k", LONG_LEASE, 1)
    assert outbox.fail(task, TaskFailure("TaskError", "shop.sms.RefusedByCarrier", None))
    return task.id


def fill(ledger: SqlLedger) -> Filled:
    """Write something of everything that pages show."""
    succeeded = ledger.insert(new_job(job_type="import_contacts", payload='{"file": "contacts-2026-11.csv"}'))
    ledger.succeed(None, claimed(ledger, "import_contacts").token, {"imported": 4812, "skipped": 17})
    failed = [ledger.insert(new_job(job_type="export_orders", queue_name="exports")) for _ in range(3)]
    for _ in failed:
        claim = claimed(ledger, "export_orders")
        ledger.save(None, claim.token, {"": "4000"})
        ledger.fail(claim.token, FAILED, decide=True)
    cancelled = ledger.insert(new_job(job_type="build_report"))
    ledger.cancel(cancelled.id, "grace")
    running = ledger.insert(new_job(job_type="sync_inventory", queue_name="warehouse", locks_queue=True))
    claim = claimed(ledger, "sync_inventory")
    ledger.heartbeat(claim.token, LONG_LEASE, Progress(40, "400 of 1,000 rows"))
    ledger.keep_output(claim.token, "\n".join(f"row {row} of 1,000 is in the warehouse" for row in range(380, 400)))
    behind = ledger.insert(new_job(job_type="sync_inventory", queue_name="warehouse", locks_queue=True))
    blocked = ledger.insert(new_job(job_type="build_report", after=(behind.id, running.id)))
    later = datetime.now(UTC) + timedelta(hours=5)
    ledger.insert(new_job(job_type="send_invoices", queue_name="mail", run_after=later))
    ledger.insert_many([new_job(job_type="send_invoices", queue_name="mail") for _ in range(60)])  # more than one page
    batch = ledger.open_batch("invoices of November", new_job(job_type="build_report"))
    ledger.insert_many([new_job(job_type="collect", batch_id=batch.id) for _ in range(3)])
    ledger.succeed(None, claimed(ledger, "collect").token, None)
    ledger.fail(claimed(ledger, "collect").token, FAILED, decide=True)
    ledger.limits.pause(parse_scope("queue:mail"), "the mail provider is down", "grace")
    ledger.limits.set(parse_scope("type:export_orders"), lambda _: Bounds(3, Rate.parse("100/min")), "grace")
    add_schedule(ledger, "nightly report", Cron("0 3 * * *", timezone="America/New_York"))
    add_schedule(ledger, "hourly report", Every(hours=1))
    with ledger.engine.begin() as connection:
        schedule_rows.pause(connection, "hourly report", "grace")
    end = datetime.now(UTC) + timedelta(days=2)
    with ledger.engine.begin() as connection:
        for cause in ("OutOfMemory", "StartTimeout"):
            mute_rows.add_mute(connection, NewMute(cause=cause, until=end, reason="fixed in release 43"), "grace")
    task = failed_task(ledger, "send_message")
    put_task(ledger, "charge_card")
    (claimed_task,) = Outbox(ledger.engine, RUNNER).claim(["charge_card"], "tasks-5d8b-x2x4k", LONG_LEASE, 1)
    for name in ("send_message", "charge_card"):
        put_task(ledger, name)
    jobs = (behind.id, running.id, blocked.id, succeeded.id, failed[0].id, cancelled.id)
    return Filled(*jobs, task, claimed_task.id, in_address("nightly report"))


def in_address(schedule: str) -> str:
    """Write the name of a schedule as a form sends it in an address, which encodes what the form has encoded."""
    return encoded(encoded(schedule))


def fill_with_hostile_texts(ledger: SqlLedger) -> Filled:
    """Write the same with texts of attackers: by the ledger where it takes them, else into its tables."""
    filled = fill(ledger)
    end = datetime.now(UTC) + timedelta(days=2)
    with ledger.engine.begin() as connection:
        for about in (HOSTILE, "nobody"):  # a group of the page, and none
            mute_rows.add_mute(connection, NewMute(cause=about, until=end, reason=HOSTILE), HOSTILE)
    longer = f"</pre></textarea><img src=x onerror=alert(1)>{'x' * 2_000}"
    ledger.limits.pause(parse_scope(f"queue:{HOSTILE}"), HOSTILE, HOSTILE)
    ledger.open_batch(HOSTILE)
    names = dict.fromkeys(("cause", "error_type", "worker"), HOSTILE)
    of_jobs = dict.fromkeys(("job_type", "queue_name", "cause", "fingerprint"), HOSTILE)
    of_nightly = update(job_schedule).where(job_schedule.c.name == "nightly report")
    with ledger.engine.begin() as connection:
        for change in (
            update(job_request).values(of_jobs | {"result_message": longer, "payload": f'"{longer}"'}),
            update(job_attempt).values(names | {"output_tail": f"{HOSTILE}\n{longer}"}),
            update(job_event).values(actor=HOSTILE, job_type=HOSTILE, detail=longer),
            update(task_outbox).values(names | {"name": HOSTILE}),
            of_nightly.values(name=HOSTILE, error=longer, paused_by=HOSTILE),
        ):
            connection.execute(change)
    return replace(filled, schedule=in_address(HOSTILE))
