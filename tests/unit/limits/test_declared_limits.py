"""Limits that code declares, and those that it changes at run time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from spoke_jobs import (
    InvalidLimit,
    Rate,
    RegistrationError,
    Registry,
    pause,
    reset_limit,
    resume,
    set_limit,
    use_runner,
)
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Source
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings
from spoke_jobs.sync.limit_publisher import declare as sync_declares
from spoke_jobs.worker.worker_process import declare_limits as worker_declares

Declare = Callable[[SqlLedger, Registry], None]


@pytest.fixture
def runner(sqlite_ledger_url: str) -> Iterator[LegacyRunner]:
    registry = Registry()
    registry.job("export")(lambda _ctx: None)
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url)), registry)
    with use_runner(runner):
        yield runner
    runner.close()


def limits(runner: LegacyRunner) -> dict[str, JobLimit]:
    return {str(limit.scope): limit for limit in runner.ledger.limits.all()}


def bounds(runner: LegacyRunner) -> dict[str, Bounds]:
    return {scope: limit.bounds for scope, limit in limits(runner).items()}


def registry_with(**scopes: int) -> Registry:
    registry = Registry()
    registry.job("export")(lambda _ctx: None)
    for scope, most in scopes.items():
        registry.limit(f"type:{scope}", max_running=most)
    return registry


class TestInCode:
    @pytest.fixture(params=["worker", "sync"])
    def declare(self, request: pytest.FixtureRequest) -> Declare:
        if request.param == "worker":
            return lambda ledger, registry: worker_declares(ledger, registry, "shop.jobs")
        return lambda ledger, registry: sync_declares(ledger.engine, registry, "shop.jobs")

    def test_each_start_stores_what_the_code_declares_then(self, runner: LegacyRunner, declare: Declare) -> None:
        registry = registry_with(export=2)
        registry.limit("each-queue", rate="5/s", burst=5)
        declare(runner.ledger, registry)
        assert bounds(runner) == {"type:export": Bounds(2), "each-queue": Bounds(rate=Rate(5, 1, 5))}
        assert {limit.source for limit in limits(runner).values()} == {Source.DEFAULT}
        declare(runner.ledger, registry_with(export=3))
        assert bounds(runner) == {"type:export": Bounds(3)}

    def test_a_limit_on_a_type_that_the_application_does_not_declare_is_named_with_the_closest(
        self, runner: LegacyRunner, declare: Declare, caplog: pytest.LogCaptureFixture
    ) -> None:
        declare(runner.ledger, registry_with(export=2, exprt=1))
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "limit('type:exprt')" in warning
        assert "Did you mean 'export'?" in warning
        assert bounds(runner)["type:exprt"] == Bounds(1), "another application may declare the type"

    @pytest.mark.parametrize(
        ("scope", "arguments", "said"),
        [
            ("export", {"max_running": 1}, "type:NAME"),
            ("type:export", {}, "limits nothing"),
            ("type:export", {"rate": "0/s"}, "a rate of 0"),
            ("each-key", {"rate": "5/s"}, "each-queue"),
            ("all", {"max_running": -1}, "-1"),
        ],
    )
    def test_what_cannot_be_honored_is_refused_by_name(
        self, scope: str, arguments: dict[str, object], said: str
    ) -> None:
        with pytest.raises(RegistrationError, match="limit") as caught:
            Registry().limit(scope, **arguments)  # type: ignore[arg-type]
        assert said in str(caught.value)

    def test_a_scope_is_declared_once(self) -> None:
        with pytest.raises(RegistrationError, match="the scope has a limit already"):
            registry_with(export=1).limit("type:export", rate="5/s")


class TestAtRunTime:
    def test_bounds_that_are_not_given_stay(self, runner: LegacyRunner) -> None:
        set_limit("queue:carrier", rate="100/min", burst=10)
        set_limit("queue:carrier", max_running=4)
        assert bounds(runner) == {"queue:carrier": Bounds(4, Rate(100, 60, 10))}
        set_limit("queue:carrier", rate=None)
        assert bounds(runner) == {"queue:carrier": Bounds(4)}
        reset_limit("queue:carrier")
        assert limits(runner) == {}

    def test_a_pause_says_who_why_and_until_when(self, runner: LegacyRunner) -> None:
        until = datetime.now(UTC) + timedelta(hours=2)
        pause("type:export", "closing of the month", until=until, by="ada")
        found = limits(runner)["type:export"].pause
        assert found is not None
        assert (found.reason, found.by, found.until) == ("closing of the month", "ada", until)
        assert resume("type:export", by="ada") is True
        assert resume("type:export") is False
        assert limits(runner) == {}

    @pytest.mark.parametrize(
        "change",
        [
            lambda: set_limit("export", max_running=1),
            lambda: set_limit("each-type", rate="0/s"),
            lambda: set_limit("all", max_running=-1),
            lambda: pause("all", ""),
            lambda: pause("all", "upgrade", until=datetime(2020, 1, 1, tzinfo=UTC)),
            lambda: pause("all", "upgrade", until=datetime(2120, 1, 1)),
            lambda: resume("everything"),
            lambda: reset_limit(""),
        ],
    )
    def test_what_cannot_be_honored_is_refused(self, runner: LegacyRunner, change: Callable[[], object]) -> None:
        with pytest.raises(InvalidLimit):
            change()
        assert limits(runner) == {}

    def test_the_store_says_what_is_shut_now(self, runner: LegacyRunner) -> None:
        pause("type:export", "for a while", until=datetime.now(UTC) + timedelta(hours=1))
        set_limit("queue:slow", max_running=0)
        set_limit("all", max_running=5)
        assert sorted(str(limit.scope) for limit in runner.ledger.limits.shut().limits) == ["queue:slow", "type:export"]
