"""When a worker claims, and how many jobs a claim asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.worker import claiming
from spoke_jobs.worker.claiming import Claiming, rounded


@given(st.integers(1, 10_000))
def test_a_claim_never_asks_for_more_than_there_is_room_for_nor_leaves_a_third_of_it(room: int) -> None:
    assert 2 * room / 3 < rounded(room) <= room


def test_few_numbers_are_asked_for() -> None:
    """Each makes another statement, which PostgreSQL plans by itself."""
    assert sorted({rounded(room) for room in range(1, 101)}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]


class IdleLedger:
    """Has no due job, and every 2 ms a token of a queue in which no job waits."""

    def __init__(self) -> None:
        self.claims = 0
        self.limits = SimpleNamespace(version=1, limited=True, rated=True, next_token_seconds=0.002)

    def claim_batch(self, *_: object) -> list[object]:
        self.claims += 1
        return []


def test_tokens_that_nobody_needs_keep_no_worker_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(claiming, "time", SimpleNamespace(monotonic=lambda: now))
    ledger = IdleLedger()
    child: Any = SimpleNamespace(room=lambda *, ahead: 1)
    pool: Any = SimpleNamespace(of=lambda _kind: [child])
    options: Any = SimpleNamespace(
        runner="legacy", types=("a",), loop_types=(), batch=8, lease_seconds=30, only=None, drain=False
    )
    metrics: Any = SimpleNamespace(claimed=lambda _claims: None)
    claims = Claiming(ledger, options, pool, metrics, registry=SimpleNamespace())  # type: ignore[arg-type]
    for _ in range(10_000):
        claims.claim()
        now += 0.001
    assert ledger.claims <= 20
    claims.expect_work()  # after a notification
    before = ledger.claims
    claims.claim()
    assert ledger.claims == before + 1
    assert claims.token_due_in() < 0.01
