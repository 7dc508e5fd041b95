"""Each condition of eligibility selects the same rows as an expression and as text: those of its predicate here.

Subclass it with a fixture ``ledger``, as unit and integration tests do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, text
from tests.contract.predicates import covers, takes

from spoke_jobs.contract.limit_scopes import EACH, PLAIN_DIMENSIONS, ScopeKind, Subject
from spoke_jobs.ledger.claims import eligibility
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.due_jobs import Variant, search, search_text, search_values
from spoke_jobs.ledger.claims.eligibility import (
    CLAIMABLE,
    Condition,
    Due,
    NotBegun,
    NotSubmitted,
    NotSuspended,
    OfAge,
    OfCluster,
    OfRunner,
    OfTypes,
    Open,
    Overflowed,
    QueueFree,
    Selected,
    StartTimedOut,
    Waiting,
    WithinStartTimeout,
    first_unmet,
    in_sql,
    in_text,
    of_claim,
    open_text,
)
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, queue_lock, sql_name
from spoke_jobs.limits.admission import Closed
from spoke_jobs.model import ClaimFilter, JobRequest, JobState
from spoke_jobs.type_names import is_known

RUNNERS = ("legacy", "own", "kubernetes", "reference")
NAMES = st.one_of(st.sampled_from(("a", "a.b", "a.b.c", "A.b", "q", "q%", "ä")), st.text("aQ.%_*[]?\\'", max_size=4))
NUMBERS = st.integers(1, 4)
HOURS = st.sampled_from((-30.0, -2.0, 2.0, 30.0))
"""Far from now: the database's clock goes on while a test runs."""
PATTERNS = st.one_of(NAMES, NAMES.map(lambda name: f"{name}*"), st.just("*"))
PREFIXES = st.sampled_from(("a.*", "a.b.*", "A.*", "q%.*"))
TYPES = st.one_of(NAMES.filter(lambda name: not name.endswith(".*")), PREFIXES)


@dataclass(frozen=True)
class Given:
    """A row, with its times as hours from now."""

    state: JobState
    runner: str
    job_type: str
    queue_name: str
    locks_queue: bool
    organization_id: int | None
    limit_key: str | None
    attempt: int
    run_after: float | None
    start_by: float | None
    submitted_at: float | None
    created_at: float
    suspended_at: float | None
    overflow_seconds: float | None

    def values(self, now: datetime) -> dict[str, Any]:
        found: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("run_after", "start_by", "submitted_at", "created_at", "suspended_at"):
            if found[name] is not None:
                found[name] = now + timedelta(hours=found[name])
        options = {"overflowSeconds": found.pop("overflow_seconds")}
        same = {"updated_at": found["created_at"], "options": options}
        return found | {"uid": uuid.uuid4(), "payload": "{}"} | same


ROWS = st.lists(
    st.builds(
        Given,
        st.sampled_from((*JobState, JobState.WAITING, JobState.WAITING)),
        st.sampled_from(RUNNERS),
        NAMES,
        NAMES,
        st.booleans(),
        st.none() | NUMBERS,
        st.none() | NAMES,
        st.integers(-1, 2),
        st.none() | HOURS,
        st.none() | HOURS,
        st.none() | HOURS,
        HOURS,
        st.none() | st.none() | HOURS,
        st.sampled_from((None, 0.5, 3600, 100_000.0)),
    ),
    min_size=1,
    max_size=12,
)
SOME = 3
FILTERS = st.builds(
    ClaimFilter,
    *(st.lists(PATTERNS, max_size=SOME).map(tuple) for _ in range(4)),
    st.booleans(),
)
CLOSED = st.builds(
    Closed,
    types=st.frozensets(TYPES, max_size=SOME),
    named=st.frozensets(
        st.one_of(
            st.tuples(st.just(ScopeKind.QUEUE), NAMES.filter(bool)),
            st.tuples(st.just(ScopeKind.ORGANIZATION), st.one_of(NUMBERS, st.just(10**12)).map(str)),
            st.tuples(st.just(ScopeKind.KEY), NAMES),
        ),
        max_size=3 * SOME,
    ),
    every=st.frozensets(st.sampled_from([item.kind for item in PLAIN_DIMENSIONS if item.each])),
)
WITH_PARAMETERS: dict[type[Condition], st.SearchStrategy[Condition]] = {
    OfRunner: st.sampled_from(RUNNERS).map(OfRunner),
    OfTypes: st.lists(TYPES, max_size=SOME).map(OfTypes),
    Selected: FILTERS.map(Selected),
    Open: CLOSED.map(Open),
    OfAge: st.sampled_from((0.0, 5_000.0, 50_000.0)).map(OfAge),
}
"""How to make the conditions that have parameters. Of the others, there is one each."""
WITHOUT_TEXT = (OfAge,)
"""It has a parameter, and no claim uses it."""


@dataclass(frozen=True)
class Facts:
    """What a predicate needs besides the row."""

    now: datetime
    locked_queues: Collection[str] = ()


def deadline_of(job: JobRequest) -> datetime | None:
    """Until when a job must be started for the first time."""
    return job.start_by if job.attempt <= 0 else None


def is_due(job: JobRequest, now: datetime) -> bool:
    """Whether its time has come, and nobody has suspended it."""
    return job.suspended_at is None and (job.run_after is None or job.run_after <= now)


def is_overflowed(job: JobRequest, now: datetime) -> bool:
    """Whether it has waited for longer than its option says."""
    longest = job.options.overflow_seconds
    since = max(job.updated_at, job.run_after or job.created_at)
    return longest is not None and since < now - timedelta(seconds=longest)


PREDICATES: dict[type[Condition], Callable[[Any, JobRequest, Facts], bool]] = {
    Waiting: lambda _one, job, _facts: job.state is JobState.WAITING,
    OfRunner: lambda one, job, _facts: job.runner == one.runner,
    OfCluster: lambda _one, job, _facts: job.runner == "kubernetes",
    NotSuspended: lambda _one, job, _facts: job.suspended_at is None,
    Due: lambda _one, job, facts: is_due(job, facts.now),
    WithinStartTimeout: lambda _one, job, facts: (at := deadline_of(job)) is None or at > facts.now,
    StartTimedOut: lambda _one, job, facts: (at := deadline_of(job)) is not None and at < facts.now,
    OfTypes: lambda one, job, _facts: is_known(job.job_type, one.types),
    QueueFree: lambda _one, job, facts: not job.locks_queue or job.queue_name not in facts.locked_queues,
    Selected: lambda one, job, _facts: takes(one.only, job),
    Open: lambda one, job, _facts: not covers(one.closed, Subject.of(job)),
    NotSubmitted: lambda _one, job, _facts: job.submitted_at is None,
    NotBegun: lambda _one, job, _facts: job.attempt <= 0,
    OfAge: lambda one, job, facts: job.created_at <= facts.now - timedelta(seconds=one.seconds),
    Overflowed: lambda _one, job, facts: is_overflowed(job, facts.now),
}


def holds(condition: Condition, job: JobRequest, facts: Facts) -> bool:
    """Whether a row fulfills a condition."""
    return PREDICATES[type(condition)](condition, job, facts)


KINDS: list[type[Condition]] = [
    kind
    for kind in vars(eligibility).values()
    if isinstance(kind, type) and issubclass(kind, Condition) and kind is not Condition
]
REQUESTS = st.builds(
    ClaimRequest,
    st.sampled_from(RUNNERS[:2]),
    st.lists(TYPES, min_size=1, max_size=4),
    st.just("w"),
    st.just(30.0),
    st.just(100),
    st.one_of(st.just(ClaimFilter()), FILTERS),
)


def conditions() -> st.SearchStrategy[list[Condition]]:
    """One condition of each kind."""
    return st.tuples(*(WITH_PARAMETERS[kind] if kind in WITH_PARAMETERS else st.just(kind()) for kind in KINDS)).map(
        list
    )


@contextmanager
def rolled_back(ledger: SqlLedger) -> Iterator[Connection]:
    """A transaction that leaves nothing."""
    with ledger.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def written(connection: Connection, rows: Sequence[Given], locked: Collection[str]) -> tuple[list[JobRequest], Facts]:
    """Write rows and locks. Return the rows as a ledger reads them, and the facts about them."""
    connection.execute(queue_lock.delete())
    now = connection.execute(select(clock_now())).scalar_one()
    connection.execute(insert(job_request), [row.values(now) for row in rows])
    found = connection.execute(select(*MANY_COLUMNS).order_by(job_request.c.id)).mappings().all()
    jobs = [to_request(row) for row in found]
    for queue in locked:
        values = {"queue_name": queue, "job_id": jobs[0].id, "token": uuid.uuid4(), "acquired_at": now}
        connection.execute(insert(queue_lock).values(values))
    return jobs, Facts(now, locked)


def closes(closed: Closed) -> frozenset[ScopeKind]:
    """The forms of the limits that close these scopes."""
    types = {ScopeKind.TYPE} if closed.types else set()
    return frozenset({kind for kind, _ in closed.named} | types | {EACH[kind] for kind in closed.every})


EXAMPLES = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


class EligibilityContract:
    """All forms of a condition agree."""

    def test_each_condition_selects_the_same_rows_in_sql_as_its_predicate(self, ledger: SqlLedger) -> None:
        postgresql = ledger.engine.dialect.name == "postgresql"

        @EXAMPLES
        @given(rows=ROWS, locked=st.sets(NAMES, max_size=3), each=conditions())
        def check(rows: list[Given], locked: set[str], each: list[Condition]) -> None:
            with rolled_back(ledger) as connection:
                jobs, facts = written(connection, rows, locked)
                for condition in each:
                    expected = [job.id for job in jobs if holds(condition, job, facts)]
                    chosen = select(job_request.c.id).order_by(job_request.c.id)
                    assert list(connection.scalars(chosen.where(condition.expression()))) == expected, condition
                    if postgresql and type(condition) not in WITHOUT_TEXT:
                        where = in_text(type(condition))
                        statement = text(f"SELECT id FROM {sql_name('job_request')} WHERE {where} ORDER BY id")
                        assert list(connection.scalars(statement, condition.values())) == expected, condition

        check()

    def test_a_claim_finds_the_rows_of_which_all_conditions_hold(self, ledger: SqlLedger) -> None:
        postgresql = ledger.engine.dialect.name == "postgresql"

        @EXAMPLES
        @given(rows=ROWS, locked=st.sets(NAMES, max_size=3), request=REQUESTS, closed=CLOSED)
        def check(rows: list[Given], locked: set[str], request: ClaimRequest, closed: Closed) -> None:
            composed = (*of_claim(request), Open(closed))
            with rolled_back(ledger) as connection:
                jobs, facts = written(connection, rows, locked)
                expected = {job.id for job in jobs if all(holds(one, job, facts) for one in composed)}
                found = set(connection.scalars(select(job_request.c.id).where(*in_sql(*composed))))
                assert found == expected
                if postgresql:
                    variant, values = Variant.of(request), search_values(request) | Open(closed).values()
                    for where in (search(variant, Open), f"{open_text(closes(closed))} AND {search(variant)}"):
                        statement = search_text(f"SELECT id FROM {sql_name('job_request')} WHERE {where}")
                        assert set(connection.scalars(statement, values)) == expected

        check()

    def test_why_names_the_first_condition_that_a_row_does_not_fulfill(self, ledger: SqlLedger) -> None:
        @EXAMPLES
        @given(rows=ROWS, locked=st.sets(NAMES, max_size=3))
        def check(rows: list[Given], locked: set[str]) -> None:
            named = [kind() for kind in CLAIMABLE if kind.unmet is not None]
            with rolled_back(ledger) as connection:
                jobs, facts = written(connection, rows, locked)
                expected = [
                    next((type(one).__name__ for one in named if not holds(one, job, facts)), "") for job in jobs
                ]
                assert list(connection.scalars(select(first_unmet()).order_by(job_request.c.id))) == expected

        check()

    def test_a_job_has_time_to_start_or_its_start_has_timed_out(self, ledger: SqlLedger) -> None:
        @EXAMPLES
        @given(rows=ROWS)
        def check(rows: list[Given]) -> None:
            with rolled_back(ledger) as connection:
                jobs, facts = written(connection, rows, ())
                for job in jobs:
                    assert holds(WithinStartTimeout(), job, facts) is not holds(StartTimedOut(), job, facts)

        check()
