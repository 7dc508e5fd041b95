"""The extra time of a process that is always too late for the tokens of rates."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field, replace

import pytest
from tests.contract.ledger import LEASE, new_job

from spoke_jobs.execution.start_allowance import StartAllowance
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import Claim

TIME = 0.15
"""What a rate allows."""


def a_claim() -> Claim:
    return Claim(MemoryLedger().insert(new_job()), 1, uuid.uuid4(), LEASE)


@dataclass
class Process:
    """Starts each attempt so many seconds after its claim."""

    needs: float
    now: float = 1000.0
    started: int = 0
    late: int = 0
    allowance: StartAllowance = field(init=False)
    claim: Claim = field(default_factory=a_claim)

    def __post_init__(self) -> None:
        self.allowance = StartAllowance(lambda: self.now)

    def claims(self, count: int = 1, *, at_once: bool = False) -> None:
        for _ in range(count):
            asked_at = self.now
            start_by = self.allowance.start_by(replace(self.claim, asked_at=asked_at, start_by=asked_at + TIME))
            for _ in range(count if at_once else 1):
                self.now = max(self.now, asked_at + self.needs)
                if self.now > start_by:
                    self.late += 1
                    self.allowance.late(start_by, asked_at)
                else:
                    self.started += 1
                    self.allowance.in_time(start_by)
            if at_once:
                return


@pytest.mark.parametrize(("needs", "most"), [(0.2, 5), (1.0, 25), (10.0, 40)])
def test_a_process_that_is_always_late_starts_jobs_after_some_that_were_late(needs: float, most: int) -> None:
    process = Process(needs)
    process.claims(most + 1)
    assert (process.late, process.started) == (most, 1)
    process.claims(1000)
    assert process.started > 850, "it stays able to start"
    assert process.allowance.seconds < 2 * needs


def test_one_that_is_late_now_and_then_gets_no_extra_time() -> None:
    process = Process(0.2)
    for _ in range(20):
        process.needs = 0.2
        process.claims(4)
        process.needs = 0.1
        process.claims()
    assert (process.late, process.allowance.seconds) == (80, 0.0)


def test_one_stop_of_the_process_counts_once_however_many_attempts_it_makes_late() -> None:
    process = Process(5.0)
    for expected in (0.0, 0.0, 0.0, 0.0, 0.1):
        process.claims(100, at_once=True)
        assert process.allowance.seconds == expected
        process.now += 1.0
    assert process.late == 500


def test_claims_from_before_the_extra_time_grew_do_not_count() -> None:
    process = Process(0.0)
    process.now = 1010.0
    for second in range(20):
        process.allowance.late(1005.0, 1000.0 + second / 4)
    assert process.allowance.seconds == 0.1


def test_starts_in_time_take_the_extra_time_back() -> None:
    process = Process(29.0)
    process.claims(50)
    assert process.allowance.seconds == 30.0, "it grows no further"
    process.needs = 0.1
    process.claims(100)
    assert process.allowance.seconds == pytest.approx(30 * 0.99**100)
    process.claims(1000)
    assert process.allowance.seconds == 0.0


def test_jobs_without_a_rate_have_any_time_and_tell_nothing() -> None:
    process = Process(29.0)
    process.claims(10)
    assert process.allowance.start_by(process.claim) == math.inf
    process.allowance.in_time(math.inf)
    assert process.allowance.seconds == 0.2


def test_one_warning_a_minute_says_how_late_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    process = Process(2.0)
    process.claims(20)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in ("1.85 s too late", "0.10 s later", "docs/how-to/limits.md"):
        assert part in record.getMessage()
    assert (vars(record)["late_seconds"], vars(record)["allowance_seconds"]) == (1.85, 0.1)
    process.needs = 60.0
    process.claims(5)
    assert len(caplog.records) == 2
