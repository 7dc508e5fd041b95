"""`spoke-jobs schedules` on an SQLite ledger: what it does, what it prints for programs, and its exit codes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, update
from tests.commands import run_command
from tests.unit.cli.conftest import Run
from typer.testing import Result

from spoke_jobs import Every
from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.rendering.schedule_output import schedule_texts
from spoke_jobs.explain.schedules_json import schedule_problems
from spoke_jobs.explain.words import day_and_time
from spoke_jobs.ledger.audit.audit_events import events
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_schedule
from spoke_jobs.registry import load_app
from spoke_jobs.runners.ticker import ticker_of
from spoke_jobs.schedules.occurrences import Skip, SkipReason

APPLICATION = """
from pydantic import BaseModel
from spoke_jobs import Cron, Every, Registry

registry = Registry()

class Report(BaseModel):
    day: str = "today"

@registry.job("report", payload=Report, schedule=Cron("0 3 * * *", timezone="America/New_York"))
def report(ctx, payload): ...

registry.schedule("often", "report", Every(minutes=10), payload={"day": "now"})
"""


@pytest.fixture
def denver(monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The terminal's time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/Denver")
        time.tzset()
        yield ZoneInfo("America/Denver")
    time.tzset()


@pytest.fixture
def engine(ledger: SqlLedger) -> Engine:
    return ledger.engine


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "app_with_schedules.py").write_text(APPLICATION)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SPOKE_APP", "app_with_schedules:registry")
    yield partial(run, "schedules")
    sys.modules.pop("app_with_schedules", None)


def tick(engine: Engine) -> int:
    return len(ticker_of(SqlLedger(engine), load_app("app_with_schedules:registry"), "legacy").tick_if_due())


def change(engine: Engine, name: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(job_schedule).where(job_schedule.c.name == name).values(values))


def listed(run: Run, *arguments: object) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(run("ls", *arguments, "--json").stdout)["schedules"]}


def test_it_lists_what_is_due_in_words_and_times(engine: Engine, run: Run) -> None:
    assert run("ls").stdout == ""
    tick(engine)
    found = listed(run, "--next", 3)
    assert list(found) == ["often", "report"]
    report = found["report"]
    assert (report["state"], report["origin"], report["job_type"]) == ("active", "code", "report")
    assert (report["when"], report["timezone"]) == ("At 03:00 every day (America/New_York)", "America/New_York")
    times = [datetime.fromisoformat(when) for when in report["next"]]
    assert len(times) == 3
    assert times[0] > datetime.now(UTC)
    assert report["definition"]["payload"] == {"day": "today"}
    (line,) = run("ls", "often").stdout.splitlines()
    assert line.split("\t")[:4] == ["often", "active", "report", "Every 10 minutes"]
    assert line.split("\t")[4].count(",") == 4, "five due times"
    assert "there is no schedule 'oftn'" in run("ls", "oftn", code=3).output


def test_states(engine: Engine, run: Run) -> None:
    tick(engine)
    run("pause", "often", "--as", "ada")
    assert (listed(run)["often"]["state"], listed(run)["often"]["paused_by"]) == ("paused", "ada")
    run("resume", "often")
    change(engine, "often", error="the payload ...")
    assert listed(run)["often"]["state"] == "failing"
    change(engine, "often", served_at=datetime.now(UTC) - timedelta(minutes=4))
    assert listed(run)["often"]["state"] == "orphaned"
    change(engine, "report", definition={"of": "another release"})
    assert listed(run)["report"]["next"] == []
    run("pause", "nothing", code=3)
    run("resume", "nothing", code=3)


def test_a_skipped_due_time_is_explained(engine: Engine, run: Run) -> None:
    run("add", "single", "report", "--every", "1h", "--overlap", "skip")
    job_id = int(run("run-now", "single").stdout.split("\t")[0])
    (row,) = _rows(engine, "single")
    change(engine, "single", next_due_at=row.next_due_at - timedelta(hours=1))
    assert tick(engine) == 0
    skip = listed(run)["single"]["last_skip"]
    assert (skip["reason"], skip["job_id"]) == ("Overlap", job_id)
    assert f"job {job_id} was unfinished" in run("ls", "single").stdout


def _rows(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        return schedule_rows.read_schedules(connection, name)


def test_added_changed_run_and_removed(engine: Engine, run: Run) -> None:
    added = run("add", "night", "report", "--cron", "30 2 * * *", "--timezone", "Asia/Kathmandu", "--payload",
                '{"day": "x"}', "--priority", 4, "--as", "ada")  # fmt: skip
    assert added.stdout.startswith("night\tAt 02:30 every day (Asia/Kathmandu), next at ")
    run("add", "night", "report", "--every", "5m", code=1)
    run("add", "night", "report", "--every", "5m", "--payload", '{"day": "x"}', "--replace", "--as", "ada")
    assert listed(run)["night"]["when"] == "Every 5 minutes"
    job_id, name, state = run("run-now", "night", "--as", "bob").stdout.rstrip("\n").split("\t")
    assert (name, state) == ("report", "waiting")
    job = SqlLedger(engine).get(int(job_id))
    assert job is not None
    assert (job.schedule, job.payload) == ("night", '{"day":"x"}')
    asked = run("rm", "night", code=2).output
    assert "to remove 1 schedule without a question, add --yes" in " ".join(asked.split())
    assert "--dry-run" not in asked, "it has no such option"
    run("rm", "night", "--yes", "--as", "ada")
    run("rm", "night", "--yes", code=3)
    with engine.connect() as connection:
        found = [(one.action, one.actor) for one in reversed(events(connection))]
    assert found == [("add schedule", "ada"), ("change schedule", "ada"), ("run schedule", "bob"),
                     ("remove schedule", "ada")]  # fmt: skip


def test_code_is_changed_in_code(engine: Engine, run: Run) -> None:
    tick(engine)
    assert "declared in code" in run("rm", "often", "--yes", code=1).output
    assert "declared in code" in run("add", "often", "report", "--every", "1h", "--replace", code=1).output


def test_a_schedule_of_the_code_that_no_worker_has_stored_yet_is_not_added(engine: Engine, run: Run) -> None:
    for flags in ((), ("--replace",)):
        refused = run("add", "often", "report", "--every", "1h", *flags, code=1).output
        assert "the schedule 'often' is declared in code: change it there" in refused
        assert "pause" not in refused, "there is nothing to pause yet"
    assert _rows(engine, "often") == []


def test_backfill(engine: Engine, run: Run) -> None:
    run("add", "hourly", "report", "--every", "1h")
    period = ("--from", "2026-03-01T00:00Z", "--to", "2026-03-01T05:00Z")
    assert "would dispatch 6 jobs" in run("backfill", "hourly", *period, "--dry-run").stdout
    assert "--yes" in run("backfill", "hourly", *period, code=2).output
    assert run("backfill", "hourly", *period, "--yes").stdout == "6\tdispatched\n"
    again = run("backfill", "hourly", "--from", "2026-03-01T04:00Z", "--to", "2026-03-01T06:30Z", "--yes")
    assert again.stdout == "1\tdispatched\n"
    assert "2 due times had a job already" in again.stderr
    shown = run("backfill", "hourly", "--from", "2026-03-01T05:00Z", "--to", "2026-03-01T08:00Z", "--dry-run").stdout
    assert shown.splitlines()[1:] == ["2 due times with a job already", "would dispatch 2 jobs"]
    jobs = SqlLedger(engine).list_jobs()
    assert [job.scheduled_for for job in reversed(jobs)] == [
        datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in range(7)
    ]
    assert "in the future" in run("backfill", "hourly", "--from", "2026-03-01T00:00Z", "--to", "+1h", code=2).output
    run("add", "second", "report", "--every", "1s")
    before = run("backfill", "second", "--from", "2026-03-02T00:00Z", "--to", "2026-03-01T00:00Z", code=2)
    assert "nothing is between them" in before.output
    too_many = run("backfill", "second", "--from", "2026-03-01T00:00Z", "--to", "2026-03-02T00:00Z", code=2)
    assert "more than 10,000" in too_many.output
    ever = run("backfill", "second", "--from", "0001-01-01T00:00Z", "--to", "2026-03-02T00:00Z", code=2)
    assert "more than 10,000" in ever.output


def test_only_jobs_that_are_new_count_as_dispatched(engine: Engine, run: Run) -> None:
    run("add", "hourly", "report", "--every", "1h", "--unique-key", "reports")
    filled = run("backfill", "hourly", "--from", "2026-03-01T00:00Z", "--to", "2026-03-01T05:00Z", "--yes")
    assert filled.stdout == "1\tdispatched\n"
    assert "5 due times had a job already, or another job has the schedule's unique_key" in filled.stderr
    ran = run("run-now", "hourly")
    assert ran.stdout == "1\treport\twaiting\n"
    assert "this job has the schedule's unique_key, so no other one was dispatched" in ran.stderr
    with engine.connect() as connection:
        found = [event.detail for event in events(connection) if event.action in ("backfill schedule", "run schedule")]
    assert found == ["hourly: 1 from 2026-03-01T00:00:00+00:00 to 2026-03-01T05:00:00+00:00"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--cron", "0 0 31 2 *"], 1, "never due"),
        (["--every", "1.5s"], 2, "whole seconds"),
        (["--every", "5m", "--timezone", "Europe/Paris"], 2, "an interval has none"),
        (
            ["--cron", "0 6 * * *", "--end", "2020-12-31T00:00Z"],
            1,
            "never due again: At 06:00 every day (UTC) (with end 2",
        ),
        (["--every", "5m", "--end", "2020-12-31T00:00Z"], 1, "never due again: Every 5 minutes (with end 2020-12-31T"),
        ([], 2, "either --cron or --every"),
        (["--every", "5m", "--payload", '{"day": 5}'], 1, "day"),
        (["--every", "5m", "--misfire", "never"], 2, "misfire"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], code: int, message: str) -> None:
    found = run("add", "s", "report", *arguments, code=code).output
    assert message in " ".join(found.split())
    assert listed(run) == {}


def test_times_without_a_job_are_in_the_readers_zone_for_people_and_iso_for_programs(engine: Engine, run: Run) -> None:
    run("add", "skips", "report", "--every", "1h")
    at = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    change(engine, "skips", last_skip=schedule_rows.skip_to_json(Skip(SkipReason.MISSED, at, at)))
    assert "2026-11-30T23:30:00+00:00: no process that dispatches it" in run("ls").stdout
    with engine.connect() as connection:
        rows = [row for row in schedule_rows.read_schedules(connection) if row.name == "skips"]
    shown = "\n".join(schedule_texts(rows, at + timedelta(hours=1), 1, ZoneInfo("America/Denver")))
    assert "skipped  16:30:00: no process that dispatches it" in shown, "it is still that day"
    shown = "\n".join(schedule_texts(rows, at + timedelta(days=1), 1, ZoneInfo("America/Denver")))
    assert "skipped  2026-11-30 16:30:00: no process that dispatches it" in shown


def test_why_names_due_times_without_a_job_and_orphaned_schedules(
    engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, denver: ZoneInfo
) -> None:
    for name in ("skips", "gone", "well"):
        run("add", name, "report", "--every", "1h")
    now = datetime.now(UTC)
    missed = Skip(SkipReason.MISSED, now - timedelta(hours=3), now - timedelta(hours=2))
    change(engine, "skips", last_skip=schedule_rows.skip_to_json(missed))
    change(engine, "gone", served_at=now - timedelta(hours=1))
    monkeypatch.setattr(arguments, "on_a_terminal", lambda: True)
    shown = why().stdout.splitlines()
    assert "schedule gone (report): no process that runs can dispatch its jobs" in "\n".join(shown)
    at = next(number for number, text in enumerate(shown) if text.startswith("schedule skips (report): no job for"))
    first, last = (day_and_time(when, now.astimezone(denver)) for when in (missed.first, missed.last))
    assert shown[at].endswith(
        f"no job for {first} to {last}: no process that dispatches it (a worker, or sync) ran at that time, and its "
        "misfire policy makes up for the last missed time only"
    )
    since, until = missed.first.isoformat(), missed.last.isoformat()
    assert f"→ If needed: `spoke-jobs schedules backfill skips --from {since} --to {until}`." in shown[at + 1]

    monkeypatch.setattr(arguments, "on_a_terminal", lambda: False)
    gone, skips = (text.split("\t") for text in why().stdout.splitlines() if text.startswith("schedule\t"))
    assert (gone[1], gone[4]) == ("orphaned", "")
    assert (skips[1], int(skips[4])) == ("Missed", pytest.approx(3 * 3600, abs=300))
    assert skips[5].startswith(f"schedule skips (report): no job for {first} to {last}: no process")
    assert "backfill skips" in skips[6]

    orphan, second = json.loads(why("--json").stdout)["schedules"]
    assert (orphan["name"], orphan["reason"], orphan["skip"]) == ("gone", "orphaned", None)
    assert (second["name"], second["job_type"], second["reason"]) == ("skips", "report", "Missed")
    assert second["skip"]["last"] == missed.last.isoformat().replace("+00:00", "Z")
    assert "backfill skips" in second["advice"]
    found = [item["name"] for item in json.loads(why("--json", "--failed-within", "1h").stdout)["schedules"]]
    assert found == ["gone"], "the skip is too long ago"


@pytest.mark.parametrize(
    ("timing", "policy"),
    [
        (Every(hours=1, misfire="skip", misfire_grace_seconds=600), "skips what is more than 10 min late"),
        (Every(hours=1, misfire="all", misfire_window_seconds=7200), "skips what is more than 2 h late"),
        (Every(hours=1), "makes up for the last missed time only"),
    ],
)
def test_why_a_missed_job_was_not_dispatched_later(engine: Engine, timing: Every, policy: str, run: Run) -> None:
    run("add", "skips", "report", "--every", "1h")
    now = datetime.now(UTC)
    skip = schedule_rows.skip_to_json(Skip(SkipReason.MISSED, now, now))
    change(engine, "skips", last_skip=skip)
    with engine.connect() as connection:
        (row,) = (row for row in schedule_rows.read_schedules(connection) if row.name == "skips")
    definition = replace(row.schedule(), timing=timing).to_json()
    (problem,) = schedule_problems([replace(row, definition=definition)], now, 3600)
    assert problem.text.endswith(f"ran at that time, and its misfire policy {policy}")


def why(*arguments: str) -> Result:
    result = run_command(["why", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_due_times_are_shown_in_the_schedule_s_zone_and_in_the_reader_s(engine: Engine, run: Run) -> None:
    run("add", "nightly", "report", "--cron", "0 3 * * *", "--timezone", "America/New_York")
    run("add", "universal", "report", "--cron", "30 4 * * *", "--timezone", "UTC")
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    due = {"nightly": datetime(2026, 7, 2, 7, tzinfo=UTC), "universal": datetime(2026, 7, 2, 4, 30, tzinfo=UTC)}
    for name, when in due.items():
        change(engine, name, next_due_at=when, served_at=now, last_due_at=when - timedelta(days=1), last_job_id=7)
    with engine.connect() as connection:
        rows = [row for row in schedule_rows.read_schedules(connection) if row.name in due]
    shown = list(schedule_texts(rows, now, 2, ZoneInfo("Europe/Berlin")))
    nightly, universal = (next(n for n, text in enumerate(shown) if text.startswith(name)) for name in due)
    assert shown[nightly + 3].split("  ")[-1] == "Thu 2026-07-02 03:00:00 EDT = Thu 2026-07-02 09:00:00 CEST"
    assert shown[nightly + 4].split("  ")[-1] == "Fri 2026-07-03 03:00:00 EDT = Fri 2026-07-03 09:00:00 CEST"
    assert "Wed 2026-07-01 03:00:00 EDT = Wed 2026-07-01 09:00:00 CEST: job 7" in shown[nightly + 5]
    assert "Thu 2026-07-02 04:30:00 UTC = Thu 2026-07-02 06:30:00 CEST" in shown[universal + 3]
    (same,) = (text for text in schedule_texts(rows[1:], now, 1, UTC) if text.startswith("  next"))
    assert same.endswith("Thu 2026-07-02 04:30:00 UTC"), "one zone is named once"
