"""A type whose jobs take down their processes is held back, and one whose jobs do not is not."""

from __future__ import annotations

from spoke_jobs.worker.suspect_types import SuspectTypes


def test_a_type_is_suspect_from_its_second_job_in_a_row_with_a_loss_until_a_job_of_it_ends_without_a_loss() -> None:
    suspects = SuspectTypes(pauses=True)
    suspects.took_down("a", 1, 0.5, 100.0)
    assert suspects.without(("a", "b")) == ("a", "b"), "it may be this job alone"
    assert not suspects.ended_well("b")
    assert not suspects.ended_well("a"), "it was not suspect"
    suspects.took_down("a", 2, 0.5, 100.0)
    assert "a" not in suspects, "it begins anew"
    suspects.took_down("a", 2, 0.5, 100.5)
    assert "a" not in suspects, "the retry of one job has a bound of its own"
    suspects.took_down("a", 3, 0.5, 101.0)
    assert (suspects.among(("a", "b")), suspects.without(("a", "b"))) == (("a",), ("b",))
    assert suspects.ended_well("a")
    assert "a" not in suspects


def test_a_suspect_type_is_paused_after_each_loss_for_four_times_as_long_but_for_30_seconds_at_most() -> None:
    suspects = SuspectTypes(pauses=True)
    suspects.took_down("a", 1, 0.5, 100.0)
    assert suspects["a"].paused_until == 0.0
    suspects.took_down("a", 2, 0.5, 102.0)
    assert suspects["a"].paused_until == 104.0
    suspects.took_down("a", 3, 7.0, 110.0)
    assert suspects["a"].paused_until == 138.0
    suspects.took_down("a", 3, 3600.0, 200.0)
    assert suspects["a"].paused_until == 230.0


def test_a_worker_that_drains_does_not_wait_for_a_pause() -> None:
    suspects = SuspectTypes(pauses=False)
    for job in range(5):
        suspects.took_down("a", job, 0.5, 100.0)
    assert suspects["a"].paused_until == 0.0


def test_a_loss_counts_for_ten_minutes() -> None:
    suspects = SuspectTypes(pauses=True)
    suspects.took_down("a", 1, 0.5, 100.0)
    assert not suspects.forget_old(701.0), "it was not suspect"
    suspects.took_down("a", 2, 0.5, 800.0)
    assert "a" not in suspects, "not in a row"
    suspects.took_down("a", 3, 0.5, 1300.0)
    assert not suspects.forget_old(1900.0)
    assert "a" in suspects
    assert suspects.forget_old(1901.0)
    assert "a" not in suspects
