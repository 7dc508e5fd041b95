"""Schedules in the ledger, on both databases: what a tick dispatches, also beside others."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from tests.contract.ledger import LEASE, claim_next, claim_one, new_job, present
from tests.waiting import eventually

from spoke_jobs import Every, Registry
from spoke_jobs.errors import InvalidSchedule, UniquenessConflict
from spoke_jobs.explain.schedules_json import schedule_problems
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.process_actor import process_actor
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.schedules import schedule_rows, tick_statements
from spoke_jobs.ledger.schedules.schedule_rows import STALE_SECONDS, ScheduleRow
from spoke_jobs.ledger.schedules.schedule_states import ScheduleState, state_of
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, job_schedule
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.runners.ticker import Ticker, ticker_of
from spoke_jobs.schedules import occurrences
from spoke_jobs.schedules.occurrences import SkipReason
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.shared.histogram import Histogram

HOUR = timedelta(hours=1)
BOTH = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
"""For one test of each statement. The rules are the same code on both databases."""


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = create_engine(request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_ledger_url"))
    yield engine
    engine.dispose()


class Report(BaseModel):
    day: str = "today"


def declared(*schedules: tuple[str, Any], payload: Any = Report, **options: Any) -> Registry:
    registry = Registry()
    registry.job("report", payload=payload)(lambda _ctx, _payload: None)
    for name, timing in schedules:
        registry.schedule(name, "report", timing, **options)
    return registry


def stored(engine: Engine, name: str, timing: Any = Every(hours=1)) -> None:  # noqa: B008 - it is frozen
    """Store a schedule that a person made, with a payload that some release validates."""
    schedule = declared(payload=None).make_schedule(name, "report", timing, {"day": "x"}, {})
    with engine.begin() as connection:
        schedule_rows.put(connection, "legacy", schedule, "ada")


def tick(engine: Engine, registry: Registry) -> list[JobRequest]:
    """What a process that begins dispatches in its first tick."""
    return ticker_of(SqlLedger(engine), registry, "legacy").tick_if_due()


def row(engine: Engine, name: str) -> ScheduleRow:
    with engine.connect() as connection:
        (found,) = schedule_rows.read_schedules(connection, name)
    return found


def set_back(engine: Engine, name: str, by: timedelta) -> datetime:
    """Let the first occurrence within that time before the next one be due, as if no process had ticked since.

    The jobs of earlier occurrences become a day older, so that these can be dispatched again.
    """
    found = row(engine, name)
    assert found.next_due_at is not None
    begin = found.next_due_at - by - timedelta(microseconds=1)
    earlier = next(found.schedule().timing.between(begin, found.next_due_at))
    change(engine, name, next_due_at=earlier)
    with engine.begin() as connection:
        of_schedule = select(job_request.c.id, job_request.c.scheduled_for).where(job_request.c.schedule == name)
        for job_id, when in connection.execute(of_schedule.order_by(job_request.c.scheduled_for)).all():
            older = update(job_request).where(job_request.c.id == job_id).values(scheduled_for=when - timedelta(days=1))
            connection.execute(older)
    return earlier


def change(engine: Engine, name: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(job_schedule).where(job_schedule.c.name == name).values(values))


def due_times(jobs: Sequence[JobRequest]) -> list[datetime | None]:
    return [job.scheduled_for for job in jobs]


@BOTH
def test_an_occurrence_is_a_job_with_its_due_time_its_payload_and_its_options(engine: Engine) -> None:
    registry = declared(("monday", Every(hours=1)), payload=Report, queue_name="reports", priority=3)
    assert tick(engine, registry) == [], "nothing is due when the schedule is first seen"
    due = set_back(engine, "monday", HOUR)
    (job,) = tick(engine, registry)
    assert (job.schedule, job.scheduled_for, job.job_type) == ("monday", due, "report")
    assert (job.payload, job.queue_name, job.priority, job.state) == ('{"day":"today"}', "reports", 3, JobState.WAITING)
    assert tick(engine, registry) == []
    found = row(engine, "monday")
    assert (found.last_job_id, found.last_due_at, found.next_due_at) == (job.id, due, due + HOUR)
    claim = claim_next(SqlLedger(engine))
    assert claim.job.scheduled_for == due


def test_after_an_hour_without_a_process(engine: Engine) -> None:
    # The rule of grace is tested with a given clock. Here the newest occurrence may be due just now, so grace is 0.
    minutes: dict[str, Sequence[int]] = {"skip": (), "once": (50,), "all": range(0, 60, 10)}
    registry = declared(*((rule, Every(minutes=10, misfire=rule, misfire_grace_seconds=0)) for rule in minutes))
    tick(engine, registry)
    first = {rule: set_back(engine, rule, HOUR) for rule in minutes}
    jobs = tick(engine, registry)
    for rule, late in minutes.items():
        expected = [first[rule] + timedelta(minutes=number) for number in late]
        assert due_times([job for job in jobs if job.schedule == rule]) == expected
        skip = row(engine, rule).last_skip
        assert (skip is None) == (rule == "all")
        assert skip is None or (skip.reason, skip.first) == (SkipReason.MISSED, first[rule])
    assert tick(engine, registry) == []


def test_the_clock_of_a_process_may_be_wrong(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, right = declared(("hourly", Every(hours=1))), time.time
    tick(engine, registry)
    monkeypatch.setattr(time, "time", lambda: right() + 7200)
    assert tick(engine, registry) == [], "the database's time counts"


@BOTH
def test_overlap(engine: Engine) -> None:
    rules = {
        "allow": Every(hours=1),
        "skip": Every(hours=1, overlap="skip"),
        "replace": Every(hours=1, overlap="replace"),
    }
    registry = declared(*rules.items())
    tick(engine, registry)

    def hour() -> dict[str | None, JobRequest]:
        for name in rules:
            set_back(engine, name, HOUR)
        return {job.schedule: job for job in tick(engine, registry)}

    first, second = hour(), hour()
    assert (set(first), set(second)) == ({"allow", "skip", "replace"}, {"allow", "replace"})
    ledger = SqlLedger(engine)
    replaced = present(ledger.get(first["replace"].id))
    assert (replaced.state, replaced.cause) == (JobState.FAILED, "Cancelled")
    assert replaced.result_message == "schedule replace cancelled the job."
    skip = present(row(engine, "skip").last_skip)
    assert (skip.reason, skip.job_id) == (SkipReason.OVERLAP, first["skip"].id)
    ledger.cancel(first["skip"].id)
    assert "skip" in hour(), "once the earlier job has ended"


def test_a_job_is_cancelled_only_if_another_one_replaces_it(engine: Engine) -> None:
    stored(engine, "hourly", Every(hours=1, overlap="replace"))
    set_back(engine, "hourly", HOUR)
    (job,) = tick(engine, declared(payload=Report))
    set_back(engine, "hourly", HOUR)
    assert tick(engine, declared(payload=Strict)) == [], "the payload no longer validates"
    assert row(engine, "hourly").error
    found = present(SqlLedger(engine).get(job.id))
    assert found.state is JobState.WAITING


def test_a_stored_schedule_that_replaces_and_has_a_unique_key_cancels_nothing(engine: Engine) -> None:
    """Such a schedule is refused, but another release may have stored it."""
    with engine.begin() as connection:
        schedule = Schedule("hourly", "report", Every(hours=1, overlap="replace"), {}, options={"unique_key": "k"})
        schedule_rows.put(connection, "legacy", schedule, "ada")
    ledger = SqlLedger(engine)
    job = ledger.insert(new_job(unique_key="k"))
    assert claim_one(ledger, "legacy", ["report"], "worker", LEASE) is not None
    with engine.begin() as connection:
        of_schedule = update(job_request).where(job_request.c.id == job.id)
        connection.execute(of_schedule.values(schedule="hourly", scheduled_for=datetime(2026, 1, 1, tzinfo=UTC)))
    set_back(engine, "hourly", HOUR)
    assert tick(engine, declared()) == []
    found = row(engine, "hourly")
    assert "takes no unique_key" in found.error
    assert found.next_due_at is not None, "it goes on once it is put right"
    running = present(ledger.get(job.id))
    assert running.cancel_requested_at is None


@BOTH
def test_a_unique_key_holds_back_an_occurrence(engine: Engine) -> None:
    registry = declared(("a", Every(hours=1)), ("b", Every(hours=1)), unique_key="k")
    tick(engine, registry)
    for name in "ab":
        set_back(engine, name, HOUR)
    (job,) = tick(engine, registry)
    (other,) = {"a", "b"} - {job.schedule}
    assert other is not None
    skip = present(row(engine, other).last_skip)
    assert (skip.reason, skip.job_id) == (SkipReason.UNIQUE_KEY, job.id)


@BOTH
def test_a_due_time_that_has_a_job_already_is_skipped_and_says_so(engine: Engine) -> None:
    registry = declared(("hourly", Every(hours=1)))
    tick(engine, registry)
    due = set_back(engine, "hourly", HOUR)
    other = SqlLedger(engine).insert(new_job(runner="nobody"))
    with engine.begin() as connection:
        of_other = update(job_request).where(job_request.c.id == other.id)
        connection.execute(of_other.values(schedule="hourly", scheduled_for=due))
    assert tick(engine, registry) == []
    found = row(engine, "hourly")
    assert found.last_skip is not None
    assert (found.last_skip.reason, found.last_skip.first, found.last_skip.job_id) == (SkipReason.TAKEN, due, other.id)
    (problem,) = schedule_problems([found], datetime.now(UTC), 86_400)
    assert f"job {other.id} was dispatched for it before" in problem.text
    assert f"spoke-jobs show {other.id}" in problem.advice


def test_a_job_with_jitter_waits_and_how_late_it_is_dispatched_is_observed(engine: Engine) -> None:
    registry, lag = declared(("spread", Every(hours=1, jitter_seconds=600))), Histogram((60.0, 7200.0))
    tick(engine, registry)
    assert lag.total == 0
    due = set_back(engine, "spread", HOUR)
    (job,) = ticker_of(SqlLedger(engine), registry, "legacy", lag).tick_if_due()
    assert job.run_after is not None
    assert job.scheduled_for == due <= job.run_after <= due + timedelta(seconds=600)
    assert lag.total == pytest.approx((job.created_at - due).total_seconds())
    assert sum(lag.counts) == 1


class Strict(BaseModel):
    day: str = "today"
    colour: str


def test_a_payload_that_no_longer_validates_fails_by_name_once_and_holds_up_no_other(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("broken", "whole"):
        stored(engine, name)
    for turn in range(2):
        for name in ("broken", "whole"):
            set_back(engine, name, HOUR)
        if turn == 0:
            change(engine, "whole", definition=declared(payload=None).make_schedule(
                "whole", "report", Every(hours=1), {"day": "x", "colour": "red"}, {}).to_json())  # fmt: skip
        jobs = tick(engine, declared(payload=Strict))
        assert [job.schedule for job in jobs] == ["whole"]
        found = row(engine, "broken")
        assert "doesn't validate as Strict: colour" in found.error
        assert found.last_skip is not None
        assert found.last_skip.reason is SkipReason.INVALID
        assert found.next_due_at is not None
        assert found.next_due_at > datetime.now(UTC) - timedelta(minutes=1)
    assert [
        record.message.count("schedule broken (report)") for record in caplog.records if record.levelname == "ERROR"
    ] == [1]
    with engine.connect() as connection:
        (recorded,) = audit_events.events(connection, which=audit_events.EventFilter(action="fail schedule"))
    assert recorded.detail.startswith("broken: ")


def test_a_run_of_failures_is_one_skip_which_the_advice_repairs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tick decides on one due time, as if it came before the next one."""

    def decide(timing: Every, due: datetime, now: datetime, unfinished: Sequence[int]) -> occurrences.Decision:
        return occurrences.decide(timing, due, now, unfinished, 1)

    monkeypatch.setattr(tick_statements, "decide", decide)
    stored(engine, "broken", Every(hours=1, misfire="all"))
    first = set_back(engine, "broken", 4 * HOUR)
    assert tick(engine, declared(payload=Strict)) == []
    found = row(engine, "broken")
    assert found.last_skip is not None
    last = first + 3 * HOUR
    assert (found.last_skip.first, found.last_skip.last) == (first, last)
    (problem,) = schedule_problems([found], datetime.now(UTC), 86_400)
    assert f"--from {first.isoformat()} --to {last.isoformat()}" in problem.advice
    shorter = schedule_rows.skip_to_json(replace(found.last_skip, last=last - HOUR))
    for last_due_at, begin in ((first - HOUR, first), (first, last)):
        change(engine, "broken", next_due_at=last, last_skip=shorter, last_due_at=last_due_at)
        assert tick(engine, declared(payload=Strict)) == []
        again = present(row(engine, "broken").last_skip)
        assert (again.first, again.last) == (begin, last), "a job that was dispatched between ends a run"


def test_a_validator_that_raises_anything_fails_only_its_schedule(engine: Engine) -> None:
    stored(engine, "odd")
    set_back(engine, "odd", HOUR)

    def upgrade(_payload: Any, _version: int) -> Any:
        raise KeyError("secret")

    registry = Registry()
    registry.job("report", payload=Report, version=2, upgrade=upgrade)(lambda _ctx, _payload: None)
    assert tick(engine, registry) == []
    assert "KeyError" in row(engine, "odd").error
    assert "secret" not in row(engine, "odd").error


@BOTH
def test_states_are_counted_for_metrics_by_runner(engine: Engine) -> None:
    names = ("well", "paused", "gone", "late", "failing", "over")
    registry = declared(*((name, Every(hours=1)) for name in names))
    tick(engine, registry)
    now = datetime.now(UTC)
    change(engine, "paused", paused_at=now, next_due_at=now - 3 * HOUR)
    change(engine, "gone", served_at=now - timedelta(seconds=STALE_SECONDS + 60), next_due_at=now - 3 * HOUR)
    change(engine, "late", next_due_at=now - HOUR, error="as before")
    change(engine, "failing", error="no such option")
    change(engine, "over", next_due_at=None)
    found = SqlLedger(engine).count_schedules("legacy")
    assert found.states == dict.fromkeys(ScheduleState, 1)
    assert 3600 <= found.oldest_due_seconds < 2 * 3600, "neither the paused one's nor the orphaned one's time"
    listed = {name: state_of(row(engine, name), now) for name in names}
    assert sorted(listed.values()) == sorted(ScheduleState)
    assert listed["late"] == "late"
    none = SqlLedger(engine).count_schedules("kubernetes")
    assert (sum(none.states.values()), none.oldest_due_seconds) == (0, 0.0)


def test_a_schedule_whose_code_is_gone_does_not_fire_and_is_orphaned(engine: Engine) -> None:
    tick(engine, declared(("kept", Every(hours=1)), ("gone", Every(hours=1))))
    for name in ("kept", "gone"):
        set_back(engine, name, HOUR)
        change(engine, name, served_at=datetime.now(UTC) - timedelta(seconds=STALE_SECONDS + 5))
    assert [job.schedule for job in tick(engine, declared(("kept", Every(hours=1))))] == ["kept"]
    now = datetime.now(UTC)
    assert (row(engine, "kept").orphaned(now), row(engine, "gone").orphaned(now)) == (False, True)
    assert [job.schedule for job in tick(engine, declared(("gone", Every(hours=1))))] == ["gone"], "the code is back"
    assert not row(engine, "gone").orphaned(datetime.now(UTC))


def test_two_releases_do_not_take_turns(engine: Engine) -> None:
    old, new = declared(("s", Every(hours=1))), declared(("s", Every(hours=2)))
    now = [0.0]

    def process(registry: Registry) -> Ticker:
        return Ticker(registry, "legacy", engine.connect, engine.begin, clock=lambda: now[0])

    earlier, later = process(old), process(new)
    earlier.tick_if_due()
    later.tick_if_due()  # it begins later: a deployment
    hours = row(engine, "s").definition["timing"]
    assert hours == {"hours": 2}
    for _ in range(3):
        now[0] += 60
        earlier.tick_if_due()
        assert row(engine, "s").definition["timing"] == hours, "the earlier process leaves it to the later one"
        set_back(engine, "s", 2 * HOUR)
        now[0] += 1
        assert earlier.tick_if_due() == []
        assert len(later.tick_if_due()) == 1
    change(engine, "s", served_at=datetime.now(UTC) - timedelta(seconds=STALE_SECONDS + 5))
    now[0] += 60
    earlier.tick_if_due()
    assert row(engine, "s").definition["timing"] == {"hours": 1}, "no process of the later release is left"


def test_other_times_count_from_now_and_other_options_leave_the_next_time(engine: Engine) -> None:
    tick(engine, declared(("s", Every(hours=1))))
    due = set_back(engine, "s", HOUR)
    change(engine, "s", paused_at=datetime.now(UTC))
    tick(engine, declared(("s", Every(hours=1)), priority=5))
    assert row(engine, "s").next_due_at == due
    tick(engine, declared(("s", Every(minutes=30)), priority=5))
    following = present(row(engine, "s").next_due_at)
    assert following > datetime.now(UTC) - timedelta(seconds=5)
    assert row(engine, "s").paused_at is not None, "it stays paused"


@BOTH
def test_paused_resumed_and_removed(engine: Engine) -> None:
    registry = declared(("s", Every(hours=1)))
    tick(engine, registry)
    with engine.begin() as connection:
        paused = schedule_rows.pause(connection, "s", "ada")
    assert paused is not None
    assert paused.paused_by == "ada"
    set_back(engine, "s", HOUR)
    assert tick(engine, registry) == []
    with engine.begin() as connection:
        with pytest.raises(InvalidSchedule, match="remove it there"):
            schedule_rows.remove(connection, "s", "ada")
        resumed = schedule_rows.resume(connection, "s", "ada")
    assert resumed is not None
    assert resumed.next_due_at is not None
    assert resumed.next_due_at > datetime.now(UTC) - timedelta(seconds=5), "what was due in between is left out"
    assert tick(engine, registry) == []
    change(engine, "s", served_at=None)
    with engine.begin() as connection:
        assert schedule_rows.remove(connection, "s", "bob")
        assert not schedule_rows.remove(connection, "s", "bob")
        assert schedule_rows.pause(connection, "s", "bob") is None
        events = audit_events.events(connection)
    assert [(one.action, one.actor) for one in events][:3] == [
        ("remove schedule", "bob"),
        ("resume schedule", "ada"),
        ("pause schedule", "ada"),
    ]
    assert (events[-1].action, events[-1].actor) == ("add schedule", process_actor())
    assert "Every 1 hour" in events[-1].detail


def test_a_schedule_that_another_process_could_not_read_is_due_again_once_it_is_put_again(engine: Engine) -> None:
    """That process may be of another release, or lack the time zone. Nothing but its due time tells."""
    made = declared().make_schedule("s", "report", Every(hours=2), None, {})
    with engine.begin() as connection:
        schedule_rows.put(connection, "legacy", made, "ada")
        connection.exec_driver_sql("UPDATE job_schedule SET next_due_at = NULL, error = 'unknown rule'")
        schedule_rows.put(connection, "legacy", made, "ada", replace=True)
    found = row(engine, "s")
    assert found.next_due_at is not None
    assert found.error == ""


def test_a_key_that_two_transactions_take_at_once_costs_no_due_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = declared(("s", Every(hours=1)), unique_key="import")
    tick(engine, registry)
    due = set_back(engine, "s", HOUR)
    with monkeypatch.context() as patch:

        def conflict(*_: object) -> None:
            raise UniquenessConflict("another transaction takes the unique_key: roll back and dispatch again")

        patch.setattr(tick_statements, "insert_jobs", conflict)
        assert tick(engine, registry) == []
    assert row(engine, "s").next_due_at == due
    assert due_times(tick(engine, registry)) == [due]


def test_no_due_time_is_lost_while_the_table_is_not_as_expected(engine: Engine) -> None:
    registry = declared(("s", Every(hours=1)))
    tick(engine, registry)
    due = set_back(engine, "s", HOUR)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job_request RENAME COLUMN campaign_id TO elsewhere")
    with pytest.raises(DBAPIError):
        tick(engine, registry)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job_request RENAME COLUMN elsewhere TO campaign_id")
    assert due_times(tick(engine, registry)) == [due]


def test_an_unexpected_error_in_one_schedule_holds_up_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = declared(("first", Every(hours=1)), ("odd", Every(hours=1, jitter_seconds=5)), ("last", Every(hours=1)))
    tick(engine, registry)
    for name in ("first", "odd", "last"):
        set_back(engine, name, HOUR)

    def decide(timing: Every, *arguments: Any) -> Any:
        if timing.jitter_seconds:
            raise ZeroDivisionError("a value")
        return occurrences.decide(timing, *arguments)

    monkeypatch.setattr(tick_statements, "decide", decide)
    assert sorted(str(job.schedule) for job in tick(engine, registry)) == ["first", "last"]
    assert row(engine, "odd").error == "unexpected error: ZeroDivisionError"
    assert "unexpected error in one schedule" in caplog.text


@BOTH
def test_a_job_that_the_database_refuses_holds_up_no_other(engine: Engine) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "CREATE TRIGGER theirs BEFORE INSERT ON job_request WHEN NEW.queue_name = 'closed' "
                "BEGIN SELECT RAISE(ABORT, 'the queue is closed'); END"
            )
        else:
            connection.exec_driver_sql("ALTER TABLE job_request ADD CONSTRAINT theirs CHECK (queue_name <> 'closed')")
    registry = declared(("first", Every(hours=1)), ("last", Every(hours=1)))
    registry.schedule("closed", "report", Every(hours=1), queue_name="closed")
    tick(engine, registry)
    for name in ("first", "closed", "last"):
        set_back(engine, name, 3 * HOUR if name == "closed" else HOUR)
    assert sorted(str(job.schedule) for job in tick(engine, registry)) == ["first", "last"]
    found = row(engine, "closed")
    assert "theirs" in found.error or "the queue is closed" in found.error
    assert found.next_due_at is not None
    assert found.next_due_at > datetime.now(UTC) - timedelta(seconds=5), "the due time is skipped, not tried for ever"
    assert found.last_skip is not None
    assert found.last_skip.last == found.next_due_at - HOUR, "all that was due is skipped"


def test_of_two_who_add_a_name_at_once_the_second_is_refused(postgres_ledger_url: str) -> None:
    engine = create_engine(postgres_ledger_url)
    of_ada, of_bob = (declared().make_schedule("s", "report", Every(hours=hours), None, {}) for hours in (1, 2))

    def waits() -> bool:
        locks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with engine.connect() as connection:
            return bool(connection.scalar(text(locks)))

    def add() -> None:
        with engine.begin() as connection:
            schedule_rows.put(connection, "legacy", of_bob, "bob")

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            schedule_rows.put(connection, "legacy", of_ada, "ada")
            second = pool.submit(add)
            eventually(waits, "the second waits for the first")
        with pytest.raises(InvalidSchedule, match="there is a schedule 's' already"):
            second.result()
    assert row(engine, "s").digest == of_ada.digest
    engine.dispose()


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_several_tickers_dispatch_each_occurrence_once(engine: Engine) -> None:
    """Each begins at another time, and some are stopped in the middle of a transaction, as by kill -9."""
    names = [f"s{number}" for number in range(12)]
    registry = declared(*((name, Every(seconds=1, misfire="all")) for name in names))
    tick(engine, registry)
    begins = {name: row(engine, name).next_due_at for name in names}
    stop = threading.Event()
    tickers = 4

    def work(number: int) -> None:
        turn = 0
        while not stop.is_set():
            ticker = ticker_of(SqlLedger(engine), registry, "legacy")
            for _ in range(3):
                turn += 1
                if (turn + number) % 4 == 0:
                    _tick_and_die(engine, registry)
                ticker.tick_if_due()
                stop.wait(min(ticker.due_in(), 0.1))

    with ThreadPoolExecutor(tickers) as pool:
        running = [pool.submit(work, number) for number in range(tickers)]
        eventually(lambda: count(engine) >= 12 * 3, "three seconds of jobs")
        stop.set()
        for each in running:
            each.result()
    with engine.connect() as connection:
        for name in names:
            found = connection.scalars(
                select(job_request.c.scheduled_for).where(job_request.c.schedule == name).order_by(job_request.c.id)
            ).all()
            assert found[0] <= begins[name], "the first tick may dispatch already"
            assert sorted(found) == [found[0] + timedelta(seconds=number) for number in range(len(found))]
            assert row(engine, name).next_due_at == max(found) + timedelta(seconds=1)
            assert row(engine, name).error == "", "no ticker gets in the way of another"
        assert audit_events.events(connection, which=audit_events.EventFilter(action="fail schedule")) == []


def _tick_and_die(engine: Engine, registry: Registry) -> None:
    class Died(Exception):
        pass

    class Dying:
        def __enter__(self) -> Any:
            self.connection = engine.connect()
            self.transaction = self.connection.begin()
            return self.connection

        def __exit__(self, *_: object) -> None:
            self.transaction.rollback()  # what the server does with the transaction of a process that is gone
            self.connection.close()
            raise Died

    ticker = Ticker(registry, "legacy", engine.connect, Dying)
    ticker._next_declaration = float("inf")
    ticker._served = {schedule.digest for schedule in registry.schedules()}
    with contextlib.suppress(Died):
        ticker.tick_if_due()


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(job_request)) or 0
