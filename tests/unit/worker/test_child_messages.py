from __future__ import annotations

import asyncio
import math
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.ledger import claim_one, new_job

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import JobOptions, UnreadPayload
from spoke_jobs.worker.child_messages import Order, Report, Stop, decode, decode_report, encode, read_message


@given(
    *(st.integers(1, 2**62), st.integers(1, 99), st.uuids(), st.floats(0.5, 3600)),
    *(st.none() | st.floats(0, 1e9), st.just(math.inf) | st.floats(0, 1e9)),
)
def test_orders_read_back(
    job_id: int, number: int, token: uuid.UUID, lease: float, asked_at: float | None, start_by: float
) -> None:
    order = Order(job_id, number, token, lease, asked_at, start_by=start_by)
    line = encode(order)
    assert line.count(b"\n") == 1
    assert decode(line) == order


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@given(st.sampled_from([None, *ExitCode]), st.booleans(), st.none() | st.uuids(), st.sampled_from(["", TRACE]))
def test_reports_read_back(code: ExitCode | None, last: bool, token: uuid.UUID | None, trace_id: str) -> None:
    report = Report(code, last, token, trace_id)
    assert decode(encode(report)) == report
    assert decode_report(encode(report)) == report


@pytest.mark.parametrize("trace_id", [None, 7, "x", "0" * 32, TRACE.upper(), TRACE + "0", "a" * 10**6])
def test_a_report_with_an_invalid_trace_has_none(trace_id: Any) -> None:
    assert decode_report(encode(Report(0, trace_id=trace_id))) == Report(0)


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[" * 5000, b"{}", b'{"kind":"Stop","token":null}', b'{"kind":"Report","last":1}',
     b'{"kind":"Report","last":true,"exit_code":1.5}', b'{"kind":"Report","last":true,"token":"7"}', b"\xff",
     b'{"kind":"Report","last":false,"exit_code":9,"token":null}'],
)  # fmt: skip
def test_what_a_job_writes_to_its_child_s_socket_is_no_report(line: bytes) -> None:
    assert decode_report(line) is None


@given(st.none() | st.uuids(), st.sampled_from(StopReason))
def test_stops_read_back(token: uuid.UUID | None, reason: StopReason) -> None:
    assert decode(encode(Stop(token, reason))) == Stop(token, reason)


@given(st.text() | st.just(UnreadPayload.of(9)), st.none() | st.timedeltas(timedelta(), timedelta(days=9)))
def test_a_row_travels_with_its_order_unless_its_payload_was_not_read(payload: str, ahead: timedelta | None) -> None:
    ledger = MemoryLedger()
    options = JobOptions(retry=RetryPolicy(never=("ValueError",), jitter=0.5), timeout_seconds=4.5)
    run_after = None if ahead is None else datetime.now(UTC) - ahead
    job = ledger.insert(new_job(options=options, priority=3, run_after=run_after, unique_key="k"))
    claim = claim_one(ledger, "legacy", [job.job_type], "w", 30)
    assert claim is not None
    claim = replace(claim, start_by=7.5, job=claim.job.evolve(payload=payload))
    order = decode(encode(Order.of(claim)))
    assert isinstance(order, Order)
    assert order.start_by == 7.5
    assert order.job == (None if isinstance(payload, UnreadPayload) else claim.job)


@pytest.mark.parametrize("sent", [b"", b"a part of an order\n", b"no end"], ids=["the end", "a part", "no newline"])
async def test_what_is_no_message_is_the_end_of_the_messages(sent: bytes) -> None:
    """A job's code has read the rest. The attempts that run go on."""
    reader = asyncio.StreamReader()
    order = Order(1, 1, uuid.uuid4(), 60.0)
    reader.feed_data(encode(order) + sent)
    reader.feed_eof()
    assert await read_message(reader) == order
    assert await read_message(reader) is None


async def test_a_broken_connection_is_the_end_of_the_messages() -> None:
    reader = asyncio.StreamReader()
    reader.set_exception(ConnectionResetError())
    assert await read_message(reader) is None
