"""Eight workers claim at once under limits on PostgreSQL: none is exceeded, and no bucket is overdrawn.

Nothing starts after the commit of a pause. A trigger writes down every start and end, in their order.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import make_url
from tests.contract.ledger import LEASE, new_job, present
from tests.contract.ledger_moves import play
from tests.waiting import eventually, patient

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.limit_scopes import ScopeKind, Subject
from spoke_jobs.contract.retry import DEFAULT_BUDGET, RetryPolicy
from spoke_jobs.ledger.claims import unlimited_jobs
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.unlimited_jobs import UnlimitedClaims
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.limits_and_pauses.limit_cache import LimitCache
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.admission import NOTHING_CLOSED, Bucket, Closed, LimitSet, bucket_of
from spoke_jobs.limits.job_limit import Bounds, JobLimit, Rate, parse_scope
from spoke_jobs.model import Claim, JobOptions, JobState

WORKERS = 8
LASTING = RetryPolicy(budget=DEFAULT_BUDGET | {CauseClass.INFRASTRUCTURE: 10_000}, backoff_seconds=0)
"""However often its worker is lost, the job is tried again at once."""
TYPES = ("report", "mail", "ingest.csv")
KNOWN = ["report", "mail", "ingest.*"]
UP_TO_9 = strategies.integers(1, 9)
SCOPES = (
    *("all", "type:mail", "type:ingest.*", "queue:slow", "organization:1", "key:twilio"),
    *("each-type", "each-queue", "each-organization"),
)
OF_SOME = [scope for scope in SCOPES if scope not in {"all", "each-type"}]
OF_1 = {"organization:1", "each-organization"}
LOCKED = text("""
SELECT count(*) FROM pg_locks WHERE relation = cast('job_limit' AS regclass)
AND granted = :granted AND mode = CASE WHEN :granted THEN 'ExclusiveLock' ELSE 'RowShareLock' END
""")
LOG = """
CREATE TABLE start_log (id bigserial PRIMARY KEY, job_id bigint, started boolean, at timestamptz);;
CREATE FUNCTION log_start() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO start_log (job_id, started, at) VALUES (new.job_id, TG_OP = 'INSERT', clock_timestamp()); RETURN new;
END $$;;
CREATE TRIGGER log_start AFTER INSERT ON job_attempt FOR EACH ROW EXECUTE FUNCTION log_start();;
CREATE TRIGGER log_end AFTER UPDATE OF state ON job_attempt FOR EACH ROW EXECUTE FUNCTION log_start()
"""


class Claiming(RuleBasedStateMachine):
    """See the module. Limits change between the rounds of claims only, so that each start has one right count."""

    engine: ClassVar[Engine]
    pool: ClassVar[ThreadPoolExecutor]

    @initialize()
    def begin(self) -> None:
        """Start with many jobs of all kinds, and no limits."""
        with self.engine.begin() as connection:
            for table in ("queue_lock", "job_attempt", "job_request", "job_limit", "job_event", "start_log"):
                connection.execute(text(f"DELETE FROM {table}"))
        self.ledgers = [SqlLedger(self.engine) for _ in range(WORKERS)]
        self.jobs = {
            job.id: job
            for job in self.ledgers[0].insert_many(
                [
                    new_job(
                        job_type=TYPES[number % 3],
                        queue_name=("", "slow", "quick")[number % 4 % 3],
                        organization_id=(None, 1, 2)[number % 5 % 3],
                        limit_key=(None, "twilio")[number % 6 == 5],
                        locks_queue=number % 4 == 2 and number % 7 == 0,
                        options=JobOptions(retry=LASTING),
                    )
                    for number in range(400)
                ]
            )
        }
        self.held: list[Claim] = []
        self.read = 0
        self.running: Counter[Subject] = Counter()

    @rule(
        scope=strategies.sampled_from(SCOPES),
        most=strategies.none() | strategies.integers(0, 6),
        rate=strategies.none() | strategies.builds(Rate, strategies.integers(5, 100), burst=strategies.integers(1, 4)),
    )
    def limit(self, scope: str, most: int | None, rate: Rate | None) -> None:
        """Set a limit."""
        self.ledgers[0].limits.set(parse_scope(scope), lambda _old: Bounds(most, rate))

    @rule(scope=strategies.sampled_from(SCOPES))
    def pause_or_resume(self, scope: str) -> None:
        """Pause a scope, or end its pause."""
        if not self.ledgers[0].limits.resume(parse_scope(scope)):
            self.ledgers[0].limits.pause(parse_scope(scope), "why")

    @rule(sizes=strategies.lists(strategies.integers(1, 9), min_size=WORKERS, max_size=WORKERS))
    def all_claim(self, sizes: list[int]) -> None:
        """Let all workers claim at once."""
        self.together(sizes, [])

    @rule(
        sizes=strategies.lists(strategies.integers(0, 5), min_size=WORKERS, max_size=WORKERS),
        ends=strategies.floats(0, 1),
    )
    def some_end_and_some_claim(self, sizes: list[int], ends: float) -> None:
        """Let workers end jobs while others claim."""
        count = round(len(self.held) * ends)
        ended, self.held = self.held[:count], self.held[count:]
        self.together(sizes, ended)

    @rule(sizes=strategies.lists(strategies.integers(0, 5), min_size=WORKERS, max_size=WORKERS), count=UP_TO_9)
    def leases_lapse_and_some_claim(self, sizes: list[int], count: int) -> None:
        """Let the leases of some attempts lapse, and let one worker end these while others claim."""
        lost, self.held = self.held[:count], self.held[count:]
        with self.engine.begin() as connection:
            lapse = "UPDATE job_attempt SET lease_expires_at = now() - interval '1 s' WHERE token = ANY(:tokens)"
            connection.execute(text(lapse), {"tokens": [claim.token for claim in lost]})
        self.reaped = 0
        self.together(sizes, [], reaps=True)
        eventually(lambda: self.reap() == len(lost), "all are ended: those that a claim had locked, a moment later")

    def reap(self) -> int:
        """End the attempts whose leases have lapsed; return how many have been since they did."""
        self.reaped += len(self.ledgers[0].reap("legacy"))
        return self.reaped

    @rule()
    def what_may_start_starts(self) -> None:
        """Claim until nothing can be claimed: each job that still waits has a reason."""

        def without_reason() -> list[int]:
            while claims := self.ledgers[0].claim_batch("legacy", KNOWN, "w", LEASE, 50):
                self.held += claims
            queries = Queries(self.engine)
            waiting = [job for job in queries.jobs(list(self.jobs))[1] if job.state is JobState.WAITING]
            held = queries.held(waiting)
            limits = LimitSet(self.ledgers[0].limits.all())
            rated = {job.id for job in waiting for limit, _ in limits.of(Subject.of(job)) if limit.bounds.rate}
            return [job.id for job in waiting if not (job.locks_queue or job.id in held or job.id in rated)]

        eventually(lambda: not without_reason(), state=without_reason)

    def together(self, sizes: list[int], ended: list[Claim], *, reaps: bool = False) -> None:
        """Claim and end at once."""
        gate = threading.Barrier(WORKERS)

        def one(number: int) -> list[Claim]:
            ledger = self.ledgers[number]
            gate.wait(patient(30))
            if reaps and number == 0:
                self.reap()
            for claim in ended[number::WORKERS]:
                ledger.succeed(None, claim.token, None)
            return (
                list(ledger.claim_batch("legacy", KNOWN, f"w{number}", LEASE, sizes[number])) if sizes[number] else []
            )

        for claims in self.pool.map(one, range(WORKERS)):
            self.held += claims

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        """Replay the log: at each start the job's own limits had room."""
        if not hasattr(self, "ledgers"):
            return
        limits = LimitSet(self.ledgers[0].limits.all())
        with self.engine.connect() as connection:
            log = connection.execute(text("SELECT * FROM start_log WHERE id > :read ORDER BY id"), {"read": self.read})
            rows = log.all()
        starts: dict[Bucket, list[Any]] = {}
        for row in rows:
            self.read = row.id
            subject = Subject.of(self.jobs[row.job_id])
            self.running[subject] += 1 if row.started else -1
            if not row.started:
                continue
            for limit, name in limits.of(subject):
                assert limit.pause is None, (limit, subject)
                most = limit.bounds.max_running
                assert most is None or self.count(limits, limit, name) <= most, (limit, name)
                starts.setdefault(bucket_of(limit, name), []).append(row.at)
        for limit in limits.rated:
            for (number, _), times in starts.items():
                if number == limit.id:
                    self.check_rate(limit, times)

    def count(self, limits: LimitSet, limit: JobLimit, name: str) -> int:
        """Count the running jobs that the limit counts under the name."""
        return sum(
            number
            for subject, number in self.running.items()
            if any((other.id, its) == (limit.id, name) for other, its in limits.of(subject))
        )

    @staticmethod
    def check_rate(limit: JobLimit, starts: list[Any]) -> None:
        """Check every window: a start is logged a little after its token was taken."""
        rate = present(limit.bounds.rate)
        for first in range(len(starts)):
            for last in range(first, len(starts)):
                span = starts[last] - starts[first] + timedelta(milliseconds=100)
                assert last - first + 1 <= rate.burst + span / timedelta(microseconds=rate.interval), limit

    def teardown(self) -> None:
        """Without limits every job starts: nothing was lost."""
        if not hasattr(self, "ledgers"):
            return
        ledger = self.ledgers[0]
        for limit in ledger.limits.all():
            ledger.limits.resume(limit.scope)
            ledger.limits.reset(limit.scope)
        assert list(ledger.limits.all()) == []
        ledger.succeed_many({claim.token: None for claim in self.held})
        while claims := ledger.claim_batch("legacy", KNOWN, "w", LEASE, 200):
            ledger.succeed_many({claim.token: None for claim in claims})
        with self.engine.connect() as connection:
            states = connection.execute(text("SELECT DISTINCT state FROM job_request")).scalars().all()
        assert states == [JobState.SUCCEEDED]


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    engine = create_engine(postgres_ledger_url, pool_size=WORKERS + 2)
    yield engine
    engine.dispose()


@pytest.fixture
def logged(engine: Engine) -> Engine:
    """With a table of all starts and ends."""
    with engine.begin() as connection:
        for statement in LOG.split(";;\n"):
            connection.execute(text(statement.replace(":=", r"\:=")))
    return engine


@pytest.mark.parametrize(
    ("examples", "steps"), [(2, 12), pytest.param(40, 30, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_no_limit_is_exceeded_however_many_claim_at_once(logged: Engine, examples: int, steps: int) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        play(type("Machine", (Claiming,), {"engine": logged, "pool": pool}), examples, steps)


def test_nothing_starts_after_the_commit_of_a_pause_and_all_goes_on_after_its_end(logged: Engine) -> None:
    """Without other limits at first, and then beside another one."""
    ledgers = [SqlLedger(logged) for _ in range(WORKERS)]
    ledgers[0].insert_many([new_job() for _ in range(3000)])
    stop = threading.Event()

    def work(ledger: SqlLedger) -> None:
        while not stop.is_set():
            claims = ledger.claim_batch("legacy", KNOWN, "w", LEASE, 3)
            ledger.succeed_many({claim.token: None for claim in claims})

    def starts() -> int:
        with logged.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM start_log WHERE started")) or 0

    with ThreadPoolExecutor(WORKERS) as pool:
        for ledger in ledgers:
            pool.submit(work, ledger)
        try:
            for scope in ("all", "all", "type:report", "type:report"):
                before = starts()
                eventually(lambda before=before: starts() > before)  # type: ignore[misc]
                ledgers[0].limits.pause(parse_scope(scope), "upgrade")
                paused = starts()
                time.sleep(0.05)  # in which an attempt would start
                assert starts() == paused
                ledgers[0].limits.set(parse_scope("organization:99"), lambda _old: Bounds(1))
                ledgers[0].limits.resume(parse_scope(scope))
        finally:
            stop.set()


def test_the_same_in_a_database_with_another_isolation_level(postgres_ledger_url: str) -> None:
    """A claim that reads what was there at its beginning would not see what others have started meanwhile."""
    url = make_url(postgres_ledger_url).update_query_dict({"options": r"-cdefault_transaction_isolation=serializable"})
    engine = create_engine(url, pool_size=WORKERS + 2)
    for options in ({}, {"isolation_level": "AUTOCOMMIT"}, {}):
        with engine.connect().execution_options(**options) as connection:
            begun_with = text("SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_isolation'")
            assert connection.scalar(begun_with) == "serializable"
            assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
    claim_at_once(engine, "type:report")
    engine.dispose()


def claim_at_once(engine: Engine, scope: str) -> None:
    ledgers = [SqlLedger(engine) for _ in range(WORKERS)]
    ledgers[0].insert_many([new_job() for _ in range(200)])
    ledgers[0].limits.set(parse_scope(scope), lambda _old: Bounds(3))
    gate = threading.Barrier(WORKERS)

    def claim(ledger: SqlLedger) -> list[Claim]:
        gate.wait(patient(30))
        return list(ledger.claim_batch("legacy", KNOWN, "w", LEASE, 2))

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in range(6):
            claims = [claim for found in pool.map(claim, ledgers) for claim in found]
            assert len(claims) == 3
            ledgers[0].succeed_many({claim.token: None for claim in claims})


def claimed(ledger: SqlLedger, limit: int = 1) -> list[Claim]:
    return list(ledger.claim_batch("legacy", KNOWN, "w", LEASE, limit))


def test_a_process_that_knows_the_limits_sees_each_change_by_another_at_once(engine: Engine) -> None:
    """Also a change of a limit that is none of its jobs' own until then.

    One that lets an organization's jobs start again is noticed with the next look at whose turn it is.
    """
    ledger, other = SqlLedger(engine), SqlLedger(engine).limits
    ledger.insert_many([new_job(organization_id=number % 4, job_type="mail") for number in range(400)])
    organization, mail = parse_scope("organization:1"), parse_scope("type:mail")
    other.set(parse_scope("organization:99"), lambda _old: Bounds(1))
    for _ in range(2):  # each of these claims knows the change before
        assert len(claimed(ledger, 4)) == 4
        other.pause(organization, "upgrade")
        assert 1 not in {claim.job.organization_id for claim in claimed(ledger, 8)}
        other.resume(organization)
        eventually(lambda: 1 in {claim.job.organization_id for claim in claimed(ledger)})
        other.set(mail, lambda _old: Bounds(0))
        assert claimed(ledger) == []
        other.reset(mail)
        other.declare({mail: Bounds(1)}, "shop")
        assert claimed(ledger) == []
        other.declare({}, "shop")


def test_a_pause_of_all_that_another_thread_reads_during_a_claim_holds_for_it(engine: Engine) -> None:
    ledger, other = SqlLedger(engine), SqlLedger(engine).limits
    ledger.insert_many([new_job() for _ in range(20)])
    other.pause(parse_scope("organization:99"), "upgrade")
    assert len(claimed(ledger, 2)) == 2
    paused = threading.Event()

    def meanwhile(*_: object) -> None:
        if not paused.is_set():
            paused.set()
            other.pause(parse_scope("all"), "upgrade")
            assert claimed(ledger) == []

    event.listen(engine, "checkout", meanwhile)  # the claim knows the limits, and waits for a connection
    assert claimed(ledger, 4) == []
    assert paused.is_set()


def test_a_claim_of_others_waits_for_a_change_in_progress_and_then_claims_nothing(
    engine: Engine, postgres_ledger_url: str
) -> None:
    ledger, cache, other = SqlLedger(engine), LimitCache(), create_engine(postgres_ledger_url)
    ledger.insert_many([new_job() for _ in range(20)])
    ledger.limits.set(parse_scope("organization:99"), lambda _old: Bounds(1))
    with engine.connect() as connection:
        cache.read(connection)
    request = ClaimRequest("legacy", KNOWN, "w", LEASE)
    commits = threading.Event()
    event.listen(other, "commit", lambda _connection: commits.wait(patient(30)))
    with ThreadPoolExecutor(2) as pool, engine.connect() as observer, ledger._single() as connection:

        def claim() -> UnlimitedClaims:
            return unlimited_jobs.claim_unlimited(connection, cache.known, NOTHING_CLOSED, request)

        for _ in range(12):  # it is prepared, with the plan that PostgreSQL keeps
            assert len(claim().claims) == 1
        try:
            change = pool.submit(SqlLimits(other).pause, parse_scope("type:report"), "upgrade")
            eventually(lambda: observer.scalar(LOCKED, {"granted": True}) == 1)
            waiting = pool.submit(claim)
            eventually(lambda: observer.scalar(LOCKED, {"granted": False}) == 1)
        finally:
            commits.set()
        change.result()
        assert waiting.result() == UnlimitedClaims([], 0, 1)
    other.dispose()


def test_the_one_statement_claims_what_no_limit_applies_to(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    jobs = [
        new_job(job_type=job_type, queue_name=queue, organization_id=organization, limit_key=key)
        for job_type in TYPES
        for queue in ("", "slow", "quick")
        for organization in (None, 1, 2)
        for key in (None, "twilio", "carrier")
    ]
    dispatched = ledger.insert_many(jobs)
    request = ClaimRequest("legacy", KNOWN, "w", LEASE, limit=len(jobs))
    for scopes in (*([scope] for scope in OF_SOME), OF_SOME):
        for scope in scopes:
            ledger.limits.set(parse_scope(scope), lambda _old: Bounds(1))
        cache = LimitCache()
        with engine.connect() as connection:
            limits = cache.read(connection)
        free = {job.id for job in dispatched if not any(limits.of(Subject.of(job)))}
        for left_out in (NOTHING_CLOSED, Closed(named=frozenset({(ScopeKind.ORGANIZATION, "1")}))):
            with engine.connect() as connection, connection.begin() as transaction:
                found = unlimited_jobs.claim_unlimited(connection, cache.known, left_out, request)
                transaction.rollback()
            leaves = left_out.named and OF_1 & {*scopes}
            looked_at = [job for job in dispatched if not (leaves and job.organization_id == 1)]
            assert {claim.job.id for claim in found.claims} == free, scopes
            assert (found.candidates, found.limited) == (len(free), len(looked_at) - len(free)), scopes
        for scope in scopes:
            ledger.limits.reset(parse_scope(scope))


def test_claims_beside_a_full_limit_lock_no_limit_and_its_room_is_seen(engine: Engine) -> None:
    """A look takes three statements, which lock no row, and the claim one."""
    ledger = SqlLedger(engine)
    first, second = ledger.insert_many([new_job(limit_key="twilio", priority=9) for _ in range(2)])
    ledger.insert_many([new_job() for _ in range(400)])
    ledger.limits.set(parse_scope("key:twilio"), lambda _old: Bounds(1))
    (running,) = claimed(ledger)
    assert running.job.id == first.id
    assert len(claimed(ledger, 4)) == 4
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))

    def look_and_claim(limit: int = 4) -> list[Claim]:
        ledger._claims._route = replace(ledger._claims._route, look_due=0.0)
        sent.clear()
        return claimed(ledger, limit)

    for _ in range(3):
        assert second.id not in {claim.job.id for claim in look_and_claim()}
        assert [statement.count("UPDATE") for statement in sent][-4:-1] == [0, 0, 0]
        assert sum("INSERT INTO job_attempt" in statement for statement in sent) == 1
        assert not any("job_limit.id IN" in statement for statement in sent)
    ledger.succeed(None, running.token, None)
    eventually(lambda: look_and_claim(1)[0].job.id == second.id)  # a slow search begins behind it, for 0.25 s


def test_a_change_by_hand_in_the_database_is_seen(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    *_, last = ledger.insert_many([new_job() for _ in range(1500)])
    ledger.limits.set(parse_scope("organization:99"), lambda _old: Bounds(0))
    assert len(claimed(ledger, 2)) == 2
    version = ledger.limits.version
    with engine.begin() as connection:
        connection.execute(text("UPDATE job_limit SET max_running = 1, updated_at = now()"))
    eventually(lambda: claimed(ledger) and ledger.limits.version > version)  # also if it concerns none of its jobs
    with engine.begin() as connection:
        connection.execute(text("UPDATE job_limit SET scope = 'type:report', max_running = 0, updated_at = now()"))
    eventually(lambda: claimed(ledger) == [])
    left = present(ledger.get(last.id))
    assert left.state is JobState.WAITING, "the limit holds it back: not all jobs were claimed meanwhile"


@pytest.mark.timeout(120)
def test_a_limit_of_another_release_alone_stops_no_claim(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    jobs = ledger.insert_many([new_job() for _ in range(4)])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO job_limit (scope, max_running, updated_at) VALUES ('zone:eu', 0, now())"))
    assert [claim.job.id for _ in range(2) for claim in claimed(ledger, 2)] == [job.id for job in jobs]
