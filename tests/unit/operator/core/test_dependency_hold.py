"""Admission while a dependency is away: held after a few ends, probed by one, opened gradually."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.causes import Cause
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.dependency_hold import DependencyHolds
from spoke_jobs_operator.core.obstacles.probing import ENOUGH

AWAY = Cause.DATABASE_UNREACHABLE


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def key(number: int, namespace: str = "ns") -> Key:
    return Key(namespace, f"job-{number}")


def held(ends: int = 3) -> DependencyHolds:
    holds = DependencyHolds()
    for number in range(ends):
        holds.ended(key(number), AWAY, NOW)
    return holds


def starts(holds: DependencyHolds, number: int, seconds: float) -> bool:
    """Whether a job may start then; it does."""
    if holds.why("ns", at(seconds)) is not None:
        return False
    holds.admit(key(number), at(seconds))
    return True


def ends(holds: DependencyHolds, number: int, cause: str, seconds: float) -> None:
    holds.ended(key(number), cause, at(seconds))
    holds.release(key(number))


def test_three_ends_within_a_minute_hold_the_namespace_alone() -> None:
    holds = held(2)
    assert holds.why("ns", NOW) is None
    holds.ended(key(2), AWAY, at(59))
    wait = holds.why("ns", at(60))
    assert wait
    assert (wait.code, wait.since) == ("DatabaseAway", at(59))
    assert holds.why("other", at(60)) is None


def test_ends_of_other_causes_or_long_ago_hold_nothing() -> None:
    holds = held(2)
    for number in range(5):
        holds.ended(key(number), Cause.JOB_ERROR, NOW)
    holds.ended(key(9), AWAY, at(61))
    assert holds.why("ns", at(61)) is None


def test_one_job_holds_nobody_whatever_its_pods_say() -> None:
    holds = DependencyHolds()
    for second in range(0, 60, 5):
        holds.ended(key(1), AWAY, at(second))
        holds.ended(key(2), AWAY, at(second))
    assert holds.why("ns", at(60)) is None
    holds.ended(key(3), AWAY, at(60))
    assert holds.why("ns", at(60)) is not None


def test_one_probe_at_a_time_at_growing_intervals() -> None:
    holds, probes = held(), []
    for second in range(300):
        if starts(holds, second, second):
            assert not starts(holds, 999, second)
            probes.append(second)
            ends(holds, second, AWAY, second + 0.5)
    assert probes == [10, 30, 70, 130, 190, 250]


def test_after_a_probe_gets_through_the_others_follow_gradually() -> None:
    holds, number, at_once = held(), 100, []
    assert starts(holds, number, 10)
    ends(holds, number, "", 11)
    running: list[int] = []
    for _ in range(30):
        while len(running) < 50 and starts(holds, number + 1, 12):
            number += 1
            running.append(number)
        at_once.append(len(running))
        ends(holds, running.pop(0), "", 12)
    assert at_once[:4] == [2, 3, 4, 5]
    assert at_once[ENOUGH:] == [50] * (30 - ENOUGH), "admission is open"


def test_an_error_of_the_job_s_own_shows_that_the_database_answers() -> None:
    holds = held()
    assert starts(holds, 10, 10)
    ends(holds, 10, Cause.JOB_ERROR, 11)
    assert starts(holds, 11, 11)
    assert starts(holds, 12, 11)


def test_a_job_that_has_lost_another_database_holds_nobody_and_shows_that_its_own_answers() -> None:
    """Its process recorded the failure in the ledger."""
    holds = DependencyHolds()
    for number in range(10):
        holds.ended(key(number), AWAY, NOW, answered=True)
    assert holds.why("ns", NOW) is None
    holds = held()
    assert starts(holds, 10, 10)
    holds.ended(key(10), AWAY, at(11), answered=True)
    holds.release(key(10))
    assert starts(holds, 11, 11)
    assert starts(holds, 12, 11)


def test_a_lost_pod_shows_nothing() -> None:
    holds = held()
    assert starts(holds, 10, 10)
    ends(holds, 10, Cause.NODE_LOST, 11)
    assert not starts(holds, 11, 12)
    assert starts(holds, 11, 30)


def test_a_relapse_while_it_opens_holds_again() -> None:
    holds = held()
    assert starts(holds, 10, 10)
    ends(holds, 10, "", 11)
    assert starts(holds, 11, 11)
    ends(holds, 11, AWAY, 12)
    assert not starts(holds, 12, 13)


def test_an_attempt_from_before_the_hold_that_ends_late_changes_nothing() -> None:
    holds = held()
    assert starts(holds, 10, 10)
    ends(holds, 10, "", 11)
    holds.ended(key(500), AWAY, at(12))
    assert starts(holds, 11, 12)


@pytest.mark.parametrize("start_timeout", [600, 3600])
def test_a_probe_that_runs_for_longer_than_its_process_waits_for_the_database_has_got_through(
    start_timeout: float,
) -> None:
    holds = held()
    assert starts(holds, 10, 10)
    holds.runs(key(10), start_timeout, at(15))
    holds.runs(key(10), start_timeout, at(99))  # it is observed again and again
    holds.tick(at(15 + start_timeout))
    assert starts(holds, 11, 15 + start_timeout), "the next probe does not wait for it"
    assert not starts(holds, 12, 16 + start_timeout)
    holds.tick(at(15 + start_timeout + 61))
    assert starts(holds, 12, 15 + start_timeout + 61)
    assert starts(holds, 13, 15 + start_timeout + 61)


def test_a_probe_whose_pod_does_not_run_shows_nothing_however_long_it_waits() -> None:
    holds = held()
    assert starts(holds, 10, 10)
    for second in range(20, 3000, 60):
        holds.tick(at(second))
        if starts(holds, second, second):
            ends(holds, second, AWAY, second + 1)
    away = holds.of("ns")
    assert away is not None
    assert not away.probing.allowance


def test_after_the_return_pods_that_do_not_start_delay_the_others_for_a_minute_only() -> None:
    holds = held()
    assert starts(holds, 10, 10)
    ends(holds, 10, "", 11)
    assert starts(holds, 11, 11)
    assert starts(holds, 12, 11)
    assert not starts(holds, 13, 70)
    assert starts(holds, 13, 72), "their pods may wait for room for hours"


NEVER_CONNECTED = [Cause.INIT_FAILED, Cause.CANCELLED, Cause.PREEMPTED, Cause.TEMPLATE_CHANGED, Cause.START_TIMEOUT,
                   Cause.BAD_SETUP, Cause.INVALID_SPEC, Cause.STANDBY_LOST]  # fmt: skip


@pytest.mark.parametrize("cause", NEVER_CONNECTED)
def test_a_probe_that_ended_without_a_connection_shows_nothing(cause: Cause) -> None:
    """For example, an init container that waits for the same database has failed."""
    holds = held()
    assert starts(holds, 10, 10)
    ends(holds, 10, cause, 11)
    assert not starts(holds, 11, 12)


def test_ends_that_are_long_past_are_not_kept() -> None:
    holds = DependencyHolds()
    for number in range(50):
        holds.ended(key(1, f"ns-{number}"), AWAY, NOW)
    assert holds.remembered == 50
    holds.tick(at(61))
    assert holds.remembered == 0


def test_a_hold_that_nobody_probes_is_forgotten() -> None:
    holds = held()
    assert holds.tick(at(700)), "those that wait may start now"
    assert holds.of("ns") is None


def test_a_new_leader_goes_on_holding() -> None:
    holds = DependencyHolds()
    holds.resume("ns", AWAY, at(-300), NOW)
    assert starts(holds, 1, 0)
    assert not starts(holds, 2, 1)


def test_a_new_leader_takes_the_latest_time_of_those_that_spokejobs_show() -> None:
    """One that shows an earlier outage has not been reconciled since."""
    holds = DependencyHolds()
    for seconds in (-9000, -300, -300, -5000):
        holds.resume("ns", AWAY, at(seconds), NOW)
    assert (away := holds.of("ns")) is not None
    assert away.since == at(-300)
