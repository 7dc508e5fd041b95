"""When a worker claims, and how many jobs a claim asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from tests.unit.worker.test_held_back_types import SLOTS, Worker

from spoke_jobs.model import JobState
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
    claims = Claiming(ledger, options, pool, metrics, SimpleNamespace(), give_back=lambda _order: None)  # type: ignore[arg-type]
    for _ in range(10_000):
        claims.claim()
        now += 0.001
    assert ledger.claims <= 20
    claims.expect_work()  # after a notification
    before = ledger.claims
    claims.claim()
    assert ledger.claims == before + 1
    assert claims.token_due_in() < 0.01


@pytest.fixture
def make() -> Iterator[Callable[..., Worker]]:
    with ExitStack() as stack:
        yield lambda *types, loop_types=(): stack.enter_context(closing(Worker(*types, loop_types=loop_types)))


@pytest.mark.parametrize(
    ("types", "loop_types", "busy", "due", "claimed"),
    [
        (("ingest.*", "mail"), ("ingest.crawl",), "ingest.crawl", ("ingest.xml", "mail"), {"ingest.*": 1, "mail": 1}),
        (("ingest.*", "ingest.crawl.fast"), ("ingest.crawl.*",), "ingest.crawl.slow",
         ("ingest.xml", "ingest.crawl.fast"), {"ingest.*": 1, "ingest.crawl.fast": 1}),
    ],
    ids=["a name below a prefix", "a name below a prefix below a prefix"],
)  # fmt: skip
def test_jobs_of_a_busy_event_loop_keep_no_process_from_the_others(
    make: Callable[..., Worker],
    types: tuple[str, ...],
    loop_types: tuple[str, ...],
    busy: str,
    due: tuple[str, ...],
    claimed: dict[str, int],
) -> None:
    worker = make(*types, loop_types=loop_types)
    worker.dispatch(busy, 3 * SLOTS)
    assert worker.claim() == {loop_types[0]: SLOTS}
    for name in due:
        worker.dispatch(name, 1)
    assert worker.claim() == {loop_types[0]: SLOTS, **claimed}


def test_the_kind_of_the_last_job_is_claimed_first(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job then starts after one claim, and the one for the other kind does not delay it."""
    worker = make("mail", loop_types=("crawl",))
    asked: list[tuple[str, ...]] = []
    claim_batch = worker.ledger.claim_batch

    def counted(runner: str, types: tuple[str, ...], *rest: Any) -> Any:
        asked.append(types)
        return claim_batch(runner, types, *rest)

    monkeypatch.setattr(worker.ledger, "claim_batch", counted)
    for last in ("crawl", "mail", "crawl"):
        worker.dispatch(last, 1)
        worker.claim()
        asked.clear()
        worker.dispatch(last, 1)
        worker.claim()
        assert asked[0] == (last,)


def test_claims_that_cannot_be_assigned_are_given_back(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example because the application has locked the row of one of them, whose options cannot be written."""

    def fail(*_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("canceling statement due to lock timeout"))

    worker = make("mail")
    worker.dispatch("mail", 2)
    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(claiming, "with_declared_options", fail)
        worker.claim()
    assert [job.state for job in worker.ledger.list_jobs(10)] == [JobState.WAITING] * 2
    assert worker.claim() == {"mail": 2}
