"""A field of the model and a migration are all that a new column needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job

from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.worker.child_messages import Order, decode, encode


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
    else:
        yield from open_ledger(request.getfixturevalue(f"{request.param}_ledger_url"))


def test_it_is_written_read_and_sent_everywhere(ledger: Ledger) -> None:
    new = new_job(note="by hand")
    rows = [ledger.insert(new), *ledger.insert_many([new, new]), ledger.insert(new_job(note="by hand", unique_key="k"))]
    assert [row.note for row in rows] == ["by hand"] * 4
    assert [row.note for row in ledger.list_jobs()] == ["by hand"] * 4
    claim = claim_one(ledger, "legacy", ["report"], "worker", LEASE)
    assert claim is not None
    assert claim.job.note == "by hand"
    order = decode(encode(Order.of(claim)))
    assert isinstance(order, Order)
    assert order.job == claim.job
    assert ledger.insert(new_job()).note == ""
