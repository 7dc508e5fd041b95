"""A worker that has lost processes comes back to its full number, and leaves processors to what it runs meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.worker.test_held_back_types import CHILDREN, Worker

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.worker.child_pool import Child, ChildKind


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("report")
    made.supervisor._processors = 2
    yield made
    made.close()


def lose_all_but_one(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """Forget the children but one. Return the list of those that the supervisor starts from then on."""
    pool = worker.supervisor._pool
    lost, pool.children = pool.children[1:], pool.children[:1]
    pool.children[0].started_once = True
    started: list[Child] = []

    def start(_kind: ChildKind, _slots: int, _ahead: int) -> Child:
        child = lost.pop()
        child.ready, child.started_once = False, False
        started.append(child)
        pool.children.append(child)
        return child

    monkeypatch.setattr(pool, "start", start)
    return started


def test_one_starts_after_the_other_beside_a_job(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.dispatch("report", 1)
    assert worker.claim()["report"] == 1
    assert worker.place_of("report") == 0
    started = lose_all_but_one(worker, monkeypatch)
    worker.supervisor._replace_missing()
    worker.supervisor._replace_missing()
    assert len(started) == 1, "the other processor is the job's"
    started[0].started_once = True
    worker.supervisor._replace_missing()
    assert len(worker.children) == CHILDREN


def test_all_start_at_once_if_nothing_runs(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_all_but_one(worker, monkeypatch)
    worker.supervisor._replace_missing()
    assert len(worker.children) == CHILDREN


def test_starts_that_fail_in_turn_beside_jobs_end_the_worker(worker: Worker) -> None:
    """An application that can no longer be imported is named, also while older processes run jobs."""
    supervisor, fails = worker.supervisor, worker.children[-1]
    worker.children[0].started_once = True
    worker.dispatch("report", 1)
    worker.claim()
    supervisor._failed_starts = 2
    worker.end("report")  # the report of a child that started long ago says nothing of new ones
    fails.process.returncode = 1
    with pytest.raises(ConfigurationError, match="exit as soon as they start"):
        supervisor._handle_exit(fails)
    fails.stack_file.close()
