"""The lines of JSON logs about jobs and tasks that were dispatched in a trace name it."""

from __future__ import annotations

import logging

import pytest
from tests.contract.ledger import new_job
from tests.unit.operator.core.test_job_spans import EMPTY, spokejob

from spoke_jobs import Registry
from spoke_jobs.execution.attempt import attempt_fields
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import Claim, JobOptions
from spoke_jobs.shared.log_setup import JsonFormatter
from spoke_jobs.tasks.protocol.messages import Task
from spoke_jobs.tasks.server.task_run import TaskRun, run_def
from spoke_jobs_operator.shell.reporting.status_reports import log_fields

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def claimed(traceparent: str | None) -> Claim:
    ledger = MemoryLedger()
    job = ledger.insert(new_job(options=JobOptions(traceparent=traceparent)))
    claim = ledger.claim(job.id, job.uid, 1, 1, "w", 30)
    assert isinstance(claim, Claim)
    return claim


def test_an_attempt() -> None:
    assert attempt_fields(claimed(TRACEPARENT))["trace_id"] == TRACE_ID
    assert "trace_id" not in attempt_fields(claimed(None))


def test_a_spokejob() -> None:
    plain = spokejob(EMPTY)
    traced = plain.model_copy(update={"spec": plain.spec.model_copy(update={"traceparent": TRACEPARENT})})
    assert log_fields(traced)["trace_id"] == TRACE_ID
    assert "trace_id" not in log_fields(plain)


@pytest.mark.parametrize(("traceparent", "shown"), [(TRACEPARENT, True), ("", False)])
def test_a_task(traceparent: str, shown: bool) -> None:
    registry, lines = Registry(), list[str]()

    @registry.task("note")
    def note(_ctx: object) -> None:
        record = logging.makeLogRecord({"msg": "ran"})
        lines.append(JsonFormatter().format(record))

    run_def(TaskRun(Task("1", "note", "null", traceparent=traceparent), registry.tasks.get("note")))
    assert (f'"trace_id": "{TRACE_ID}"' in lines[0]) is shown
