"""What a worker's options mean for a job."""

from __future__ import annotations

import pytest

from spoke_jobs.contract.executors import LANE_RUNNER
from spoke_jobs.model import ClaimFilter, JobOptions
from spoke_jobs.worker.worker_options import WorkerOptions


@pytest.mark.parametrize(
    ("runner", "of_worker", "of_job", "most"),
    [
        (LANE_RUNNER, None, None, None),
        (LANE_RUNNER, 5.0, None, 5.0),
        (LANE_RUNNER, None, 60.0, 60.0),
        (LANE_RUNNER, 5.0, 60.0, 60.0),
        ("legacy", 5.0, 60.0, None),
    ],
    ids=["none", "the worker's", "the job's", "the job's counts more", "no pod to move to"],
)
def test_how_long_an_attempt_may_run_in_a_worker(
    runner: str, of_worker: float | None, of_job: float | None, most: float | None
) -> None:
    options = WorkerOptions(runner, ("a",), 1, 60.0, 1.0, worker_seconds=of_worker)
    assert options.seconds_of(JobOptions(worker_seconds=of_job)) == most


@pytest.mark.parametrize(
    ("types", "not_types", "some"),
    [
        ((), (), True),
        (("ingest.csv",), (), True),
        (("mail", "in*"), (), True),
        (("in*.csv",), (), True),
        (("*",), (), True),
        (("mail",), (), False),
        (("ingest",), (), False),
        (("mail*", "out*"), (), False),
        ((), ("ingest.csv",), True),
        ((), ("*.csv",), True),
        ((), ("ingest.*",), False),
        (("ingest.csv",), ("in*",), False),
    ],
)
def test_whether_a_worker_takes_some_types_of_a_prefix(
    types: tuple[str, ...], not_types: tuple[str, ...], some: bool
) -> None:
    assert ClaimFilter(types, not_types=not_types).takes_some("ingest.*") is some
