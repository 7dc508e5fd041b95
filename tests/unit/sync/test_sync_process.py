"""What sync says of itself while it tries, and tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from pydantic import SecretStr

from spoke_jobs.ledger.cluster.ended_attempts import EndedAttempt
from spoke_jobs.ledger.cluster.lane_load import LaneLoad
from spoke_jobs.model import AttemptUsage, ClaimFilter, JobOptions
from spoke_jobs.settings import Settings
from spoke_jobs.shared.api_errors import NoAnswer, api_error
from spoke_jobs.sync import sync_process
from spoke_jobs.sync.leader_loop import Intervals
from spoke_jobs.sync.output_keeper import READERS
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.sync_process import Sync
from spoke_jobs.sync.writer import ConnectionLost


class Writer:
    """The database: who leads, by the try; the last word is kept."""

    def __init__(self, *leads: bool | Exception, foreign_holder: str = "") -> None:
        self._leads = list(leads)
        self._foreign_holder = foreign_holder

    def lead(self) -> bool:
        answer = self._leads.pop(0) if len(self._leads) > 1 else self._leads[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def foreign_holder(self) -> str:
        return self._foreign_holder

    def close(self) -> None:
        """Nothing is open."""


class Stop(threading.Event):
    """Set after so many waits, none of which takes any time."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self._left = waits

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        if not self._left:
            self.set()
        return self.is_set()


def roles(
    monkeypatch: pytest.MonkeyPatch, writer: Writer, *terms: Callable[[SyncHealth], None]
) -> tuple[list[str], list[str]]:
    """The roles as each of the terms begins, and as it has ended."""
    begun, ended = [], []
    left = list(terms)

    class LeaderLoop:
        def __init__(self, _writer: Any, _api: Any, health: SyncHealth, _intervals: Intervals, **_: Any) -> None:
            self._health = health

        def serve(self, _stop: threading.Event) -> None:
            begun.append(self._health.role)
            left.pop(0)(self._health)

        def close(self, *, stores: bool) -> None:
            """Nothing is open."""

    class Watched(Stop):
        def wait(self, timeout: float | None = None) -> bool:
            ended.append(sync.health.role)
            return super().wait(timeout)

    monkeypatch.setattr(sync_process, "LeaderLoop", LeaderLoop)
    sync = Sync(cast(Any, writer), cast(Any, None), Intervals())
    sync.run(Watched(20))
    return begun, ended


def away(_: SyncHealth) -> None:
    raise NoAnswer("no answer")


def compares_then_away(health: SyncHealth) -> None:
    health.listed()
    health.compared()
    assert health.role == "active"
    raise NoAnswer("no answer")


def test_a_read_of_output_that_hangs_delays_no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python waits at its exit for threads that are no daemons."""
    hangs, exits, handlers = threading.Event(), [], {}
    reader = threading.Thread(target=hangs.wait, name=f"{READERS}_0")
    sync = MagicMock()
    sync.run = lambda _stop: reader.start()
    monkeypatch.setattr(sync_process, "connect", lambda *_: sync)
    monkeypatch.setattr(sync_process, "SHUTDOWN_SECONDS", 0.01)
    monkeypatch.setattr(sync_process.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(sync_process.os, "_exit", exits.append)
    sync_process.run(cast(Any, None))
    hangs.set()
    reader.join()
    assert exits == [0]
    sync.run = lambda _stop: None
    sync_process.run(cast(Any, None))
    assert exits == [0], "nothing hangs"


def test_a_loop_goes_on_after_an_error_of_the_api_server_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only it has the output of attempts that are being stopped, and knows since when the database has answered."""
    done: list[str] = []
    errors = [NoAnswer("away"), api_error(403, "Forbidden", "no"), ZeroDivisionError(), ConnectionLost("gone")]
    errors.append(NoAnswer("away"))

    class LeaderLoop:
        def __init__(self, *_: Any, **__: Any) -> None:
            done.append("made")

        def serve(self, _stop: threading.Event) -> None:
            if errors:
                done.append(type(errors[0]).__name__)
                raise errors.pop(0)

        def close(self, *, stores: bool) -> None:
            done.append("stored and closed" if stores else "closed")

    monkeypatch.setattr(sync_process, "LeaderLoop", LeaderLoop)
    Sync(cast(Any, Writer(True)), cast(Any, None), Intervals()).run(Stop(20))
    assert done == [
        *("made", "NoAnswer", "Forbidden", "ZeroDivisionError", "stored and closed"),
        *("made", "ConnectionLost", "closed"),
        *("made", "NoAnswer", "stored and closed"),
    ]


def stumbles(_: SyncHealth) -> None:
    raise ZeroDivisionError


def done(_: SyncHealth) -> None:
    """Told to stop."""


def test_who_tries_an_api_server_that_is_away_is_not_active_until_it_has_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, ended = roles(monkeypatch, Writer(True), away, away, compares_then_away, away, done)
    waits = "waiting for the API server"
    assert begun == ["active", waits, waits, waits, waits]
    assert ended == [waits] * 4


def test_who_is_kept_from_the_lock_by_somebody_else_is_no_standby(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(False, False, True, foreign_holder="the database role 'shop_jobs' holds the lock")
    begun, ended = roles(monkeypatch, writer, done)
    assert (begun, ended) == (["active"], ["waiting for the lock"] * 2)
    assert caplog.text.count("the database role 'shop_jobs' holds the lock") == 1


def test_it_waits_for_as_long_as_the_api_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    errors = [api_error(429, "TooManyRequests", "later", "", 40.0), NoAnswer("no answer")]

    class LeaderLoop:
        def __init__(self, *_: Any, **__: Any) -> None:
            """Take what sync gives."""

        def serve(self, _stop: threading.Event) -> None:
            if errors:
                raise errors.pop(0)

        def close(self, *, stores: bool) -> None:
            """Nothing is open."""

    class Waited(Stop):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return super().wait(timeout)

    monkeypatch.setattr(sync_process, "LeaderLoop", LeaderLoop)
    Sync(cast(Any, Writer(True)), cast(Any, None), Intervals()).run(Waited(20))
    asked, own = waits
    assert asked == 40
    assert own is not None
    assert own < 10


def may_not_list(_: SyncHealth) -> None:
    raise api_error(403, "Forbidden", "spokejobs is forbidden: cannot list")


def test_a_refused_listing_is_not_taken_for_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, ended = roles(monkeypatch, Writer(True), away, may_not_list, may_not_list, done)
    assert ended == ["waiting for the API server", *["waiting to list SpokeJobs"] * 2]
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        "the API server is unavailable (no answer); retrying",
        "could not list SpokeJobs (403 Forbidden: spokejobs is forbidden: cannot list); retrying",
    ]


def test_each_new_reason_why_the_database_refuses_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused, wrong = ConnectionLost("connection refused"), ConnectionLost("password authentication failed")
    roles(monkeypatch, Writer(refused, refused, wrong, wrong, refused, True), compares_then_away, done)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        "the database is unavailable (connection refused); retrying",
        "the database is unavailable (password authentication failed); retrying",
        "the API server is unavailable (no answer); retrying",
    ]


def test_a_sync_that_stumbles_at_every_start_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, _ = roles(monkeypatch, Writer(True), stumbles, stumbles, done)
    assert begun == ["active", "restarting", "restarting"]


def test_who_stood_by_is_active_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = roles(monkeypatch, Writer(ConnectionLost("gone"), False, True), done)
    assert ended == ["waiting for the database", "standby"]
    assert begun == ["active"]


def test_of_a_set_of_workers_that_is_asked_for_only_its_jobs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []

    def count(_connection: Any, sets: Any) -> dict[str, LaneLoad]:
        counted.append(sets)
        return {}

    monkeypatch.setattr(sync_process, "lane_loads", count)
    sets = {"small": ClaimFilter(types=("mail",)), "large": ClaimFilter(not_types=("mail",))}
    sync = Sync(MagicMock(), cast(Any, None), Intervals(), worker_sets=sets)
    sync.lane_loads("small")
    sync.lane_loads()
    assert counted == [{"small": sets["small"]}, sets]


@pytest.mark.parametrize(("traces", "found"), [("none", ""), ("joined", "a" * 32), ("linked", "")])
def test_metrics_name_traces_that_attempts_belong_to(monkeypatch: pytest.MonkeyPatch, traces: Any, found: str) -> None:
    monkeypatch.setattr(sync_process, "listen", lambda _engine: None)
    monkeypatch.setattr(sync_process.SpokeJobClient, "connect", lambda *_arguments: MagicMock())
    database = SecretStr("postgresql+psycopg://127.0.0.1:9/none")
    health = sync_process.connect(Settings(database_url=database, namespace="ns", traces=traces)).health
    options = JobOptions(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    health.ended([EndedAttempt("report", "kubernetes", options, AttemptUsage(), run_seconds=2.0)])
    (runs,) = health.attempts.figures().runs.values()
    assert [exemplar.trace_id for exemplar in runs.exemplars.values()] == ([found] if found else [])
