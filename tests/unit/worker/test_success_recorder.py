"""Successes of an event loop's jobs: recorded in batches, and answered in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Set
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError
from tests.waiting import eventually, patient

from spoke_jobs.model import UNMEASURED
from spoke_jobs.worker.success_recorder import Recorder

LOST = uuid4()


class Ledger:
    """The first batch takes until the test says that it may end."""

    def __init__(self) -> None:
        self.batches: list[Set[UUID]] = []
        self.may_end = threading.Event()
        self.error: Exception | None = None

    def succeed_many(self, results: Mapping[UUID, Any], *_: object) -> Set[UUID]:
        self.batches.append(set(results))
        if len(self.batches) == 1:
            assert self.may_end.wait(patient(30))
        elif self.error is not None:
            raise self.error
        return set(results) - {LOST}


class Loop:
    """Stands for the event loop, which calls what it is given."""

    def __init__(self) -> None:
        self.calls = 0
        self.answers: dict[UUID, bool | Exception] = {}

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls += 1
        call()

    def answered(self, token: UUID) -> Callable[[bool | Exception], None]:
        return lambda answer: self.answers.__setitem__(token, answer)


@pytest.mark.parametrize(
    "error",
    [None, RuntimeError("unexpected"), OperationalError("", {}, Exception("away"))],
    ids=["recorded", "unexpected", "away"],
)
def test_what_ends_during_a_transaction_shares_the_next_one_and_its_answer(error: Exception | None) -> None:
    ledger, loop = Ledger(), Loop()
    ledger.error = error
    recorder = Recorder(ledger, loop.call_soon)  # type: ignore[arg-type]
    first, *rest = tokens = [uuid4(), LOST, *(uuid4() for _ in range(8))]
    recorder.record(first, None, None, UNMEASURED, 0.0, loop.answered(first))
    eventually(lambda: ledger.batches)
    for token in rest:
        recorder.record(token, None, None, UNMEASURED, 0.0, loop.answered(token))
    ledger.may_end.set()
    eventually(lambda: len(loop.answers) == len(tokens))
    assert ledger.batches == [{first}, set(rest)]
    assert loop.calls == 2
    assert loop.answers == {first: True} | {token: error or token != LOST for token in rest}
