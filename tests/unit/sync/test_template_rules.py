"""A row whose type may not use its PodTemplate never becomes a SpokeJob, and holds up no other."""

from __future__ import annotations

import logging
from collections import Counter
from typing import cast

import pytest
from sqlalchemy import Engine, update
from tests.contract.ledger import new_job
from tests.unit.sync.engine_writer import loop_on
from tests.unit.sync.fake_cluster import FakeCluster
from tests.unit.sync.making import LONG_AGO

from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.job_options import JobOptions
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import JobState
from spoke_jobs.shared.api_errors import Forbidden
from spoke_jobs.sync.template_rules import READ_AGAIN_SECONDS, TemplateRules


class Guarded(FakeCluster):
    """The PodTemplate `privileged` is for reports."""

    def __init__(self) -> None:
        super().__init__()
        self.types = "report"
        self.reads: Counter[str] = Counter()
        self.may_read = True

    def pod_template(self, name: str) -> Body | None:
        self.reads[name] += 1
        if not self.may_read:
            raise Forbidden(403, "Forbidden", "podtemplates is forbidden")
        return (
            {"metadata": {"annotations": {"jobs.spoke.dev/allowed-types": self.types}}} if name != "missing" else None
        )


def test_a_forged_row_is_not_launched_and_ends(engine: Engine) -> None:
    ledger, cluster, now = SqlLedger(engine), Guarded(), 100.0
    options = JobOptions(pod_template="privileged")
    forged = ledger.insert(new_job(runner="kubernetes", job_type="evil", options=options))
    good = ledger.insert(new_job(runner="kubernetes", job_type="report", options=options))
    loop = loop_on(engine, cluster, lambda: now, launch=1, progress=1e9, compare=1e9, prune=1e9, patience=0)
    loop.turn()
    assert [body["spec"]["jobType"] for body in cluster.objects.values()] == ["report"]
    assert ledger.get(good.id).submitted_at is not None  # type: ignore[union-attr]
    waits = ledger.get(forged.id)
    assert waits is not None
    assert waits.state is JobState.WAITING
    with engine.begin() as connection:
        long_ago = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
        connection.execute(update(job_request).where(job_request.c.id == forged.id).values(**long_ago))
    now += 3600
    loop.turn()
    ended = ledger.get(forged.id)
    assert ended is not None
    assert (ended.state, ended.cause) == (JobState.FAILED, "TypeNotAllowed")
    assert len(cluster.objects) == 1
    loop._outputs.close()


def rules(cluster: Guarded, clock: list[float]) -> TemplateRules:
    return TemplateRules(cast(SpokeJobClient, cluster), lambda: clock[0])


def test_a_template_is_read_once_for_many_rows_and_again_when_it_may_have_changed() -> None:
    cluster, clock = Guarded(), [0.0]
    read = rules(cluster, clock)
    assert [read.allow("privileged", "evil") for _ in range(1000)] == [False] * 1000
    assert cluster.reads["privileged"] == 1
    cluster.types = "evil"
    clock[0] = READ_AGAIN_SECONDS
    assert read.allow("privileged", "evil")


def test_a_list_that_the_operator_does_not_read_allows_none() -> None:
    cluster, clock = Guarded(), [0.0]
    cluster.types = "report," + "x" * 5000
    assert not rules(cluster, clock).allow("privileged", "report")


def test_names_of_forged_rows_take_no_memory_and_are_no_paths() -> None:
    cluster = Guarded()
    read = rules(cluster, [0.0])
    assert read.allow("../secrets/database", "evil"), "the API server refuses the SpokeJob"
    assert not cluster.reads
    for number in range(5000):
        read.allow(f"forged-{number}", "evil")
    assert len(read._known) <= 1000


def test_what_cannot_be_told_is_left_to_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    """A Role of an earlier release lacks the right; that stops no job."""
    cluster, clock = Guarded(), [0.0]
    read = rules(cluster, clock)
    assert read.allow("missing", "evil")
    cluster.may_read = False
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock[0] += READ_AGAIN_SECONDS
            assert read.allow("privileged", "evil")
    assert len(caplog.records) == 1
