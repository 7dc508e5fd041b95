"""Describe a task of the outbox, for the command line and the dashboard. Pure."""

from __future__ import annotations

import json
from datetime import datetime

from spoke_jobs.contract.task_causes import TASK_CAUSES
from spoke_jobs.explain.words import ago, line, until
from spoke_jobs.ledger.outbox_row import TaskRow, TaskState
from spoke_jobs.model import UnreadPayload
from spoke_jobs.payloads import TASK_LIMIT_BYTES, payload_as_json

NO_SUCH_TASK = "in the outbox: it has run, its retention is over, or it is in another database"
"""Why there is no task with an id: the end of a sentence."""


def task_facts(task: TaskRow, now: datetime) -> list[tuple[str, str]]:
    """List what is known of a task as names and values, without its payload. Those without a value are left out."""
    found = [
        ("name", line(task.name)),
        ("state", task.state.value),
        ("uid", str(task.uid)),
        ("runner", line(task.runner)),
        ("attempt", str(task.attempt)),
        ("cause", line(task.cause)),
        ("meaning", task_meaning(task.cause)),
        ("advice", task_advice(task)),
        ("error", line(task.error_type)),
        ("lapsed claims", str(task.losses) if task.losses else ""),
        ("replica", line(task.worker)),
        ("traceparent", line(task.traceparent)),
        ("dispatched", ago(task.created_at, now)),
        ("next attempt", until(task.due_at, now) if task.state is TaskState.LATER else ""),
        ("lease ends", until(task.due_at, now) if task.state is TaskState.CLAIMED else ""),
        ("failed", ago(task.finished_at, now) if task.finished_at else ""),
        ("deleted", until(task.expires_at, now) if task.expires_at else ""),
    ]
    return [(name, value) for name, value in found if value]


def task_meaning(cause: str) -> str:
    """Return what a cause of tasks means; empty if there is none, or if this release does not know it."""
    known = TASK_CAUSES.get(cause)
    return known.meaning if known is not None else ""


def task_advice(task: TaskRow) -> str:
    """Return what to do about a task, by its cause; empty if there is none, or if this release does not know it."""
    known = TASK_CAUSES.get(task.cause)
    return known.advise(task.id, tried_again=task.state is not TaskState.FAILED) if known is not None else ""


def task_payload(task: TaskRow) -> str:
    """Return the payload of a task as JSON, or why it cannot be shown."""
    if isinstance(task.payload, UnreadPayload):
        return f"over {TASK_LIMIT_BYTES:,} bytes: too large to be read"
    return json.dumps(payload_as_json(task.payload), ensure_ascii=False)
