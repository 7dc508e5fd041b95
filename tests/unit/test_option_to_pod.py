"""An option on its way: from a dispatch to the row, the SpokeJob and the pod."""

from __future__ import annotations

from pydantic import SecretStr
from tests.unit.operator.core.test_build_job import template

from spoke_jobs import JobData, Registry
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings
from spoke_jobs_operator.core.build_job import build_job

METADATA = {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}


def test_a_runtime_class_reaches_the_pod(sqlite_ledger_url: str) -> None:
    registry = Registry()
    registry.job("declared", runtime_class="kata")(lambda _ctx: None)
    registry.job("plain")(lambda _ctx: None)
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url)), registry)
    given = {}
    for name, data in {
        "declared": JobData("declared"),
        "dispatched": JobData("declared", runtime_class="gvisor"),
        "neither": JobData("plain"),
    }.items():
        row = runner.ledger.get(runner.dispatch_job(data).id)
        assert row is not None
        body = spokejob(row, "jobs")
        body["metadata"] |= METADATA
        pod = build_job(SpokeJob.from_object(body), template(), 1)["spec"]["template"]["spec"]
        given[name] = pod.get("runtimeClassName")
    runner.close()
    assert given == {"declared": "kata", "dispatched": "gvisor", "neither": None}
