"""Supervisor and child understand each other."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.worker.wire import Order, Report, decode_order, decode_report, encode


@given(st.integers(1), st.integers(1), st.uuids(), st.floats(0.5, 3600))
def test_orders_come_back_as_one_line(job_id: int, number: int, token: UUID, lease: float) -> None:
    order = Order(job_id, number, token, lease)
    line = encode(order)
    assert line.count(b"\n") == 1
    assert decode_order(line) == order


@given(st.none() | st.integers(0, 255), st.booleans())
def test_reports_come_back(code: int | None, last: bool) -> None:
    assert decode_report(encode(Report(code, last))) == Report(code, last)
