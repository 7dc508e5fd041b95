"""A type whose jobs take down their processes is held back, and one whose jobs do not is not."""

from __future__ import annotations

import random

import pytest

from spoke_jobs.worker.suspect_types import LONGEST_PAUSE_SECONDS, PAUSE_FACTOR, SuspectTypes


def test_a_type_is_suspect_from_a_lost_process_until_a_job_of_it_ends_without_a_loss() -> None:
    suspects = SuspectTypes(pauses=True)
    assert suspects.without(("a", "b")) == ("a", "b")
    suspects.took_down("a", 1, 0.5, 100.0)
    assert (suspects.among(("a", "b")), suspects.without(("a", "b"))) == (("a",), ("b",))
    assert suspects["a"].paused_until == 0.0, "it may be this job alone"
    assert not suspects.ended_well("b")
    assert suspects.ended_well("a")
    assert "a" not in suspects
    suspects.took_down("a", 2, 0.5, 200.0)
    assert suspects["a"].paused_until == 0.0, "it begins anew"


def test_from_the_second_job_on_the_type_is_paused_for_a_multiple_of_the_loss() -> None:
    suspects = SuspectTypes(pauses=True)
    suspects.took_down("a", 1, 0.5, 100.0)
    suspects.took_down("a", 1, 0.5, 101.0)
    assert suspects["a"].paused_until == 0.0, "the retry of one job has a bound of its own"
    suspects.took_down("a", 2, 0.5, 102.0)
    assert suspects["a"].paused_until == 102.0 + PAUSE_FACTOR * 0.5
    suspects.took_down("a", 3, 3600.0, 110.0)
    assert suspects["a"].paused_until == 110.0 + LONGEST_PAUSE_SECONDS


def test_a_worker_that_drains_does_not_wait_for_a_pause() -> None:
    suspects = SuspectTypes(pauses=False)
    for job in range(5):
        suspects.took_down("a", job, 0.5, 100.0)
    assert suspects["a"].paused_until == 0.0


def test_a_type_that_takes_down_every_process_costs_a_fifth_of_the_time_of_one() -> None:
    """Whatever each costs, up to where the longest pause is shorter than the share asks for."""
    chance = random.Random(7)
    losses = [chance.uniform(0.01, LONGEST_PAUSE_SECONDS / PAUSE_FACTOR) for _ in range(100)]
    suspects, now = SuspectTypes(pauses=True), 0.0
    for job, lost in enumerate(losses):
        now = max(now, suspects["a"].paused_until if job else 0.0) + lost
        suspects.took_down("a", job, lost, now)
    after_the_first = suspects["a"].paused_until - losses[0]
    assert sum(losses[1:]) == pytest.approx(after_the_first / 5)
