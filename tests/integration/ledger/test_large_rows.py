"""Rows with texts of any size: what reads them reads a bounded part, so that they cost no other job anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, Table, func, insert, select, text, update
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, new_job, present

from spoke_jobs.contract.causes import Cause
from spoke_jobs.execution.attempt_decisions import load_job
from spoke_jobs.ledger.columns.column_types import StorableText, StoredJson
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.outbox.outbox_queries import ANY_TASK, OutboxQueries
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.rows import SMALL_PAYLOAD_BYTES
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, metadata
from spoke_jobs.model import ANY_JOB, UNDECLARED, Failure, JobState, UnreadPayload, payload_size
from spoke_jobs.payloads import JOB_LIMIT_BYTES, TASK_LIMIT_BYTES
from spoke_jobs.registry import Registry

LARGE = 1_000_000
"""More than anything that is read, except payloads."""


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Iterator[SqlLedger]:
    yield from open_ledger(request.getfixturevalue(f"{request.param}_ledger_url"))


def sizes(value: Any) -> Iterator[int]:
    """The sizes of all texts in a value."""
    if isinstance(value, str):
        yield len(value.encode())
    elif isinstance(value, Mapping):
        yield from sizes([*value, *value.values()])
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from sizes(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from sizes([getattr(value, field.name) for field in fields(value)])


def texts(table: Table) -> dict[str, Any]:
    """Large values for the columns of the table in which an index or a constraint allows them."""
    indexed = {column.name for index in table.indexes for column in index.columns} | set(table.primary_key.c.keys())
    return {
        column.name: "x" * LARGE if isinstance(column.type, StorableText) else {"x": "y" * LARGE}
        for column in table.c
        if isinstance(column.type, StorableText | StoredJson) and column.name not in {*indexed, "state", "runner"}
    }


def enlarge(engine: Engine, table: Table, **others: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(table).values(texts(table) | others))


def test_no_column_of_text_or_json_is_without_a_bound() -> None:
    bounded = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.c
        if isinstance(column.type, StorableText | StoredJson)
    }
    plain = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.c
        if getattr(column.type, "python_type", str) in (str, dict)
    }
    assert plain <= bounded
    assert ("job_request", "payload") in bounded


def test_nothing_that_reads_jobs_reads_the_whole_of_a_large_row(ledger: SqlLedger) -> None:
    queries = Queries(ledger.engine)
    job_id = ledger.insert(new_job(limit_key="k")).id
    enlarge(ledger.engine, job_request, job_type="report", payload="1")
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE)
    enlarge(ledger.engine, job_request, job_type="report." + "x" * LARGE)
    found = [
        claim,
        ledger.get(job_id),
        ledger.list_jobs(9),
        queries.jobs([job_id]),
        queries.situation(job_id),
        queries.selected(ANY_JOB),
        queries.crowd(99.0),
    ]
    assert ledger.fail(claim.token, Failure("JobError", "x", for_good=True), decide=True), "its end is recorded"
    read = sorted(sizes(found))
    assert read[-1] == LARGE, "the payload of one job"
    assert read[-2] <= 8_000


def test_what_reads_many_jobs_reads_small_payloads_only(ledger: SqlLedger) -> None:
    small, large = "x" * SMALL_PAYLOAD_BYTES, "y" * 2 * SMALL_PAYLOAD_BYTES
    first, second = (ledger.insert(new_job(payload=payload)).id for payload in (small, large))
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    for jobs in (
        [claim.job for claim in claims],
        reversed(ledger.list_jobs(9)),
        Queries(ledger.engine).jobs([1, 2])[1],
    ):
        found = {job.id: job.payload for job in jobs}
        assert found == {first: small, second: ""}
        assert isinstance(found[second], UnreadPayload)
        assert payload_size(found[second]) == 2 * SMALL_PAYLOAD_BYTES
    whole = present(ledger.get(second))
    assert (whole.payload, payload_size(whole.payload)) == (large, 2 * SMALL_PAYLOAD_BYTES)


def test_a_payload_that_is_too_large_for_any_process_ends_its_job_by_name(ledger: SqlLedger) -> None:
    broken, good = (ledger.insert(new_job()).id for _ in range(2))
    with ledger.engine.begin() as connection:
        half = JOB_LIMIT_BYTES // 2 + 1
        huge = f"repeat('xx', {half})" if connection.dialect.name == "postgresql" else f"hex(zeroblob({half}))"
        connection.execute(text(f"UPDATE job_request SET payload = {huge} WHERE id = :id"), {"id": broken})
    claims = {claim.job.id: claim for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)}
    assert set(claims) == {broken, good}
    row = present(ledger.get(broken))
    assert isinstance(row.payload, UnreadPayload)
    registry = Registry()
    registry.job("report")(lambda _ctx, _payload: None)
    failure = load_job(claims[broken], registry)
    assert isinstance(failure, Failure)
    assert (failure.cause, failure.for_good) == (Cause.INVALID_PAYLOAD, True)
    assert f"{JOB_LIMIT_BYTES + 2:,} bytes, and {JOB_LIMIT_BYTES:,} is the limit" in failure.message
    assert ledger.fail(claims[broken].token, failure, decide=True)
    ended = present(ledger.get(broken))
    assert (ended.state, ended.cause) == (JobState.FAILED, "InvalidPayload")


def test_options_that_are_too_large_count_as_none(ledger: SqlLedger) -> None:
    job_id = ledger.insert(new_job()).id
    with ledger.engine.begin() as connection:
        options = {"retentionSeconds": 7, "x": "y" * LARGE}
        connection.execute(update(job_request).values(options=options))
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE)
    assert claim.job.options is UNDECLARED
    ledger.succeed(None, claim.token, "x" * 60_000)
    ended = present(ledger.get(job_id))
    assert (ended.state, ended.result) == (JobState.SUCCEEDED, "x" * 60_000)


def test_the_largest_values_that_this_library_writes_are_read_whole(ledger: SqlLedger) -> None:
    message, tail, result = "\N{GRINNING FACE}" * 2_000, "\N{GRINNING FACE}" * 8_000, [1] * 31_999
    ledger.insert(new_job())
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE)
    assert ledger.fail(claim.token, Failure("JobError", message, output_tail=tail, for_good=True), decide=True)
    done = ledger.insert(new_job()).id
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE)
    assert len(json.dumps(result, separators=(",", ":"))) < 64_000 < len(json.dumps(result))
    ledger.save(None, claim.token, {"step": json.dumps("x" * 63_998)})
    ledger.succeed(None, claim.token, result)
    failed, succeeded = ledger.get(1), ledger.get(done)
    assert failed is not None
    assert succeeded is not None
    assert (failed.result_message, ledger.attempts(1)[0].output_tail) == (message, tail)
    assert succeeded.result == result
    assert [len(saved.value) for saved in ledger.saved(done)] == [64_000]


def test_no_other_reader_reads_the_whole_of_a_large_row(ledger: SqlLedger) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    job_id = ledger.insert(new_job()).id
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE)
    ledger.save(None, claim.token, {"": "1"})
    tables = {table.name: table for table in metadata.tables.values()}
    given: dict[str, dict[str, Any]] = {
        "attempt_report": {"job_id": job_id, "run": 1, "number": 1, "created_at": now, "cause": "", "outputs": []},
        "task_outbox": {"uid": claim.token, "runner": "legacy", "name": "send", "payload": "", "created_at": now}
        | {"due_at": now},
        "job_event": {"at": now, "action": "cancel", "job_id": job_id},
        "job_limit": {"scope": "queue:x", "max_running": 1, "updated_at": now},
    }
    with ledger.engine.begin() as connection:
        for name, values in given.items():
            connection.execute(insert(tables[name]).values(values))
    for name in ("job_attempt", "job_checkpoint", *given):
        kept = {"scope": "queue:x", "source": "runtime"} if name == "job_limit" else {}
        enlarge(ledger.engine, tables[name], **kept)
    queries = Queries(ledger.engine)
    found: list[Any] = [
        ledger.attempts(job_id),
        ledger.saved(job_id),
        queries.situation(job_id),
        queries.events(9),
        OutboxQueries(ledger.engine).tasks(ANY_TASK),
        OutboxQueries(ledger.engine).task(1),
    ]
    with ledger.engine.connect() as connection:
        found.append(read_limits(connection))
        assert connection.scalar(select(func.count()).select_from(tables["job_limit"])) == 1
    assert max(sizes(found)) <= 32_000


def test_a_task_s_limit_is_that_of_its_column() -> None:
    (kind,) = {table.c.payload.type for table in metadata.tables.values() if table.name == "task_outbox"}
    assert isinstance(kind, StorableText)
    assert (kind.limit_bytes, kind.whole) == (TASK_LIMIT_BYTES, True)
