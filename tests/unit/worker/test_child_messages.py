from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.contract.ledger import claim_one, new_job

from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import JobOptions
from spoke_jobs.worker.child_messages import INLINE_LIMIT, Order, Report, Stop, decode, encode


@given(st.integers(1, 2**62), st.integers(1, 99), st.uuids(), st.floats(0.5, 3600), st.none() | st.floats(0, 1e9))
def test_orders_read_back(job_id: int, number: int, token: uuid.UUID, lease: float, asked_at: float | None) -> None:
    order = Order(job_id, number, token, lease, asked_at)
    line = encode(order)
    assert line.count(b"\n") == 1
    assert decode(line) == order


@given(st.sampled_from([None, *ExitCode]), st.booleans(), st.none() | st.uuids())
def test_reports_read_back(code: ExitCode | None, last: bool, token: uuid.UUID | None) -> None:
    assert decode(encode(Report(code, last, token))) == Report(code, last, token)


@given(st.none() | st.uuids(), st.booleans())
def test_stops_read_back(token: uuid.UUID | None, overtime: bool) -> None:
    assert decode(encode(Stop(token, overtime))) == Stop(token, overtime)


@given(st.text(), st.none() | st.timedeltas(timedelta(), timedelta(days=9)))
def test_a_small_row_travels_with_its_order_and_a_large_one_does_not(payload: str, ahead: timedelta | None) -> None:
    ledger = MemoryLedger()
    options = JobOptions(retry=RetryPolicy(never=("ValueError",), jitter=0.5), timeout_seconds=4.5)
    run_after = None if ahead is None else datetime.now(UTC) - ahead
    job = ledger.insert(new_job(payload=payload, options=options, priority=3, run_after=run_after, unique_key="k"))
    claim = claim_one(ledger, "legacy", [job.job_type], "w", 30)
    assert claim is not None
    order = decode(encode(Order.of(claim)))
    assert isinstance(order, Order)
    assert order.job == (claim.job if len(payload) <= INLINE_LIMIT else None)
