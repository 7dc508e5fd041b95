"""Who starts the attempts of a job follows from its runner and its lane."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import (
    CLUSTER_RUNNER,
    LANE_RUNNER,
    Executor,
    Lane,
    executor_of,
    lane_of,
    moved_to_pod,
    row_runner,
    runner_after,
)

RUNNERS = st.sampled_from((CLUSTER_RUNNER, LANE_RUNNER, "legacy", "memory", "reference")) | st.text(max_size=12)
LANES = st.sampled_from(Lane)
CAUSES = st.sampled_from(Cause) | st.text(max_size=12)


@given(RUNNERS, LANES)
def test_only_the_jobs_of_kubernetes_have_lanes(runner: str, lane: Lane) -> None:
    row = row_runner(runner, lane.value)
    if runner in (CLUSTER_RUNNER, LANE_RUNNER):
        assert lane_of(row) is (Lane.POD if lane is Lane.STANDBY else lane), "the operator decides which pod it is"
        assert executor_of(row) is (Executor.WORKERS if lane is Lane.WORKER else Executor.CLUSTER)
    else:
        assert (row, lane_of(row)) == (runner, None)


@given(RUNNERS, LANES, LANES)
def test_the_runner_of_a_job_that_follows_another_depends_on_its_own_lane(
    runner: str, lane: Lane, following: Lane
) -> None:
    """A row's runner counts like the runner that dispatched it, for a job that follows a failure."""
    assert row_runner(row_runner(runner, lane), following) == row_runner(runner, following)


@given(RUNNERS, LANES)
def test_no_two_executors_take_one_row(runner: str, lane: Lane) -> None:
    """The operator takes the rows of exactly one runner, and no worker claims rows of that runner."""
    row = row_runner(runner, lane)
    assert (executor_of(row) is Executor.CLUSTER) == (row == CLUSTER_RUNNER)


@given(RUNNERS, st.lists(CAUSES, max_size=6))
def test_a_job_moves_at_most_once_and_only_from_a_worker_of_kubernetes_to_a_pod(runner: str, causes: list[str]) -> None:
    seen = [runner]
    for cause in causes:
        seen.append(runner_after(seen[-1], cause))
    moves = [(before, after) for before, after in pairwise(seen) if before != after]
    fatal = {"OutOfMemory", "Killed", "WorkerLost", "TooLongForWorker"} & set(causes)
    assert moves == ([(LANE_RUNNER, CLUSTER_RUNNER)] if runner == LANE_RUNNER and fatal else [])
    assert moved_to_pod(seen[-1], Lane.WORKER) == (seen[-1] == CLUSTER_RUNNER)
    assert not moved_to_pod(seen[-1], Lane.POD)
