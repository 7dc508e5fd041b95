"""The names and attributes of spans follow OpenTelemetry's conventions for messaging, and hold no values of people."""

from __future__ import annotations

from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from tests.contract.ledger import new_job

from spoke_jobs import Discard, JobData, RetryLater
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.middleware.hooks import AttemptCall, DispatchCall, TaskCall
from spoke_jobs.tracing import span_values
from spoke_jobs.tracing.span_values import Operation


class Types(Enum):
    REPORT = "report"


def of_dispatch(*jobs: JobData, pattern: str = "", task: str = "") -> tuple[str, dict[str, Any]]:
    values = span_values.of_dispatch(DispatchCall(jobs, task), pattern)
    return values.name, dict(values.attributes)


SEND = {
    "messaging.system": "spoke_jobs",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
}


def test_the_dispatch_of_a_job_is_named_for_its_type() -> None:
    name, attributes = of_dispatch(JobData("report", {"phone": "+15550100"}, queue_name="slow"))
    assert name == "send report"
    assert attributes == SEND | {"messaging.destination.name": "report", "messaging.spoke_jobs.queue": "slow"}
    assert of_dispatch(JobData(Types.REPORT))[0] == "send report"


def test_the_dispatch_of_a_task_is_named_for_the_task() -> None:
    assert of_dispatch(task="send.mail", pattern="send.*") == (
        "send send.*",
        SEND | {"messaging.destination.name": "send.mail", "messaging.destination.template": "send.*"},
    )


def test_jobs_of_several_types_have_no_destination_in_common() -> None:
    assert of_dispatch(JobData("report"), JobData("export")) == ("send", SEND | {"messaging.batch.message_count": 2})
    assert of_dispatch() == ("send", SEND | {"messaging.batch.message_count": 0})
    name, attributes = of_dispatch(JobData("report"), JobData("report"))
    assert (name, attributes["messaging.destination.name"]) == ("send report", "report")
    assert attributes["messaging.batch.message_count"] == 2


@pytest.mark.parametrize(
    ("operation", "kind"),
    [(Operation.PROCESS, "process"), (Operation.CLAIM, "receive"), (Operation.COMPLETE, "settle")],
)
def test_an_attempt_says_which_one_it_is(operation: Operation, kind: str) -> None:
    ledger = MemoryLedger()
    job = ledger.insert(new_job(job_type="ingest.csv", queue_name="slow"))
    call = AttemptCall(job, 2, {"phone": "+15550100"}, None, pattern="ingest.*")
    values = span_values.of_attempt(operation, call)
    assert values.name == f"{operation} ingest.*"
    assert values.attributes == {
        "messaging.system": "spoke_jobs",
        "messaging.operation.name": str(operation),
        "messaging.operation.type": kind,
        "messaging.destination.name": "ingest.csv",
        "messaging.destination.template": "ingest.*",
        "messaging.message.id": str(job.uid),
        "messaging.spoke_jobs.job_id": job.id,
        "messaging.spoke_jobs.run": 1,
        "messaging.spoke_jobs.attempt": 2,
        "messaging.spoke_jobs.runner": "legacy",
        "messaging.spoke_jobs.queue": "slow",
    }
    assert UUID(str(values.attributes["messaging.message.id"])) == job.uid


def test_a_run_of_a_task_has_its_id() -> None:
    values = span_values.of_task(TaskCall("id-1", "note", 3, {"phone": "+15550100"}, None))
    assert values.name == "process note"
    assert values.attributes == {
        "messaging.system": "spoke_jobs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "note",
        "messaging.message.id": "id-1",
        "messaging.spoke_jobs.attempt": 3,
    }


def test_a_name_that_cannot_be_sent_is_made_one_that_can() -> None:
    values = span_values.of_task(TaskCall("id-1", "send.\ud800", 1, None, None, pattern="send.*"))
    assert values.attributes["messaging.destination.name"] == "send.?"
    assert of_dispatch(JobData("report", queue_name="\ud800"))[1]["messaging.spoke_jobs.queue"] == "?"

    class Odd(Exception):
        """Its name is set by code that reads it from somewhere."""

    Odd.__qualname__ = "\ud800"
    assert span_values.error_type(Odd()) == f"{__name__}.?"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("+15550100"), "ValueError"),
        (Discard("no"), "spoke_jobs.errors.Discard"),
        (SystemExit(1), "SystemExit"),
        (RetryLater(5), ""),
    ],
)
def test_an_error_is_named_by_its_class(error: BaseException, kind: str) -> None:
    assert span_values.error_type(error) == kind
