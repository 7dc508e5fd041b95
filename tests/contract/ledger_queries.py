"""What `why`, `show` and `watch` read: the same answers on each database. Subclass it with a fixture ``ledger``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import Any

import pytest
from sqlalchemy import update
from tests.contract.ledger import FOR_GOOD, LEASE, SHORT, claim_next, claim_one, fail_new, new_job, present, succeed_new
from tests.contract.ledger_reads import EventsContract, StatisticsContract, WaitContract
from tests.sent_statements import sent_statements
from tests.waiting import eventually

from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.claims.eligibility import WithinStartTimeout
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.reading import situations, takers, usage_queries
from spoke_jobs.ledger.reading.crowd import Share
from spoke_jobs.ledger.reading.failure_facts import FailureFacts
from spoke_jobs.ledger.reading.id_bounds import first_since
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.reading.situations import Turns
from spoke_jobs.ledger.reading.statistics import GroupedBy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import ANY_JOB, AttemptUsage, Failure, JobFilter, JobOptions, JobRequest, JobState, Progress

SLOW = JobOptions(retry=RetryPolicy(backoff_seconds=3600))


def start(ledger: SqlLedger, lease: float = LEASE, worker: str = "w") -> JobRequest:
    """Claim the next job."""
    claim = claim_next(ledger, worker=worker, lease=lease)
    return claim.job


class QueriesContract(WaitContract, StatisticsContract, EventsContract):
    """The reads that `spoke-jobs why` and `watch` depend on."""

    @pytest.fixture
    def queries(self, ledger: SqlLedger) -> Queries:
        return Queries(ledger.engine)

    def test_the_database_s_time_has_a_zone(self, queries: Queries) -> None:
        now = queries.now()
        assert now.utcoffset() == timedelta(0)
        assert abs(now - datetime.now(UTC)) < timedelta(hours=1)

    def test_jobs_by_id_in_the_order_of_their_ids(self, ledger: SqlLedger, queries: Queries) -> None:
        first, second, _ = (ledger.insert(new_job()) for _ in range(3))
        now, found = queries.jobs([second.id, 999, first.id])
        assert found == [first, second]
        assert now >= second.created_at

    def test_who_holds_the_queue(self, ledger: SqlLedger, queries: Queries) -> None:
        holder = ledger.insert(new_job(queue_name="q", locks_queue=True))
        waiting = ledger.insert(new_job(queue_name="q", locks_queue=True))
        beside = ledger.insert(new_job(queue_name="q"))
        other = ledger.insert(new_job(queue_name="other", locks_queue=True))
        assert start(ledger, worker="host:1").id == holder.id
        situation = present(queries.situation(waiting.id))
        assert situation.holder is not None
        assert (situation.holder.job_id, situation.holder.worker) == (holder.id, "host:1")
        assert (situation.holder.job_type, situation.holder.queue_name) == ("report", "q")
        assert situation.holder.usual_seconds is None, "no success is known"
        assert timedelta(0) < situation.holder.lease_expires_at - situation.holder.since < timedelta(seconds=LEASE + 1)
        assert situation.holder.percent == 0
        for job in (beside, other):
            situation = present(queries.situation(job.id))
            assert situation.holder is None, "it locks no queue, or another one"

    def test_when_the_holder_of_a_queue_has_reported_progress(self, ledger: SqlLedger, queries: Queries) -> None:
        ledger.insert(new_job(queue_name="q", locks_queue=True))
        waiting = ledger.insert(new_job(queue_name="q", locks_queue=True))
        claim = claim_next(ledger)
        ledger.heartbeat(claim.token, LEASE, Progress(40, "row 400"))
        first = present(queries.situation(waiting.id))
        ledger.heartbeat(claim.token, LEASE)
        second = present(queries.situation(waiting.id))
        assert first.holder is not None
        assert first.holder.percent == 40
        assert first.holder.progressed_at >= first.holder.since
        assert second.holder is not None
        assert second.holder.progressed_at == first.holder.progressed_at, "a heartbeat alone is no progress"
        ledger.insert(new_job(queue_name="q"))  # locks nothing
        running = present(queries.situation(claim.job.id))
        assert (running.holder, running.behind_in_queue, running.more_behind) == (second.holder, 1, False)
        ledger.insert(new_job(queue_name="q", locks_queue=True, run_after=datetime.now(UTC) + timedelta(hours=1)))
        for cap, behind in ((3, (1, False)), (2, (1, True)), (None, (1, False))):
            running = present(queries.situation(claim.job.id, cap))
            assert (running.behind_in_queue, running.more_behind) == behind, "also those that are not due are read"

    def test_what_comes_before_a_job(self, ledger: SqlLedger, queries: Queries) -> None:
        held = ledger.insert(new_job(queue_name="q", locks_queue=True))
        assert start(ledger).id == held.id
        ledger.insert(new_job(queue_name="q", locks_queue=True))  # due, but its queue is held
        ledger.insert(new_job(queue_name="q"))  # locks nothing, and so may run
        ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        ledger.insert(new_job(runner="kubernetes"))
        ledger.insert(new_job(priority=-1))
        mine = ledger.insert(new_job(queue_name="r", locks_queue=True))
        ledger.insert(new_job())
        urgent = ledger.insert(new_job(priority=5, queue_name="r", locks_queue=True))
        situation = present(queries.situation(mine.id))
        assert (situation.ahead, situation.ahead_in_queue) == (2, 1), "the one that locks nothing, and the urgent one"
        assert not situation.more_ahead
        for cap, examined in ((4, (2, 1, False)), (3, (2, 1, True)), (1, (1, 1, True))):
            capped = present(queries.situation(situation.job.id, cap))
            assert (capped.ahead, capped.ahead_in_queue, capped.more_ahead) == examined, cap
        situation = present(queries.situation(urgent.id))
        assert (situation.ahead, situation.ahead_in_queue) == (0, 0)

    def test_what_a_limit_holds_back_lets_the_jobs_behind_it_pass(self, ledger: SqlLedger, queries: Queries) -> None:
        for organization in (3, 7):
            ledger.insert_many([new_job(queue_name="z", locks_queue=True, organization_id=organization)] * 2)
        ledger.insert(new_job())
        mine = ledger.insert(new_job())
        held = ledger.insert(new_job(queue_name="z", locks_queue=True))

        def ahead_of(job: JobRequest) -> tuple[int, int, int]:
            found = present(queries.situation(job.id))
            return found.ahead, found.ahead_in_queue, found.turns.organizations

        assert (ahead_of(mine), ahead_of(held)) == ((3, 0, 1), (4, 2, 1))
        ledger.limits.set(parse_scope("queue:z"), lambda _: Bounds(0), "ann")
        assert (ahead_of(mine), ahead_of(held)) == ((1, 0, 0), (2, 0, 0))
        ledger.limits.pause(parse_scope("all"), "no", "ann")
        assert ahead_of(mine) == (0, 0, 0)

    def test_where_organizations_take_turns_only_its_own_older_jobs_come_before_a_job(
        self, ledger: SqlLedger, queries: Queries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        soon = datetime.now(UTC) + timedelta(hours=1)
        ledger.insert_many([new_job(organization_id=245) for _ in range(30)])
        last_of_many = ledger.insert(new_job(organization_id=245))
        of_few = ledger.insert(new_job(organization_id=7))
        without = ledger.insert(new_job(organization_id=None))
        ledger.insert(new_job(organization_id=8, priority=3))
        ledger.insert(new_job(organization_id=9, priority=-3))
        ledger.insert(new_job(organization_id=10, run_after=soon))
        for job, ahead, turns in (
            (last_of_many, 31, Turns(1, without=True)),
            (of_few, 1, Turns(1, without=True)),
            (without, 1, Turns(2)),
        ):
            situation = present(queries.situation(job.id))
            assert (situation.ahead, situation.turns) == (ahead, turns)
        for cap, ahead, turns, more in (
            (32, 1, Turns(1, more=True), True),
            (33, 1, Turns(1, without=True, more=True), False),
            (35, 1, Turns(1, without=True), False),
        ):
            capped = present(queries.situation(of_few.id, cap))
            assert (capped.ahead, capped.turns, capped.more_ahead) == (ahead, turns, more), cap
        monkeypatch.setattr(situations, "_OF_PRIORITY", 20)
        capped = present(queries.situation(of_few.id, 35))
        assert (capped.ahead, capped.turns, capped.more_ahead) == (1, Turns(1, more=True), False)
        claimed = ledger.claim_batch("legacy", ["report"], "w", LEASE, 4)
        assert {of_few.id, without.id} <= {claim.job.id for claim in claimed}, "they did not wait for the many"

    def test_whose_most_of_the_due_jobs_are(self, ledger: SqlLedger, queries: Queries) -> None:
        ledger.insert_many([new_job(organization_id=245) for _ in range(5)])
        ledger.insert_many([new_job(organization_id=7, job_type="export") for _ in range(3)])
        ledger.insert_many([new_job(organization_id=8, priority=1) for _ in range(2)])
        ledger.insert_many([new_job(organization_id=9, run_after=datetime.now(UTC) + timedelta(hours=1))] * 9)
        start(ledger)
        ledger.claim_batch("legacy", ["report"], "w", LEASE, 4)
        assert queries.crowd(3600).shares == {"legacy": Share("export", 7, 3, 0)}
        assert queries.crowd(3600, JobFilter(job_type="report")).shares == {"legacy": Share("report", 245, 2, 3)}
        assert queries.crowd(3600, JobFilter(job_type="none")).shares == {}
        assert queries.crowd(3600, cap=2).shares == {"legacy": Share("report", 245, 2, 3)}, "these are claimed first"

    def test_workers_that_once_ran_a_type_and_when_the_rules_changed(self, ledger: SqlLedger, queries: Queries) -> None:
        succeed_new(ledger, worker="host:1")
        waiting = ledger.insert(new_job())
        situation = present(queries.situation(waiting.id))
        assert (situation.takers.known_to, situation.takers.rules_since) == ({}, None), "a trace has the type"
        ledger.limits.pause(parse_scope("type:report"), "no", "ann")
        ledger.limits.resume(parse_scope("type:report"), "ann")
        ledger.limits.set(parse_scope("type:report"), lambda _: Bounds(1), "ann")
        with ledger.engine.begin() as connection:
            found = takers.takers_of(connection, "another runner", {"report", "export"})
        assert found.known_to == {"report": frozenset({"host:1"}), "export": frozenset()}
        situation, crowd = queries.situation(waiting.id), queries.crowd(3600)
        assert situation is not None
        assert situation.limited
        assert situation.takers.rules_since is not None
        (only,) = crowd.waiting
        assert crowd.limited == {only.kind}
        assert crowd.first_jobs == {waiting.id: waiting}

    def test_what_runs_and_who_runs_it(self, ledger: SqlLedger, queries: Queries) -> None:
        for _ in range(4):
            ledger.insert(new_job())
        start(ledger, worker="a")
        start(ledger, worker="a")
        start(ledger, SHORT, worker="b")
        mine = ledger.list_jobs(1)[0]

        def lapsed() -> bool:
            situation = queries.situation(mine.id)
            return situation is not None and [
                (load.worker, load.running, load.lapsed) for load in situation.takers.load
            ] == [
                ("a", 2, 0),
                ("b", 1, 1),
            ]

        eventually(lapsed)
        situation = present(queries.situation(mine.id))
        assert all(load.heartbeat_at <= situation.now for load in situation.takers.load)

    def test_what_the_newest_successes_of_each_type_used(self, ledger: SqlLedger, queries: Queries) -> None:
        """A type's newest successes are read; other filters select among these."""
        types = ["report", "report", "report", "ingest.csv", "ingest.xml", "mail"]
        for number, name in enumerate(types):
            if name == "mail":
                fail_new(ledger, job_type=name)
            else:
                used = AttemptUsage(number, number + 1, number + 2)
                succeed_new(ledger, used, job_type=name, organization_id=number)

        def found(**filters: Any) -> dict[str, list[int | None]]:
            of_types = queries.usage_by_type(JobFilter(**filters))
            return {one.job_type: [usage.peak_memory_bytes for usage in one.usages] for one in of_types}

        assert found() == {"ingest.csv": [3], "ingest.xml": [4], "report": [2, 1, 0]}
        assert found(job_type="ingest.*") == {"ingest.csv": [3], "ingest.xml": [4]}
        assert found(job_type="report", organization_id=1) == {"report": [1]}
        assert found(job_type="mail") == {}
        (csv,) = queries.usage_by_type(JobFilter(job_type="ingest.csv"))
        assert (csv.options, csv.usages) == (new_job().options, (AttemptUsage(3, 4, 5),))

    def test_how_long_a_job_that_holds_a_lock_usually_takes(self, ledger: SqlLedger, queries: Queries) -> None:
        for seconds in (9.0, 2.0, 3.0):
            succeed_new(ledger, AttemptUsage(None, None, int(seconds * 1000)))
        holder, waiting = (ledger.insert(new_job(queue_name="q", locks_queue=True)) for _ in range(2))
        start(ledger)
        situation = present(queries.situation(waiting.id))
        assert situation.holder is not None
        assert situation.holder.usual_seconds == 3.0
        assert queries.crowd(3600).holders == {holder.id: situation.holder}

    def test_the_newest_successes_of_several_types_are_read_at_once(
        self, ledger: SqlLedger, queries: Queries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """How long they usually take, of the jobs that hold locks, and who ran them, of those that wait."""
        monkeypatch.setattr(usage_queries, "_USUAL_OF", 4)
        monkeypatch.setattr(takers, "_SUCCESSES", 4)
        random, types = Random(7), ("export", "mail", "report", "x'%*\u20ac")
        took: dict[str, list[float]] = {}
        ran: dict[str, list[str]] = {}
        for name in random.choices(types[1:], k=30):
            worker, milliseconds = f"w{random.randrange(9)}", random.choice([None, *range(9)])
            succeed_new(ledger, AttemptUsage(None, None, milliseconds), worker, job_type=name)
            ran.setdefault(name, []).append(worker)
            took.setdefault(name, []).append(-1 if milliseconds is None else milliseconds / 1000)
        with ledger.engine.begin() as connection, sent_statements(ledger.engine) as sent:
            usual = usage_queries.usual_seconds(connection, [*types, *types])
            known_to = takers.takers_of(connection, "another runner", types).known_to
        measured = {name: [each for each in took[name][-4:] if each >= 0] for name in types[1:]}
        assert usual == {name: median(times) for name, times in measured.items() if len(times) >= 3}
        assert known_to == {name: frozenset(ran.get(name, [])[-4:]) for name in types}
        looks = [text for text in sent if "'succeeded' AND length(" in text]
        postgresql = ledger.engine.dialect.name == "postgresql"
        assert len(looks) == 2 * (1 if postgresql else len(types)), "for the times and for the workers"
        with ledger.engine.begin() as connection, sent_statements(ledger.engine) as sent:
            assert usage_queries.usual_seconds(connection, ()) == {}
        assert sent == []

    @pytest.mark.parametrize("disorder", [0, 5], ids=["in order", "some out of order"])
    def test_a_binary_search_finds_from_which_id_on_rows_are_as_young(
        self, ledger: SqlLedger, queries: Queries, disorder: int
    ) -> None:
        """In one statement. Ids have gaps, also before the first and after the last one."""
        random, begin = Random(disorder), datetime(2026, 3, 1, tzinfo=UTC)
        times = {
            number: begin + timedelta(minutes=10 * place + random.randint(0, disorder) * 10, microseconds=number)
            for place, number in enumerate(sorted(random.sample(range(-50, 400), 60)))
        }
        given = [ledger.insert(new_job()).id for _ in times]
        with ledger.engine.begin() as connection:
            for old, (new, at) in zip(given, times.items(), strict=True):
                changed = {"id": 1_000 + new, "created_at": at}
                connection.execute(update(job_request).where(job_request.c.id == old).values(changed))
        ids = {1_000 + number: at for number, at in times.items()}

        def expected(time: datetime, below: int, end: int) -> int:
            while below < end:
                middle = (below + end) // 2
                found = min((number for number in ids if number >= middle), default=None)
                if found is None or ids[found] >= time:
                    end = middle
                else:
                    below = found + 1
            return below

        columns = (job_request.c.id, job_request.c.created_at)
        lowest, highest = min(ids), max(ids)
        with ledger.engine.begin() as connection, sent_statements(ledger.engine) as sent:
            for time in (*ids.values(), begin - timedelta(days=1), begin + timedelta(days=9, microseconds=1)):
                for at in (time, time + timedelta(microseconds=1)):
                    found = first_since(connection, columns, at, lowest, highest)
                    assert found == expected(at, lowest, highest + 1)
                    if not disorder:
                        assert all((number >= found) == (each >= at) for number, each in ids.items())
        assert len(sent) == 2 * (len(ids) + 2)
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).where(job_request.c.id == highest).values(id=LARGEST_ID))
            young, old = (begin + timedelta(days=days) for days in (9, -9))
            assert first_since(connection, columns, young, lowest, LARGEST_ID) == LARGEST_ID, "there is no later id"
            assert first_since(connection, columns, old, lowest, LARGEST_ID) == lowest
            assert first_since(connection, columns, old, -LARGEST_ID, LARGEST_ID) <= lowest

    def test_what_ran_before_newest_first(self, ledger: SqlLedger, queries: Queries) -> None:
        ledger.insert(new_job(priority=3, queue_name="q", locks_queue=True))
        ledger.insert(new_job(job_type="other"))
        ledger.insert(new_job(runner="kubernetes", job_type="pod"))
        mine = ledger.insert(new_job(job_type="mine"))
        claims = [claim_one(ledger, "legacy", ["report", "other"], "w", LEASE) for _ in range(2)]
        assert claim_one(ledger, "kubernetes", ["pod"], "p", LEASE) is not None
        assert claims[0] is not None
        ledger.succeed(None, claims[0].token, None)
        situation = present(queries.situation(mine.id))
        assert [(trace.job_type, trace.priority, trace.locks_queue) for trace in situation.takers.traces] == [
            ("other", 0, False),
            ("report", 3, True),
        ]
        assert situation.takers.traces[0].finished_at is None
        assert situation.takers.traces[1].finished_at is not None

    def test_a_job_that_runs_comes_with_its_attempts_alone(self, ledger: SqlLedger, queries: Queries) -> None:
        job = ledger.insert(new_job())
        ledger.fail(claim_next(ledger).token, Failure("JobError", "no", output_tail="the tail"), decide=True)
        start(ledger)
        situation = present(queries.situation(job.id))
        assert situation.job.state is JobState.RUNNING
        assert [attempt.cause for attempt in situation.attempts] == ["JobError", ""]
        assert situation.attempts[0].output_tail == "the tail"
        assert situation.takers.traces == ()

    def test_waiting_jobs_are_counted_by_kind(self, ledger: SqlLedger, queries: Queries) -> None:
        soon = datetime.now(UTC) + timedelta(hours=1)
        holder = ledger.insert(new_job(queue_name="q", locks_queue=True))
        start(ledger, worker="host:1")
        behind = [ledger.insert(new_job(queue_name="q", locks_queue=True)) for _ in range(3)]
        ledger.insert(new_job(queue_name="q"))
        ledger.insert(new_job(queue_name="other", locks_queue=True))
        later = ledger.insert(new_job(run_after=soon))
        ledger.insert(new_job(after=(holder.id,)))
        in_cluster = ledger.insert(new_job(runner="kubernetes", job_type="export", priority=5))
        crowd = queries.crowd(3600)
        assert [each.count for each in crowd.waiting if each.kind.blocked] == [1]
        counts = [each for each in crowd.waiting if not each.kind.blocked]
        found = {(each.kind.holder, each.kind.later, each.kind.job_type): each for each in counts}
        assert {key: each.count for key, each in found.items()} == {
            (holder.id, False, "report"): 3,
            (None, False, "report"): 2,
            (None, True, ""): 1,
            (None, False, ""): 1,
        }, "the type is of interest only if a worker could start the jobs"
        first = found[holder.id, False, "report"]
        assert (first.first_id, first.oldest_at) == (behind[0].id, behind[0].created_at)
        assert found[None, True, ""].oldest_at == later.run_after
        assert (found[None, False, ""].kind.priority, found[None, False, ""].first_id) == (5, in_cluster.id)
        assert (crowd.holders[holder.id].worker, crowd.takers["legacy"].load[0].running) == ("host:1", 1)
        assert [trace.job_id for trace in crowd.takers["legacy"].traces] == [holder.id]
        kinds = {job.id: job.kind for job in queries.waiting()}
        assert kinds[behind[1].id] == first.kind
        assert len(kinds) == 8

    def test_a_condition_of_claims_that_does_not_hold(self, ledger: SqlLedger, queries: Queries) -> None:
        late, retried, in_cluster, later = (
            ledger.insert(new_job(options=JobOptions(start_timeout_seconds=60), **changes))
            for changes in ({}, {}, {"runner": "kubernetes"}, {"run_after": datetime(2100, 1, 1, tzinfo=UTC)})
        )
        in_time = ledger.insert(new_job(options=JobOptions(start_timeout_seconds=60)))
        with ledger.engine.begin() as connection:
            expired = update(job_request).where(job_request.c.id != in_time.id).values(start_by=clock_after(-1))
            connection.execute(expired)
            connection.execute(update(job_request).where(job_request.c.id == retried.id).values(attempt=1))
        unmet = {
            job.id: situation.unmet
            for job in (late, retried, in_cluster, in_time)
            if (situation := queries.situation(job.id)) is not None
        }
        assert unmet == {late.id: WithinStartTimeout.unmet, retried.id: None, in_cluster.id: None, in_time.id: None}
        kinds = {job.id: job.kind.unmet for job in queries.waiting()}
        assert kinds == dict.fromkeys((retried.id, in_cluster.id, later.id, in_time.id), "") | {
            late.id: "WithinStartTimeout"
        }
        crowd = queries.crowd(3600)
        assert {number for number, job in crowd.first_jobs.items() if job.id == late.id} == set(), "no worker starts it"
        assert sum(each.count for each in crowd.waiting if each.kind.unmet) == 1

    def test_of_a_text_that_is_too_long_the_beginning_is_read(self, ledger: SqlLedger, queries: Queries) -> None:
        ledger.insert(new_job())
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).values(job_type="x" * 20_000))
        for cap in (None, 10):
            (each,) = queries.crowd(3600, cap=cap).waiting
            assert each.kind.job_type == "x" * 2_000

    def test_waiting_jobs_that_a_limit_holds_back(self, ledger: SqlLedger, queries: Queries) -> None:
        for organization in (1, 1, 2):
            ledger.insert(new_job(organization_id=organization))
        ledger.limits.pause(parse_scope("organization:1"), "they asked", by="ann")
        crowd = queries.crowd(3600)
        found = {each.kind.subject.organization_id: (each.count, crowd.held.get(each.kind)) for each in crowd.waiting}
        assert (found[1][0], found[None]) == (2, (1, None))
        assert found[1][1] is not None
        assert (found[1][1].code, found[1][1].by) == ("Paused", "ann")

    def test_waiting_jobs_differ_by_what_limits_name_alone(self, ledger: SqlLedger, queries: Queries) -> None:
        """Else each of 10,000 organizations would be counted apart."""
        for organization, queue in ((1, "a"), (2, "a"), (3, "b"), (3, "c"), (None, "")):
            ledger.insert(new_job(organization_id=organization, queue_name=queue))

        def counted() -> dict[tuple[int | None, str], int]:
            waiting = queries.crowd(3600).waiting
            return {(each.kind.subject.organization_id, each.kind.subject.queue_name): each.count for each in waiting}

        assert counted() == {(None, ""): 5}
        ledger.limits.pause(parse_scope("organization:1"), "they asked")
        ledger.limits.pause(parse_scope(f"organization:{10**17}"), "no job can have this one")
        assert counted() == {(1, ""): 1, (None, ""): 4}
        ledger.limits.pause(parse_scope("queue:a"), "it is down")
        assert counted() == {(1, "a"): 1, (None, "a"): 1, (None, ""): 3}
        ledger.limits.pause(parse_scope("each-organization"), "they asked")
        assert counted() == {(1, "a"): 1, (2, "a"): 1, (3, ""): 2, (None, ""): 1}

    def test_failures_are_counted_by_cause_and_fingerprint(self, ledger: SqlLedger, queries: Queries) -> None:
        for job_type, place, for_good in (
            ("report", "a", True),
            ("export", "a", True),
            ("report", "a", True),
            ("report", "b", True),
            ("report", "b", False),
        ):
            failure = Failure("JobError", fingerprint=f"KeyError@{place}", for_good=for_good)
            fail_new(ledger, failure, job_type=job_type, options=SLOW)
        crowd = queries.crowd(3600)
        found = sorted(crowd.failed, key=lambda each: each.fingerprint)
        assert [(each.cause, each.fingerprint, each.count, each.types) for each in found] == [
            ("JobError", "KeyError@a", 3, 2),
            ("JobError", "KeyError@b", 1, 1),
        ]
        assert [each.job_type for each in found] == ["export", "report"]
        assert found[0].newest_at >= found[0].oldest_at
        (waiting,) = crowd.waiting
        assert (waiting.kind.later, waiting.kind.cause, waiting.kind.fingerprint) == (True, "JobError", "KeyError@b")
        assert queries.crowd(0).failed == ()

    def test_what_the_failed_jobs_of_each_group_say(self, ledger: SqlLedger, queries: Queries) -> None:
        succeeded = queries.jobs([succeed_new(ledger).id])[1][0].finished_at
        ids = {}
        killed = Failure("Killed", "x" * 900, "SIGSEGV", for_good=True)
        for error in (
            *(killed, killed, killed),
            Failure("DatabaseUnreachable", "connection refused", "OperationalError", fingerprint="E@shop.f"),
        ):
            ids[error.cause] = fail_new(ledger, error, options=SLOW).id
        found = queries.crowd(3600).facts
        assert found == {
            ids["Killed"]: FailureFacts("x" * 500, "SIGSEGV", succeeded, Executor.WORKERS),
            ids["DatabaseUnreachable"]: FailureFacts(
                "connection refused", "OperationalError", executor=Executor.WORKERS
            ),
        }
        succeed_new(ledger, AttemptUsage(7, None, None))
        large = fail_new(ledger, Failure("OutOfMemory", "too large", for_good=True))
        assert queries.crowd(3600).facts[large.id].peaks == (7,)
        of_one = queries.crowd(3600, most=1).facts.keys()
        assert of_one == {ids["Killed"], ids["DatabaseUnreachable"]}, "the first of the groups that fail for good"
        assert large.organization_id is not None
        theirs = queries.crowd(3600, JobFilter(organizations=frozenset({large.organization_id}))).facts[large.id]
        assert (theirs.message, theirs.peaks, theirs.last_success_at) == ("too large", (), None), "others have the type"

    def test_of_jobs_that_are_tried_again_after_one_failure_the_first_says_why(
        self, ledger: SqlLedger, queries: Queries
    ) -> None:
        first, second = (ledger.insert(new_job(priority=priority)) for priority in (0, 5))
        for _ in (first, second):
            claim = claim_next(ledger)
            failure = Failure("DatabaseUnreachable", f"of {claim.job.id}", fingerprint="E@shop.f")
            assert ledger.fail(claim.token, failure, decide=True)
        crowd = queries.crowd(3600)
        assert len(crowd.waiting) == 2, "they have several priorities"
        assert {job_id: facts.message for job_id, facts in crowd.facts.items()} == {first.id: f"of {first.id}"}

    def test_the_batch_whose_failed_jobs_kept_a_job_from_being_started(
        self, ledger: SqlLedger, queries: Queries
    ) -> None:
        batch = ledger.open_batch("march", new_job(job_type="summary"))
        ledger.insert(new_job(batch_id=batch.id))
        ledger.close_batch(batch.id)
        ledger.fail(claim_next(ledger).token, FOR_GOOD, decide=True)
        ledger.settle()
        assert batch.then_id is not None
        found = present(queries.crowd(3600).facts[batch.then_id].batch)
        assert found.id == batch.id

    def test_who_has_retried_the_job_behind_a_batch(self, ledger: SqlLedger, queries: Queries) -> None:
        batch = ledger.open_batch("march", new_job(job_type="summary"))
        job = ledger.insert(new_job(batch_id=batch.id))
        ledger.close_batch(batch.id)
        ledger.cancel(job.id)
        ledger.settle()
        ledger.retry(job.id, "grace@desk")
        found = [
            (event.actor, event.job_id, event.detail) for event in queries.events(which=EventFilter(action="retry"))
        ]
        assert found == [
            ("grace@desk", batch.then_id, f"run 2, with job {job.id}"),
            ("grace@desk", job.id, f"run 2, unfinished again in batch {batch.id}"),
        ]

    def test_the_last_failure_is_the_one_that_happened_last(self, ledger: SqlLedger, queries: Queries) -> None:
        """A job that is retried keeps its id, so that the job with the highest id may have failed before it."""
        last: dict[str, int] = {}
        for place in ("KeyError@a", "KeyError@b"):
            for ago_seconds in (300, 60, 120):
                job = fail_new(ledger, Failure("JobError", fingerprint=place, for_good=True))
                with ledger.engine.begin() as connection:
                    ended = update(job_request).where(job_request.c.id == job.id)
                    connection.execute(ended.values(finished_at=clock_after(-ago_seconds)))
                if ago_seconds == 60:
                    last[place] = job.id
        for found in (queries.crowd(3600).failed, queries.crowd(3600, cap=9).failed):
            assert {each.fingerprint: (each.newest_id, each.count) for each in found} == {
                place: (job_id, 3) for place, job_id in last.items()
            }

    @pytest.mark.parametrize("state", [JobState.WAITING, JobState.BLOCKED, JobState.RUNNING])
    def test_who_has_suspended_a_job_and_why(self, ledger: SqlLedger, queries: Queries, state: JobState) -> None:
        first = ledger.insert(new_job())
        job = ledger.insert(new_job(after=(first.id,))) if state is JobState.BLOCKED else first
        if state is JobState.RUNNING:
            start(ledger)
        ledger.suspend(job.id, "earlier", "grace@desk"), ledger.resume(job.id, "grace@desk")
        before = present(queries.situation(job.id))
        assert before.suspension == ("", "")
        ledger.suspend(job.id, "wait for the import", "ada@laptop")
        found = present(queries.situation(job.id))
        assert (found.job.state, found.suspension) == (state, ("ada@laptop", "wait for the import"))

    def test_a_job_is_not_due_before_its_dispatch(self, ledger: SqlLedger, queries: Queries) -> None:
        job = ledger.insert(new_job(run_after=datetime.now(UTC) - timedelta(days=1)))
        since = {
            "row": job.due_at,
            "statistics": queries.statistics(GroupedBy.TYPE, 3600, ANY_JOB).total.oldest_due_at,
            "why": queries.crowd(3600).waiting[0].oldest_at,
        }
        assert since == dict.fromkeys(since, job.created_at)
        assert ledger.backlog("legacy")["oldest"] < 3600
        claim = claim_next(ledger)
        assert claim.due_at == job.created_at

    def test_suspended_jobs_are_not_due(self, ledger: SqlLedger, queries: Queries) -> None:
        held, free, last = (ledger.insert(new_job()) for _ in range(3))
        ledger.suspend(held.id)
        assert ledger.backlog("legacy")["due"] == 2
        situation = present(queries.situation(last.id))
        assert situation.ahead == 1
        crowd = queries.crowd(3600)
        assert {count.kind.suspended: count.count for count in crowd.waiting} == {True: 1, False: 2}
        assert (crowd.shares["legacy"].waiting, crowd.first_jobs.keys()) == (2, {free.id})
        ledger.suspend(free.id), ledger.suspend(last.id)
        assert queries.statistics(GroupedBy.TYPE, 3600, ANY_JOB).total.oldest_due_at is None
