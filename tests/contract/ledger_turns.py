"""How organizations take turns in the claims of every ledger."""

from __future__ import annotations

import pytest
from tests.contract.ledger import LEASE, LedgerSteps, new_job

from spoke_jobs.ledger.claims import claim_turns, turn_search
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import Claim


def dispatched(ledger: Ledger, organization: int | None, count: int, **changes: object) -> list[int]:
    jobs = ledger.insert_many([new_job(organization_id=organization, **changes) for _ in range(count)])
    return [job.id for job in jobs]


def claims(ledger: Ledger, limit: int) -> list[Claim]:
    return list(ledger.claim_batch("legacy", ["report", "mail"], "w", LEASE, limit))


def organizations(claimed: list[Claim]) -> list[int | None]:
    return [claim.job.organization_id for claim in claimed]


def run(ledger: Ledger, jobs: int, at_once: int) -> list[int | None]:
    """Run so many jobs, some at once. Return their organizations, in the order in which they started."""
    started: list[int | None] = []
    while len(started) < jobs:
        claimed = claims(ledger, min(at_once, jobs - len(started)))
        assert claimed
        started += organizations(claimed)
        ledger.succeed_many({claim.token: None for claim in claimed})
    return started


in_strict_turns = pytest.mark.usefixtures("looks_are_for_free")


class TurnContract(LedgerSteps):
    """Turns among organizations."""

    @pytest.fixture
    def looks_are_for_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a busy machine, jobs are claimed by age for a while after a slow look."""
        monkeypatch.setattr(claim_turns, "_TIMES", 0)
        monkeypatch.setattr(turn_search, "_TIMES", 0)

    @in_strict_turns
    def test_an_organization_with_many_jobs_lets_those_of_others_pass(self, ledger: Ledger) -> None:
        dispatched(ledger, 1, 300)
        dispatched(ledger, 2, 10)
        assert run(ledger, 8, 1) + run(ledger, 12, 4) == [1, 2] * 10

    @in_strict_turns
    @pytest.mark.parametrize(("many", "few"), [(None, 5), (2**31 - 1, None)])
    def test_the_jobs_without_an_organization_take_turns_as_those_of_one(
        self, ledger: Ledger, many: int | None, few: int | None
    ) -> None:
        dispatched(ledger, many, 60)
        dispatched(ledger, few, 3)
        assert run(ledger, 8, 2) == [many, few] * 3 + [many] * 2

    @in_strict_turns
    def test_the_organization_with_the_fewest_running_jobs_is_next(self, ledger: Ledger) -> None:
        dispatched(ledger, 1, 3, priority=9)
        dispatched(ledger, 1, 5)
        dispatched(ledger, 2, 5)
        assert organizations(claims(ledger, 3)) == [1, 1, 1]
        assert organizations(claims(ledger, 4)) == [2, 2, 2, 1]

    @in_strict_turns
    def test_priority_counts_before_turns(self, ledger: Ledger) -> None:
        dispatched(ledger, 1, 4, priority=1)
        dispatched(ledger, 2, 3)
        dispatched(ledger, 3, 1, priority=1)
        assert organizations(claims(ledger, 6)) == [1, 3, 1, 1, 1, 2]

    @in_strict_turns
    def test_an_organizations_jobs_start_by_priority_then_by_age(self, ledger: Ledger) -> None:
        old = dispatched(ledger, 1, 2)
        urgent = dispatched(ledger, 1, 2, priority=5)
        dispatched(ledger, 2, 20, priority=5)
        found = [claim.job.id for claim in claims(ledger, 8) if claim.job.organization_id == 1]
        found += [claim.job.id for claim in claims(ledger, 40) if claim.job.organization_id == 1]
        assert found == urgent + old

    @in_strict_turns
    def test_a_locked_queue_of_one_organization_lets_others_pass(self, ledger: Ledger) -> None:
        first, *_ = dispatched(ledger, 1, 80, queue_name="q", locks_queue=True)
        others = dispatched(ledger, 2, 3)
        assert sorted(claim.job.id for claim in claims(ledger, 4)) == sorted([first, *others])
        assert claims(ledger, 4) == []

    @in_strict_turns
    @pytest.mark.parametrize(("scope", "most"), [("organization:99", 1), ("each-organization", 1), ("all", 2)])
    def test_turns_are_taken_under_limits_too(self, ledger: Ledger, scope: str, most: int) -> None:
        dispatched(ledger, 1, 100)
        dispatched(ledger, 2, 6)
        ledger.limits.set(parse_scope(scope), lambda _old: Bounds(most))
        started = run(ledger, 14, 2)
        assert started.count(2) == 6
        assert started.count(1) == 8

    @in_strict_turns
    @pytest.mark.parametrize("scope", ["all", "type:report"])
    def test_where_a_limit_is_full_each_end_makes_room_for_the_next_turn(self, ledger: Ledger, scope: str) -> None:
        dispatched(ledger, 1, 60)
        dispatched(ledger, 2, 5)
        ledger.limits.set(parse_scope(scope), lambda _old: Bounds(2))
        running = claims(ledger, 8)
        started = organizations(running)
        while len(started) < 12:
            ledger.succeed(None, running.pop(0).token, None)
            (more,) = claims(ledger, 8)
            running.append(more)
            started.append(more.job.organization_id)
        assert started == [1, 2] * 5 + [1, 1]

    @in_strict_turns
    def test_each_job_is_claimed_once_and_as_many_as_there_is_room_for(self, ledger: Ledger) -> None:
        expected = [
            job_id
            for number in range(40)
            for job_id in dispatched(
                ledger,
                (None, 1, 1, 1, 1, 2, 3)[number % 7],
                1 + number % 3,
                priority=number % 2,
                job_type=("report", "mail")[number % 3 == 0],
            )
        ]
        found: list[int] = []
        for size in (1, 9, 2, 30, 1, 64, 9):
            left = len(expected) - len(found)
            claimed = claims(ledger, size)
            assert len(claimed) == min(size, left)
            found += [claim.job.id for claim in claimed]
        assert sorted(found) == sorted(expected)
        assert len(set(found)) == len(found)
