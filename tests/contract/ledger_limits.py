"""What every ledger must do with limits, rates and pauses."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.ledger import LEASE, LedgerSteps, new_job, present
from tests.waiting import eventually

from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.limits.job_limit import Bounds, Rate, Source, parse_scope
from spoke_jobs.limits.limit_file import read_entries
from spoke_jobs.model import Claim, Failure

ALL = parse_scope("all")


def limit(ledger: Ledger, scope: str, max_running: int | None = None, rate: str | None = None, burst: int = 1) -> None:
    bounds = Bounds(max_running, None if rate is None else Rate.parse(rate, burst))
    ledger.limits.set(parse_scope(scope), lambda _old: bounds, "ada")


def claims(ledger: Ledger, limit: int = 30) -> list[Claim]:
    return list(ledger.claim_batch("legacy", ["report", "mail", "other", "ingest.*"], "w", LEASE, limit))


def claimed(ledger: Ledger, limit: int = 30) -> list[int]:
    return [claim.job.id for claim in claims(ledger, limit)]


def claim_more(ledger: Ledger, found: list[int]) -> int:
    found += claimed(ledger)
    return len(found)


COUNTED_AS_ONE = {
    "all": "mail slow csv nobody seven key",
    "type:mail": "mail",
    "type:ingest.*": "csv",
    "queue:slow": "slow",
    "organization:7": "seven",
    "key:twilio": "key",
    "each-type": "mail,csv,slow nobody seven key",
    "each-queue": "slow",
    "each-organization": "seven,mail slow csv key",
}
"""The kinds of jobs of the test below that count toward a limit of each scope; those of each name of the scope."""


class LimitContract(LedgerSteps):
    """Limits, rates and pauses in claims."""

    @pytest.mark.parametrize("scope", COUNTED_AS_ONE)
    def test_a_scope_counts_its_own_jobs(self, ledger: Ledger, scope: str) -> None:
        kinds: dict[str, dict[str, object]] = {
            "mail": {"job_type": "mail"},
            "slow": {"queue_name": "slow"},
            "csv": {"job_type": "ingest.csv"},
            "nobody": {"organization_id": None},
            "seven": {"organization_id": 7},
            "key": {"limit_key": "twilio"},
        }
        names = {ledger.insert(new_job(**kinds[kind])).id: kind for _ in range(4) for kind in kinds}
        limit(ledger, scope, 2)
        started = Counter(names[job_id] for job_id in claimed(ledger))
        counted = [names_.split() for names_ in COUNTED_AS_ONE[scope].split(",")]
        assert [sum(started[name] for name in group) for group in counted] == [2] * len(counted)
        free = kinds.keys() - {name for group in counted for name in group}
        assert {name: started[name] for name in free} == dict.fromkeys(free, 4)

    def test_an_end_of_any_kind_makes_room(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job() for _ in range(5)])
        limit(ledger, "type:report", 1)
        (first,) = claims(ledger)
        assert claims(ledger) == []
        ledger.succeed(None, first.token, None)
        (second,) = claims(ledger)
        assert second.job.id == first.job.id + 1
        ledger.fail(second.token, Failure("JobError", for_good=True), decide=True)
        (third,) = claims(ledger)
        ledger.release(third.token)
        assert claimed(ledger) == [third.job.id]

    def test_a_full_scope_lets_the_jobs_behind_it_pass(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(priority=9) for _ in range(30)])
        others = ledger.insert_many([new_job(job_type="mail") for _ in range(3)])
        limit(ledger, "type:report", 2)
        assert len(claimed(ledger, 4)) == 4
        assert claimed(ledger, 4) == [others[2].id]

    @pytest.mark.parametrize("scope", ["type:ingest.*", "key:twilio"])
    def test_jobs_with_and_without_a_limit_are_claimed_in_one_order(self, ledger: Ledger, scope: str) -> None:
        kinds: dict[str, dict[str, object]] = {
            "type:ingest.*": {"job_type": "ingest.csv"},
            "key:twilio": {"limit_key": "twilio"},
        }
        limit(ledger, scope, 50)
        limit(ledger, "organization:9", 1)
        ledger.insert_many([new_job(), new_job()])
        assert len(claims(ledger)) == 2  # the next claims know the limits
        for number in range(40):
            ledger.insert(new_job(**({} if number % 3 else kinds[scope]), priority=number % 4))
        waiting = sorted(ledger.list_jobs(40), key=lambda job: (-job.priority, job.id))
        found: list[int] = []
        for size in (1, 5, 1, 8, 25):
            more = claimed(ledger, size)
            assert len(more) == size
            found += sorted(more, key=[job.id for job in waiting].index)
        assert found == [job.id for job in waiting]

    def test_room_under_a_limit_is_used_while_there_is_other_work(self, ledger: Ledger) -> None:
        limit(ledger, "organization:7", 1)
        first, second = ledger.insert_many([new_job(organization_id=7, priority=9) for _ in range(2)])
        ledger.insert_many([new_job() for _ in range(900)])
        running = claims(ledger, 2)
        assert running[0].job.id == first.id
        assert second.id not in claimed(ledger, 2)
        ledger.succeed(None, running[0].token, None)
        eventually(lambda: second.id in claimed(ledger, 2))

    def test_a_limit_that_is_raised_lowered_and_removed(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job() for _ in range(9)])
        limit(ledger, "type:report", 2)
        assert len(claims(ledger)) == 2
        limit(ledger, "type:report", 5)
        running = claims(ledger)
        assert len(running) == 3
        limit(ledger, "type:report", 0)
        ledger.succeed(None, running[0].token, None)
        assert claims(ledger) == []
        ledger.limits.reset(parse_scope("type:report"))
        assert len(claims(ledger)) == 4
        assert list(ledger.limits.all()) == []

    @pytest.mark.parametrize("scope", ["all", "queue:q", "each-type"])
    def test_a_paused_scope_starts_nothing_and_what_runs_goes_on(self, ledger: Ledger, scope: str) -> None:
        ledger.insert_many([new_job(queue_name="q") for _ in range(3)])
        (running,) = claims(ledger, 1)
        other = ledger.insert(new_job(job_type="mail", organization_id=None))
        paused = ledger.limits.pause(parse_scope(scope), "the carrier is down", "ada")
        assert claimed(ledger) == ([] if scope in ("all", "each-type") else [other.id])
        assert paused.pause is not None
        assert (paused.pause.reason, paused.pause.by) == ("the carrier is down", "ada")
        ledger.succeed(None, running.token, "done")
        assert ledger.limits.resume(parse_scope(scope))
        assert not ledger.limits.resume(parse_scope(scope))
        assert len(claims(ledger)) >= 2

    def test_a_pause_ends_by_itself(self, ledger: Ledger) -> None:
        ledger.insert(new_job())
        until = datetime.now(UTC) + timedelta(seconds=0.3)
        ledger.limits.pause(ALL, "upgrade", until=until)
        found = claims(ledger)
        assert not found or datetime.now(UTC) >= until  # on a busy machine the claim may take as long
        assert found or eventually(lambda: len(claims(ledger)) == 1)

    def test_a_pause_keeps_the_limit_and_a_reset_keeps_the_pause(self, ledger: Ledger) -> None:
        limit(ledger, "all", 3)
        ledger.limits.pause(ALL, "upgrade")
        (both,) = ledger.limits.all()
        assert (both.bounds, both.pause and both.pause.reason) == (Bounds(3), "upgrade")
        left = present(ledger.limits.reset(ALL))
        assert (left.bounds, left.pause and left.pause.reason) == (Bounds(), "upgrade")
        ledger.limits.resume(ALL)
        assert list(ledger.limits.all()) == []

    def test_a_rate_gives_a_burst_and_then_a_token_each_interval(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job() for _ in range(12)] + [new_job(job_type="mail")])
        limit(ledger, "type:report", rate="20/s", burst=3)
        began = datetime.now(UTC)
        first = claims(ledger)
        assert [claim.job.job_type for claim in first].count("report") == 3
        assert [claim.job.job_type for claim in first].count("mail") == 1
        wait = present(ledger.limits.next_token_seconds)
        assert 0 < wait <= 0.05
        more: list[int] = []
        eventually(lambda: claim_more(ledger, more) >= 9)
        assert (datetime.now(UTC) - began).total_seconds() >= 9 / 20 - 0.01

    def test_an_attempt_of_a_rate_is_to_start_soon_after_the_claim_and_any_other_when_it_likes(
        self, ledger: Ledger
    ) -> None:
        ledger.insert_many([new_job(), new_job(job_type="mail"), new_job(job_type="other")])
        limit(ledger, "type:report", 3, rate="1/h", burst=2)
        limit(ledger, "type:other", 3)
        before = time.monotonic()
        start_by = {claim.job.job_type: claim.start_by for claim in claims(ledger)}
        assert before <= start_by.pop("report") - Rate.parse("1/h").start_seconds <= time.monotonic()
        assert start_by == {"mail": math.inf, "other": math.inf}

    @pytest.mark.parametrize(
        ("scope", "names"),
        [
            ("each-type", [{"job_type": "mail"}, {"job_type": "ingest.csv"}, {"job_type": "report"}]),
            ("each-queue", [{"queue_name": "slow"}, {"queue_name": "quick"}, {"queue_name": "ä"}]),
            ("each-organization", [{"organization_id": 7}, {"organization_id": 8}, {"organization_id": 0}]),
        ],
    )
    def test_each_queue_for_example_has_tokens_of_its_own(
        self, ledger: Ledger, scope: str, names: list[dict[str, object]]
    ) -> None:
        limit(ledger, scope, rate="1/h", burst=2)
        if scope != "each-type":
            ledger.insert_many([new_job(queue_name="", organization_id=None)] * 5)
            assert len(claimed(ledger)) == 5, "they have none, and take no token"
        first, second, third = ([new_job(**name) for _ in range(40)] for name in names)
        ledger.insert_many(first)
        assert len(claimed(ledger)) == 2
        ledger.insert_many(second[:3])
        assert len(claimed(ledger, 5)) == 2, "those that have no token hold up no others, however many they are"
        assert claimed(ledger) == []
        wait = present(ledger.limits.next_token_seconds)
        assert 3500 < wait <= 3600
        ledger.insert_many(third[:2])
        assert len(claimed(ledger)) == 2
        assert claimed(ledger) == []

    def test_tokens_of_each_queue_come_back_in_time(self, ledger: Ledger) -> None:
        limit(ledger, "each-queue", rate="20/s", burst=3)
        ledger.insert_many([new_job(queue_name=name) for name in ("slow", "quick") for _ in range(6)])
        began = datetime.now(UTC)
        more: list[int] = []
        assert claim_more(ledger, more) == 6
        eventually(lambda: claim_more(ledger, more) == 12)
        assert (datetime.now(UTC) - began).total_seconds() >= 3 / 20 - 0.01

    def test_a_changed_rate_of_each_queue_keeps_what_was_used_and_a_removed_one_does_not(self, ledger: Ledger) -> None:
        limit(ledger, "each-queue", rate="1/h", burst=2)
        ledger.insert_many([new_job(queue_name=name) for name in ("slow", "quick") for _ in range(4)])
        assert len(claimed(ledger)) == 4
        limit(ledger, "each-queue", max_running=9, rate="2/h", burst=2)
        assert claimed(ledger) == []
        limit(ledger, "each-queue", max_running=9)
        limit(ledger, "each-queue", rate="1/h")
        assert len(claimed(ledger)) == 2
        assert ledger.limits.reset(parse_scope("each-queue")) is None
        limit(ledger, "each-queue", rate="1/h")
        assert len(claimed(ledger)) == 2, "it is a new limit"

    @pytest.mark.parametrize(("before", "after", "burst"), [("1/h", "1/min", 1), ("1/min", "1/min", 5)])
    def test_a_much_raised_rate_of_each_queue_holds_from_the_first_claim(
        self, ledger: Ledger, before: str, after: str, burst: int
    ) -> None:
        limit(ledger, "each-queue", rate=before, burst=20)
        ledger.insert_many([new_job(queue_name=name) for name in ("slow", "quick") for _ in range(30)])
        assert len(claims(ledger, 60)) == 40
        limit(ledger, "each-queue", rate=after, burst=burst)
        ledger.insert_many([new_job(queue_name="late") for _ in range(30)])
        found = Counter(claim.job.queue_name for _ in range(4) for claim in claims(ledger))
        assert found["late"] == burst
        assert max(found["slow"], found["quick"]) <= 1, "of what they had used, one token is forgiven"

    def test_a_burst_of_many_years_stops_no_claim(self, ledger: Ledger) -> None:
        limit(ledger, "each-queue", rate="1/604800s", burst=1_000_000)
        ledger.insert_many([new_job(queue_name=name) for name in ("slow", "quick")])
        assert [len(claimed(ledger, 1)) for _ in range(3)] == [1, 1, 0]

    def test_a_default_yields_to_what_people_set_until_they_reset_it(self, ledger: Ledger) -> None:
        scope = parse_scope("type:report")
        ledger.limits.declare({scope: Bounds(2), ALL: Bounds(9)}, "shop.jobs")
        assert [(str(item.scope), item.bounds, item.source) for item in ledger.limits.all()] == [
            ("all", Bounds(9), Source.DEFAULT),
            ("type:report", Bounds(2), Source.DEFAULT),
        ]
        limit(ledger, "type:report", 5)
        ledger.limits.declare({scope: Bounds(3)}, "shop.jobs")  # a deploy
        (kept,) = ledger.limits.all()
        assert (kept.bounds, kept.source, kept.default) == (Bounds(5), Source.RUNTIME, Bounds(3))
        left = present(ledger.limits.reset(scope))
        assert (left.bounds, left.source) == (Bounds(3), Source.DEFAULT)
        ledger.limits.declare({}, "another.app")
        assert len(ledger.limits.all()) == 1
        ledger.limits.declare({}, "shop.jobs")
        assert list(ledger.limits.all()) == []

    def test_a_file_wins_over_the_code_and_is_pruned(self, ledger: Ledger) -> None:
        def state() -> dict[str, str]:
            return {str(item.scope): str(item.bounds) for item in ledger.limits.all()}

        ledger.limits.declare({parse_scope("type:mail"): Bounds(1)}, "shop")
        entries = read_entries([{"scope": "type:mail", "max_running": 2}, {"scope": "queue:slow", "paused": "upgrade"}])
        assert [str(change) for change in ledger.limits.apply(entries, "ada")] == ["max_running 2", "paused: upgrade"]
        assert ledger.limits.apply(entries, "ada") == []
        ledger.limits.declare({parse_scope("type:mail"): Bounds(1)}, "shop")
        assert state() == {"queue:slow": "no bounds", "type:mail": "max_running 2"}
        ledger.limits.resume(parse_scope("queue:slow"))
        (change,) = ledger.limits.apply([], "ada", prune=True)
        assert str(change) == "max_running 1, as the code declares"
        assert state() == {"type:mail": "max_running 1"}, "at once, and not when a worker starts"
        ledger.limits.declare({}, "shop")
        assert state() == {}

    def test_bounds_that_cannot_be_kept_are_refused_and_change_nothing(self, ledger: Ledger) -> None:
        limit(ledger, "each-queue", 2)
        with pytest.raises(InvalidLimit, match="a rate of 0 can't be kept"):
            ledger.limits.set(parse_scope("each-queue"), lambda old: replace(old, rate=Rate(0)))
        with pytest.raises(InvalidLimit, match="which is over"):
            ledger.limits.pause(ALL, "upgrade", until=datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(InvalidLimit, match="without a time zone"):
            ledger.limits.pause(ALL, "upgrade", until=datetime(2099, 1, 1))
        with pytest.raises(InvalidLimit, match="reason is '  '"):
            ledger.limits.pause(ALL, "  ")
        (kept,) = ledger.limits.all()
        assert (kept.scope, kept.bounds) == (Scope.parse("each-queue"), Bounds(2))
