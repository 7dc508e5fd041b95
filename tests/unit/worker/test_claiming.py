"""When a worker claims, and how many jobs a claim asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from tests.contract.ledger import new_job
from tests.unit.worker.test_held_back_types import SLOTS, Worker

from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.limits.job_limit import Bounds
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

    rest_due = None

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
    assert claims.due_in() < 0.01


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


@pytest.mark.parametrize(("shares", "waits"), [("a locked queue", "mail"), ("a limit", "crawl")])
def test_jobs_of_one_kind_keep_those_of_the_other_from_no_room_that_they_share(
    make: Callable[..., Worker], shares: str, waits: str
) -> None:
    worker = make("mail", loop_types=("crawl",))
    (others,) = {"mail", "crawl"} - {waits}
    locks = {"queue_name": "bank", "locks_queue": True} if shares == "a locked queue" else {}
    if not locks:
        worker.ledger.limits.set(Scope.parse("all"), lambda _bounds: Bounds(max_running=1))
    worker.ledger.insert(new_job(job_type=others, **locks))
    worker.claim()
    for name in (others, waits, others, others):
        worker.ledger.insert(new_job(job_type=name, priority=9 if name == waits else 0, **locks))
    for _ in range(2):  # the kinds take turns
        if locks:  # jobs without a queue come between
            worker.ledger.insert(new_job(job_type=others))
        worker.claim()
        worker.end_oldest()
        worker.claim()
        if waits in worker.held():
            return
    pytest.fail(f"no {waits} started")


def test_a_kind_whose_claims_fail_does_not_keep_the_other_from_starting(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make("mail", loop_types=("crawl",))
    claim_batch = worker.ledger.claim_batch

    def failing(runner: str, types: tuple[str, ...], *rest: Any) -> Any:
        if types == ("mail",):
            raise OperationalError("SELECT", {}, Exception("integer out of range"))
        return claim_batch(runner, types, *rest)

    monkeypatch.setattr(worker.ledger, "claim_batch", failing)
    worker.dispatch("crawl", 1)
    for _ in range(2):
        with pytest.raises(OperationalError):
            worker.claim()
    assert worker.held() == {"crawl": 1}


def test_what_a_claim_has_left_unseen_is_claimed_as_soon_as_it_can_be(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search from where work was found last does not see urgent jobs. Nothing notifies the worker of them again."""
    now = time.monotonic()
    worker = make("mail")
    claims = worker.supervisor._claiming
    monkeypatch.setattr(claiming, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(MemoryLedger, "rest_due", now + 0.25)
    assert not claims.claim(), "a worker that drains would end"
    assert claims.due_in() == pytest.approx(0.25)
    monkeypatch.setattr(MemoryLedger, "rest_due", None)
    worker.ledger.insert(new_job(job_type="mail"))
    claims.claim()
    assert not worker.held(), "nothing has said that there is work"
    now += 0.26
    claims.claim()
    assert worker.held() == {"mail": 1}
    assert claims.due_in() == math.inf


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
