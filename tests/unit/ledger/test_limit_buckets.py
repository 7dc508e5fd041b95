"""The buckets of rates of each queue: their rows, beside a worker of the release before them, and when there are many.

What jobs start under such rates is in `tests/contract/ledger_limits.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text, update
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, new_job
from tests.contract.predicates import covers
from tests.waiting import eventually

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.errors import MigrationRefused
from spoke_jobs.ledger.engine import create_engine as ledger_engine
from spoke_jobs.ledger.limits_and_pauses import bucket_rows
from spoke_jobs.ledger.limits_and_pauses.current_limits import read_admission
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_limit, job_limit_bucket, metadata
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
EACH_QUEUE = parse_scope("each-queue")
QUEUES = ("slow", "quick", "ä")


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


def limit(ledger: SqlLedger, rate: str, burst: int = 1) -> None:
    ledger.limits.set(EACH_QUEUE, lambda _old: Bounds(None, Rate.parse(rate, burst)), "ada")


def start(ledger: SqlLedger, *queues: str) -> int:
    """Dispatch a job for each queue, and claim."""
    ledger.insert_many([new_job(queue_name=queue) for queue in queues])
    return len(ledger.claim_batch("legacy", ["report"], "w", LEASE, 100))


def names(ledger: SqlLedger) -> list[str]:
    with ledger.engine.connect() as connection:
        return list(connection.scalars(select(job_limit_bucket.c.name).order_by(job_limit_bucket.c.name)))


def last(connection: Connection) -> datetime | None:
    return connection.scalar(select(job_limit.c.full_at))


class TestRows:
    def test_only_buckets_that_are_not_full_have_one(self, ledger: SqlLedger) -> None:
        limit(ledger, "20/s")
        assert start(ledger, "", "a", "b", "c") == 4
        assert names(ledger) == ["a", "b", "c"]
        eventually(lambda: start(ledger, "d") and names(ledger) == ["d"])

    def test_those_of_many_queues_are_deleted_with_the_next_claims(
        self, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket_rows, "_DELETED_AT_LEAST", 2)
        limit(ledger, "10000/s")
        sizes = []
        for round_ in range(5):
            start(ledger, *(f"{round_}.{number}" for number in range(10)))
            sizes.append(len(names(ledger)))
        assert sizes == [10] * 5, "each claim deletes more than it adds"

    def test_those_of_a_removed_rate_or_limit_are_deleted(self, ledger: SqlLedger) -> None:
        changes: list[Callable[[], object]] = [
            lambda: ledger.limits.set(EACH_QUEUE, lambda _old: Bounds(3), "ada"),
            lambda: ledger.limits.reset(EACH_QUEUE),
        ]
        for change in changes:
            limit(ledger, "1/h")
            assert start(ledger, "a", "a") >= 1
            assert names(ledger) == ["a"]
            limit(ledger, "2/h")
            assert names(ledger) == ["a"], "what was used stays used"
            change()
            assert names(ledger) == []

    def test_without_such_a_rate_the_table_is_not_read(self, ledger: SqlLedger) -> None:
        """A worker may have rights that were given before the table was there."""
        statements: list[str] = []
        event.listen(ledger.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        ledger.limits.set(parse_scope("queue:a"), lambda _old: Bounds(3, Rate(5, burst=5)), "ada")
        ledger.limits.set(EACH_QUEUE, lambda _old: Bounds(3), "ada")
        assert start(ledger, "a", "b") == 2
        assert ledger.prune() == 0
        ledger.limits.reset(EACH_QUEUE)
        assert statements
        assert not [statement for statement in statements if "job_limit_bucket" in statement]


class TestMany:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bucket_rows, "MOST_EMPTY", 3)

    def test_while_as_many_as_are_told_apart_have_no_token_the_others_wait_as_well(self, ledger: SqlLedger) -> None:
        limit(ledger, "1/h")
        assert start(ledger, "a", "b") == 2
        assert start(ledger, "c") == 1
        assert start(ledger, "d", "") == 1, "a job without a queue is not counted"
        with ledger.engine.connect() as connection:
            wait = read_admission(connection).why_held(Subject("report", "d", None))
        assert wait is not None
        assert wait.retry_at is not None
        with ledger.engine.begin() as connection:
            of_b = update(job_limit_bucket).where(job_limit_bucket.c.name == "b")
            connection.execute(of_b.values(full_at=datetime.now(UTC)))
        assert start(ledger) == 1, "one of them has a token again"

    def test_tokens_that_are_left_are_used(self, ledger: SqlLedger) -> None:
        limit(ledger, "1/h", 2)
        assert start(ledger, *"abcdefabcdef") == 12, "none was empty before"
        assert start(ledger, "g") == 0


class TestBesideAnEarlierRelease:
    """Its workers know one bucket for the whole scope, `job_limit.full_at`."""

    @staticmethod
    def start_there(connection: Connection, rate: Rate, now: datetime) -> bool:
        """Start an attempt as a worker of that release does."""
        if rate.wait(last(connection), now):
            return False
        connection.execute(update(job_limit).values(full_at=rate.started(last(connection), now)))
        return True

    def test_what_it_starts_counts_for_each_queue(self, ledger: SqlLedger) -> None:
        limit(ledger, "1/h", 2)
        rate = Rate.parse("1/h", 2)
        with ledger.engine.begin() as connection:
            now = datetime.now(UTC)
            assert [self.start_there(connection, rate, now) for _ in range(3)] == [True, True, False]
        assert start(ledger, "a", "b") == 0
        ledger.limits.set(EACH_QUEUE, lambda _old: Bounds(None, Rate.parse("1/h", 3)), "ada")
        assert start(ledger, "a", "b") == 2
        assert names(ledger) == ["", "a", "b"]
        assert start(ledger, "a", "b", "c") == 1, "c has had none here, but two may have started there"

    def test_it_starts_nothing_before_the_emptiest_queue_has_a_token(self, ledger: SqlLedger) -> None:
        limit(ledger, "1/h", 2)
        assert start(ledger, "a", "b", "b") == 3
        with ledger.engine.begin() as connection:
            assert not self.start_there(connection, Rate.parse("1/h", 2), datetime.now(UTC))

    @settings(max_examples=60, deadline=None)
    @given(
        rate=strategies.builds(Rate, strategies.integers(1, 3), strategies.just(1), strategies.integers(1, 3)),
        steps=strategies.lists(
            strategies.tuples(strategies.sampled_from(["new", "new", "old", "wait"]), strategies.sampled_from(QUEUES)),
            min_size=10,
            max_size=40,
        ),
        pauses=strategies.lists(strategies.sampled_from([0.1, 0.4, 1.0, 5.0]), min_size=1),
    )
    def test_together_they_overdraw_no_queue_in_any_window(
        self, rate: Rate, steps: list[tuple[str, str]], pauses: list[float]
    ) -> None:
        engine = create_engine("sqlite://")
        metadata.create_all(engine, [job_limit, job_limit_bucket])
        limits = LimitSet([JobLimit(EACH_QUEUE, Bounds(rate=rate), id=1)])
        starts: dict[str, list[datetime]] = {queue: [] for queue in QUEUES}
        now, alone = NOW, True
        with engine.begin() as connection:
            connection.execute(insert(job_limit).values(id=1, scope="each-queue", updated_at=NOW))
            for number, (what, queue) in enumerate(steps):
                if what == "wait":
                    now += timedelta(seconds=pauses[number % len(pauses)])
                elif what == "old":
                    alone = False
                    if self.start_there(connection, rate, now):
                        starts[queue].append(now)
                elif self.start_here(connection, limits, queue, now):
                    starts[queue].append(now)
                elif alone:
                    assert self.overdraws([*starts[queue], now], rate), "a queue with a token waits"
        engine.dispose()
        for times in starts.values():
            assert not self.overdraws(times, rate)

    @staticmethod
    def start_here(connection: Connection, limits: LimitSet, queue: str, now: datetime) -> bool:
        """Start an attempt as a claim does."""
        known, subject = {1: last(connection)}, Subject("report", queue, None)
        several = limits.with_buckets
        empty = bucket_rows.empty_buckets(connection, several.values(), known, now)
        if covers(Admission(limits, {}, now, empty).closed(), subject):
            return False
        read = bucket_rows.named_buckets(connection, several.values(), known, {1: [queue]})
        admission = Admission(limits, {}, now, {**empty, **read})
        if not admission.admit(subject):
            return False
        bucket_rows.spend(connection, several, admission.taken, read, now)
        return True

    @staticmethod
    def overdraws(times: list[datetime], rate: Rate) -> bool:
        return any(
            last_ - first + 1 > rate.burst + (times[last_] - times[first]) / timedelta(microseconds=rate.interval)
            for first in range(len(times))
            for last_ in range(first, len(times))
        )


class TestMigration:
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        """A ledger of the release before the table."""
        engine = ledger_engine(f"sqlite:///{tmp_path}/ledger.sqlite3")
        migrate(engine, "0022")
        yield engine
        engine.dispose()

    def test_the_limits_of_the_release_before_stay_as_they_are(self, engine: Engine) -> None:
        soon = datetime.now(UTC) + timedelta(hours=1)
        old = {"rate_count": 1, "rate_seconds": 3600, "burst": 1, "full_at": soon, "updated_at": NOW}
        with engine.begin() as connection:
            connection.execute(insert(job_limit), [old | {"scope": "queue:a"}, old | {"scope": "each-organization"}])
        migrate(engine)
        ledger = SqlLedger(engine)
        ledger.insert_many(
            [new_job(queue_name="a", organization_id=None), new_job(), new_job(organization_id=None, queue_name="b")]
        )
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 5)
        assert [claim.job.queue_name for claim in claims] == ["b"], "one bucket of a scope holds for all its names"

    def test_a_table_of_the_application_with_its_name_is_refused(self, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE job_limit_bucket (id integer)"))
        with pytest.raises(MigrationRefused, match="a table `job_limit_bucket`, a name of the ledger's: rename it"):
            migrate(engine)
