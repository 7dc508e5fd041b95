"""Which jobs a cancellation or a retry of many changes, and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.errors import DependencyNotMet
from spoke_jobs.ledger.many_jobs import cancellable, dependents_first, in_turn, retryable
from spoke_jobs.ledger.reading.queries import SelectedJob
from spoke_jobs.model import ANY_JOB, UNFINISHED, JobFilter, JobState

NEEDS = st.dictionaries(st.integers(1, 9), st.frozensets(st.integers(1, 9), max_size=3), max_size=9)


def test_only_unfinished_jobs_can_be_cancelled() -> None:
    assert cancellable(ANY_JOB).states == UNFINISHED
    some = JobFilter(states=(JobState.RUNNING, JobState.FAILED), job_type="a")
    assert cancellable(some) == some.evolve(states=(JobState.RUNNING,))
    assert cancellable(JobFilter(states=(JobState.SUCCEEDED,))).states == (), "no job, and not all of them"


def test_a_retry_leaves_out_cancelled_jobs_unless_they_are_asked_for() -> None:
    assert retryable(ANY_JOB) == JobFilter(states=(JobState.FAILED,), other_cause_than="Cancelled")
    for which in (JobFilter(cause="Cancelled"), JobFilter(cause="Timeout"), JobFilter(fingerprint="f")):
        assert retryable(which) == which.evolve(states=(JobState.FAILED,))
    assert retryable(ANY_JOB, with_cancelled=True) == JobFilter(states=(JobState.FAILED,))


@given(st.lists(st.tuples(st.integers(1, 99), st.sampled_from([*UNFINISHED])), unique_by=lambda each: each[0]))
def test_a_job_is_cancelled_before_those_on_which_it_may_depend(jobs: list[tuple[int, JobState]]) -> None:
    selected = [SelectedJob(job_id, "a", state.value) for job_id, state in sorted(jobs)]
    order = dependents_first(selected)
    assert sorted(order) == [job.id for job in selected]
    blocked = [job.id for job in selected if job.state == "blocked"]
    assert order[: len(blocked)] == blocked[::-1], "the ids of dependencies are lower than a job's own"


@given(NEEDS)
def test_a_refused_job_comes_after_the_rest_until_nothing_changes(needs: dict[int, frozenset[int]]) -> None:
    done: set[int] = set()

    def act(job_id: int) -> str:
        if not needs[job_id] <= done:
            raise DependencyNotMet(f"job {job_id}")
        done.add(job_id)
        return "done"

    results = list(in_turn(sorted(needs), act))
    assert sorted(job_id for job_id, _ in results) == sorted(needs), "each job has one result"
    seen: set[int] = set()
    for job_id, result in results:
        if result == "done":
            assert needs[job_id] <= seen, "after what it needs"
            seen.add(job_id)
        else:
            assert str(result) == f"job {job_id}"
            assert not needs[job_id] <= done, "nothing that could be done is left"
    assert seen == done


@given(NEEDS, st.integers(1, 20))
def test_no_job_is_tried_after_the_time_is_over(needs: dict[int, frozenset[int]], most: int) -> None:
    done: set[int] = set()
    tried: list[int] = []

    def act(job_id: int) -> str:
        tried.append(job_id)
        if not needs[job_id] <= done:
            raise DependencyNotMet(f"job {job_id}")
        done.add(job_id)
        return "done"

    results = dict(in_turn(sorted(needs), act, lambda: len(tried) >= most))
    assert len(tried) <= most
    assert {job_id for job_id, result in results.items() if result == "done"} == done, "what was done is told"
    if len(tried) < most:
        assert results.keys() == needs.keys(), "the time was not over"
    for job_id in results.keys() - done:
        assert job_id in tried
        assert not needs[job_id] <= done, "a refusal that is told still holds"
