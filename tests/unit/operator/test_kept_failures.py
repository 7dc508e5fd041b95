"""The Jobs of failed attempts stay for people to look at, for a time and in a bounded number, and hold no place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.operator.simulation import Simulation, start

from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import KeptJob
from spoke_jobs_operator.shell.reconciling.kept_failures import KeptFailures

RETRIES = {"retry": {"backoffSeconds": 1, "backoffMaxSeconds": 1, "jitter": 0}}


def jobs(simulation: Simulation) -> set[str]:
    """The numbers of the attempts whose Jobs are there."""
    return {job["metadata"]["name"].rpartition("-")[2] for job in simulation.world.jobs}


def fail(simulation: Simulation, code: int = 10) -> None:
    """Let an attempt start and fail, and the next one begin."""
    simulation.cluster()
    simulation.cluster(code)
    simulation.pass_time(1.5)


@pytest.mark.parametrize("restarts", [False, True])
def test_the_job_of_a_failed_attempt_outlives_that_of_a_successful_one(restarts: bool) -> None:
    s = start(**RETRIES)
    fail(s)
    s.cluster()
    s.cluster(0)
    s.world.set_ledger("Succeeded")
    s.pass_time(30)
    assert jobs(s) == {"1", "2"}
    if restarts:
        s.restart()
        s.settle()
    s.pass_time(31)
    assert jobs(s) == {"1"}, "the other succeeded, and 60 s are over"
    s.pass_time(31)
    assert jobs(s) == set()


def test_of_more_than_are_kept_the_oldest_goes_first_after_the_time_in_which_its_output_is_read() -> None:
    s = start(**RETRIES)
    for _ in range(3):
        fail(s)
    assert s.world.status["outcome"] == "Failed"
    assert jobs(s) == {"1", "2", "3"}
    s.pass_time(61)
    assert jobs(s) == {"2", "3"}


def test_a_new_leader_deletes_what_is_too_much() -> None:
    s = start(**RETRIES)
    for _ in range(2):
        fail(s)
    s.cluster()
    s.world.kubelet(10)
    s.restart()
    s.settle()
    s.cluster()
    s.pass_time(61)
    assert jobs(s) == {"2", "3"}


@pytest.mark.parametrize("code", [12])
def test_what_did_not_fail_is_not_kept_for_longer(code: int) -> None:
    s = start(suspend=False)
    s.cluster()
    s.cluster(code)
    s.pass_time(61)
    assert "1" not in jobs(s)


def test_what_still_runs_of_a_failed_attempt_is_stopped_and_not_kept() -> None:
    s = start(**RETRIES)
    s.world.sidecars = True
    s.cluster()
    s.cluster(11)
    s.pass_time(11)
    s.cluster()
    s.cluster()
    assert jobs(s) == set()
    assert s.world.live_pods() == []


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def kept(uid: str, age: float) -> KeptJob:
    return KeptJob(uid, NOW - timedelta(seconds=age))


def test_each_namespace_has_its_own_bound() -> None:
    woken: list[Key] = []
    failures = KeptFailures(2, woken.append)
    a, b, c, other = Key("ns", "a"), Key("ns", "b"), Key("ns", "c"), Key("other", "d")
    failures.update(a, (kept("a", 30),))
    failures.update(b, (kept("b", 50),))
    failures.update(other, (kept("d", 90),))
    assert woken == []
    failures.update(c, (kept("c", 10),))
    assert woken == [b]
    assert failures.surplus(b) == {"b"}
    assert failures.surplus(a) == failures.surplus(c) == failures.surplus(other) == frozenset()
    failures.update(b, ())
    assert failures.surplus(b) == frozenset()


def test_one_job_with_many_failures_loses_its_oldest() -> None:
    woken: list[Key] = []
    failures = KeptFailures(1, woken.append)
    a = Key("ns", "a")
    failures.update(a, (kept("1", 30), kept("2", 20), kept("3", 10)))
    assert woken == [a]
    assert failures.surplus(a) == {"1", "2"}


def test_none_may_be_kept() -> None:
    woken: list[Key] = []
    failures = KeptFailures(0, woken.append)
    failures.update(Key("ns", "a"), (kept("1", 30),))
    assert failures.surplus(Key("ns", "a")) == {"1"}
