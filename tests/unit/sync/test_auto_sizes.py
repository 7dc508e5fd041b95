"""Jobs with `resources="auto"` ask for what earlier jobs of their type have used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.unit.sync.engine_writer import loop_on
from tests.unit.sync.fake_cluster import FakeCluster

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptUsage, JobOptions
from spoke_jobs.sync.auto_sizes import KEPT_SECONDS, AutoSizes

MIB = 2**20
AUTO = JobOptions(resources="auto")


def succeed(ledger: SqlLedger, times: int, peak: int) -> None:
    for _ in range(times):
        ledger.insert(new_job())
        claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
        assert claim is not None
        ledger.succeed(None, claim.token, None, None, AttemptUsage(peak * MIB, 300, 1000))


def launched(engine: Engine, ledger: SqlLedger) -> dict[str, Any]:
    """Dispatch a job, let sync launch it, and return the spec of its SpokeJob."""
    ledger.insert(new_job(runner="kubernetes", options=AUTO))
    cluster = FakeCluster()
    loop = loop_on(engine, cluster, lambda: 100.0, patience=0)
    loop.turn()
    loop._outputs.close()
    spec: dict[str, Any] = list(cluster.objects.values())[-1]["spec"]
    return spec


def test_without_enough_history_the_template_decides(engine: Engine, ledger: SqlLedger) -> None:
    succeed(ledger, 4, 200)
    spec = launched(engine, ledger)
    assert "autoRequests" not in spec
    assert "resources" not in spec


def test_with_history_the_spokejob_asks_for_what_would_do(engine: Engine, ledger: SqlLedger) -> None:
    succeed(ledger, 5, 200)
    assert launched(engine, ledger)["autoRequests"] == {"memory": "224Mi", "cpu": "300m"}


def test_the_sizes_of_a_type_are_read_again_after_a_while(engine: Engine, ledger: SqlLedger) -> None:
    now = 0.0
    known = AutoSizes(lambda: now)

    def memory() -> str | None:
        with engine.begin() as connection:
            return known.of(connection, "report").get("memory")

    assert memory() is None
    succeed(ledger, 5, 200)
    assert memory() is None, "it was read a moment ago"
    now = KEPT_SECONDS
    assert memory() == "224Mi"


def test_a_name_with_an_asterisk_gets_no_sizes_of_other_types(engine: Engine, ledger: SqlLedger) -> None:
    """Other code may have written it. As a pattern, it would make sync read the history of all types."""
    succeed(ledger, 5, 200)
    with engine.begin() as connection:
        known = AutoSizes(lambda: 0.0)
        assert (dict(known.of(connection, "rep*")), known.of(connection, "report")["memory"]) == ({}, "224Mi")
