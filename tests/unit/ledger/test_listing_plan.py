"""In which rows a list of jobs is looked for, and how the rows of several indexes become one list."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies
from tests.contract.predicates import passes

from spoke_jobs.contract.executors import LANES
from spoke_jobs.ledger.reading.listing_plan import (
    BY_ID,
    MOST_SOURCES,
    Kind,
    ListedJob,
    Source,
    Step,
    merged,
    sources,
    states_by_index,
)
from spoke_jobs.model import ANY_JOB, JobFilter, JobOptions, JobState

WAITING, SUCCEEDED, FAILED = JobState.WAITING, JobState.SUCCEEDED, JobState.FAILED
UNFINISHED = (JobState.BLOCKED, WAITING, JobState.RUNNING)
KINDS = (Kind("legacy", 0), Kind("legacy", 5), Kind("kubernetes", 0), Kind("kubernetes-worker", 0))


PLAIN = JobOptions()


@dataclass(frozen=True)
class Row:
    """What filters and sources know of a job."""

    id: int
    state: JobState
    job_type: str
    organization_id: int | None
    kind: Kind
    cause: str
    queue_name: str = ""
    campaign_id: int | None = None
    fingerprint: str = ""
    unique_key: str | None = None
    batch_id: int | None = None
    created_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    options: JobOptions = PLAIN

    @property
    def runner(self) -> str:
        return self.kind.runner

    @property
    def rank(self) -> int:
        return self.kind.rank


def row(number: int, state: JobState, job_type: str, organization: int | None, kind: Kind, cause: str) -> Row:
    return Row(number, state, job_type, organization, kind, "" if state is SUCCEEDED else cause)


ROWS = strategies.lists(
    strategies.builds(
        row,
        strategies.integers(1, 60),
        strategies.sampled_from(JobState),
        strategies.sampled_from(("mail", "mail.old")),
        strategies.sampled_from((None, 1, 2)),
        strategies.sampled_from(KINDS),
        strategies.sampled_from(("", "JobError")),
    ),
    unique_by=lambda each: each.id,
    max_size=40,
)
FILTERS = strategies.builds(
    JobFilter,
    states=strategies.none() | strategies.lists(strategies.sampled_from(JobState), unique=True).map(tuple),
    job_type=strategies.sampled_from((None, "mail", "mail*")),
    organization_id=strategies.sampled_from((None, None, 1)),
    organizations=strategies.none() | strategies.frozensets(strategies.sampled_from((1, 2))),
    cause=strategies.sampled_from((None, None, "JobError")),
    lane=strategies.sampled_from((None, None, *LANES)),
)


def is_in(source: Source, job: Row) -> bool:
    of_state = source.state is None or job.state is source.state
    return of_state and all(getattr(job, name) == value for name, value in source.prefix)


@given(ROWS, FILTERS, strategies.integers(1, 5), strategies.integers(1, 12), strategies.booleans())
def test_page_by_page_each_job_comes_once_in_its_order(
    rows: list[Row], which: JobFilter, limit: int, most: int, upwards: bool
) -> None:
    sign = 1 if upwards else -1
    where = sources(which, KINDS)
    rows = sorted(rows, key=lambda job: sign * job.id)
    wanted = [job.id for job in rows if passes(which, job)]
    place: int | None = None
    seen: list[int] = []
    pages = 0

    def read(source: Source, last: int | None, count: int) -> Step:
        after = last if last is not None else place
        part = [job for job in rows if is_in(source, job) and (after is None or sign * job.id > sign * after)][:count]
        found = [ListedJob(job.id, job.job_type, job.state, "", job.cause) for job in part if passes(which, job)]
        return Step(found[limit::-1], part[-1].id if part else 0, len(part))

    while True:
        page = merged(where, read, limit, most, upwards=upwards)
        assert len(page.jobs) <= limit
        assert page.looked <= max(most, len(where) * (limit + 1))
        seen += [job.id for job in page.jobs]
        border = page.jobs[-1].id if page.more else page.looked_to
        if border is None:
            break
        assert place is None or sign * border > sign * place, "it goes on"
        place, pages = border, pages + 1
        assert pages <= 2 * len(rows) + 1
    assert seen == wanted


def test_a_page_reads_no_more_than_it_needs() -> None:
    """Of a source with all jobs, those of the page, and one more to know whether there are more."""
    counts: list[int] = []

    def read(_source: Source, last: int | None, count: int) -> Step:
        counts.append(count)
        newest = 10_000 if last is None else last - 1
        ids = range(newest, newest - count, -1)
        return Step([ListedJob(number, "", "", "", "") for number in ids], ids[-1], count)

    page = merged((BY_ID,), read, 50, 20_000)
    assert [job.id for job in page.jobs] == list(range(10_000, 9_950, -1))
    assert counts == [51]


@pytest.mark.parametrize(
    ("number", "one_in", "most_statements"), [(8, 1, 8), (8, 10, 8), (8, 100, 16), (8, 10**9, 20), (40, 10, 40)]
)
def test_many_sources_take_few_statements(number: int, one_in: int, most_statements: int) -> None:
    """Their jobs are evenly mixed. If few match, the page gets far with the rows that may be read."""
    read: Counter[Source] = Counter()

    def read_next(source: Source, last: int | None, count: int) -> Step:
        read[source] += 1
        newest = 100_000 + dict(source.prefix)["rank"] if last is None else last - number
        ids = range(newest, newest - count * number, -number)
        found = [ListedJob(job_id, "", "", "", "") for job_id in ids if job_id % one_in == 0]
        return Step(found[:51], ids[-1], count)

    page = merged([Source(FAILED, (("rank", rank),)) for rank in range(number)], read_next, 50, 10_000)
    assert read.total() <= most_statements
    assert page.looked <= 10_000
    assert page.more or (page.looked_to or 0) <= 92_000


def states_of(**given: Any) -> Any:
    return states_by_index(JobFilter(**given))


def test_indexes_are_used_if_they_have_the_jobs_of_each_state() -> None:
    assert states_of() is None
    assert states_of(states=(SUCCEEDED,)) is None
    assert states_of(states=(FAILED, WAITING)) == (FAILED, WAITING)
    assert states_of(job_type="mail") == tuple(JobState)
    assert states_of(job_type="mail*") is None, "the index of types has no patterns"
    assert states_of(job_type="x" * 201) is None, "nor names that are too long"
    assert set(states_of(cause="JobError")) == {*UNFINISHED, FAILED}, "a success has no cause"
    assert set(states_of(fingerprint="E@app")) == {*UNFINISHED, FAILED}
    assert states_of(organizations=frozenset({1})) == tuple(JobState)


def test_each_kind_of_waiting_jobs_and_each_organization_is_a_source() -> None:
    assert sources(JobFilter(states=(WAITING,)), KINDS[:2]) == (
        Source(WAITING, (("runner", "legacy"), ("rank", 0))),
        Source(WAITING, (("runner", "legacy"), ("rank", 5))),
    )
    of_two = JobFilter(states=(WAITING, SUCCEEDED), organizations=frozenset({2, 1}))
    assert sources(of_two, KINDS[:1]) == (
        Source(WAITING, (("runner", "legacy"), ("organization_id", 1), ("rank", 0))),
        Source(WAITING, (("runner", "legacy"), ("organization_id", 2), ("rank", 0))),
        Source(SUCCEEDED, (("organization_id", 1), ("state", "succeeded"))),
        Source(SUCCEEDED, (("organization_id", 2), ("state", "succeeded"))),
    )
    assert sources(JobFilter(organization_id=3, organizations=frozenset({1})), KINDS) == ()
    assert sources(ANY_JOB, KINDS) == (BY_ID,)
    many = [Kind("legacy", rank) for rank in range(MOST_SOURCES + 1)]
    assert sources(JobFilter(states=(WAITING,)), many) == (BY_ID,)


def test_of_the_waiting_jobs_those_of_other_runners_are_not_read() -> None:
    def of_runner(runner: str, *ranks: int) -> list[Source]:
        return [Source(WAITING, (("runner", runner), ("rank", rank))) for rank in ranks]

    for lane, runner in (("pod", "kubernetes"), ("standby", "kubernetes"), ("worker", "kubernetes-worker")):
        assert [*sources(JobFilter(states=(WAITING,), lane=lane), KINDS)] == of_runner(runner, 0)
    assert [*sources(JobFilter(states=(WAITING,), runner="legacy"), KINDS)] == of_runner("legacy", 0, 5)
    assert [*sources(JobFilter(states=(WAITING,), runner="legacy", lane="pod"), KINDS)] == []
    # Of so many kinds, those of the runner may not have been read.
    many = [Kind("kubernetes-worker", rank) for rank in range(MOST_SOURCES + 1)]
    assert sources(JobFilter(states=(WAITING,), lane="pod"), many) == (BY_ID,)
