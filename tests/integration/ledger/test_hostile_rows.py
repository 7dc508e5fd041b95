"""Rows with values that only other code writes: each is its own job's problem, and all others go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import pytest
from tests.contract.ledger import LEASE, SHORT, new_job, present
from tests.integration.ledger.hostile_rows import BOTH, LARGEST, POSTGRESQL, claimed, end_of, ledger, two, write
from tests.waiting import eventually

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.limit_scopes import ScopeKind, Subject
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.ledger.claims import single_claim
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.columns.clock import LONGEST_WAIT_SECONDS
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.outbox.outbox_queries import ANY_TASK, OutboxQueries
from spoke_jobs.ledger.outbox.task_outbox import Outbox, TaskFailure, insert_task
from spoke_jobs.ledger.port import AttemptOver, NotThisAttempt
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.reading.statistics import GroupedBy
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.job_limit import changed_bounds, parse_scope
from spoke_jobs.model import ANY_JOB, AttemptState, Claim, Failure, JobFilter, JobOptions, JobState
from spoke_jobs.settings import LONGEST_LEASE_SECONDS

__all__ = ["ledger"]
NEW_ATTEMPT = """
INSERT INTO job_attempt (job_id, run, number, state, worker, claimed_at, heartbeat_at, lease_expires_at, token)
VALUES (:id, 1, :number, :state, 'w', '2026-01-01 00:00:00', '2026-01-01 00:00:00', :until,
    '0a1b2c3d000040008000000000000000')
"""
BROKEN = JobState.FAILED, "Undiagnosable"
DEEP = "[" * 3000 + "]" * 3000


@BOTH
def test_limits_that_cannot_be_read_stop_no_claim_and_hide_no_other(ledger: SqlLedger) -> None:
    first, second = two(ledger)
    for number, declared in enumerate(["7", "[1]", '"x"', "true", '{"rate": 7}', '{"maxRunning": "x"}', DEEP]):
        new = "INSERT INTO job_limit (scope, max_running, declared, updated_at) VALUES (:scope, 1, :declared, :now)"
        write(ledger, new, scope=f"queue:{number}", declared=declared, now="2026-01-01 00:00:00")
    ledger.limits.set(parse_scope("type:report"), lambda bounds: changed_bounds(bounds, 1))
    assert parse_scope("type:report") in {limit.scope for limit in ledger.limits.all()}
    assert claimed(ledger) == {first: 1}
    assert end_of(ledger, second)[0] is JobState.WAITING


@BOTH
def test_an_attempt_whose_number_is_taken_gets_the_next_one(ledger: SqlLedger) -> None:
    broken, good = two(ledger)
    write(ledger, NEW_ATTEMPT, id=broken, number=1, state="failed", until="2026-01-01 00:00:00")
    assert claimed(ledger) == {broken: 2, good: 1}


@BOTH
@pytest.mark.parametrize("locks", [False, True])
def test_a_job_that_waits_while_its_attempt_runs_is_taken_for_running(ledger: SqlLedger, locks: bool) -> None:
    broken, good = two(ledger)
    if locks:
        write(ledger, "UPDATE job_request SET locks_queue = true, queue_name = 'q'")
    write(ledger, NEW_ATTEMPT, id=broken, number=1, state="running", until="2026-01-01 00:00:00")
    assert claimed(ledger) == {good: 1}
    assert end_of(ledger, broken)[0] is JobState.RUNNING
    assert [job.id for job in ledger.reap("legacy")] == [broken], "its lease has lapsed"
    assert end_of(ledger, broken) == (JobState.WAITING, "WorkerLost")


def test_a_job_that_runs_without_an_attempt_can_be_cancelled_and_retried(ledger: SqlLedger) -> None:
    """Its process would see no request for a cancellation, because there is none."""
    for runner in ("legacy", "kubernetes"):
        stuck, _ = two(ledger, runner)
        write(ledger, "UPDATE job_request SET state = 'running', attempt = 1 WHERE id = :id", id=stuck)
        ledger.cancel(stuck)
        assert end_of(ledger, stuck) == (JobState.FAILED, "Cancelled")
        assert ledger.retry(stuck) is not None
        assert end_of(ledger, stuck) == (JobState.WAITING, "")


def test_a_running_job_whose_attempt_other_code_has_ended_can_be_cancelled(ledger: SqlLedger) -> None:
    job_id, _ = two(ledger)
    claimed(ledger)
    ledger.cancel(job_id)
    assert end_of(ledger, job_id)[0] is JobState.RUNNING, "its process is asked to stop"
    write(ledger, "UPDATE job_attempt SET state = 'succeeded'")
    write(ledger, "UPDATE job_request SET cancel_requested_at = NULL")
    ledger.cancel(job_id)
    assert end_of(ledger, job_id) == (JobState.FAILED, "Cancelled")


def test_the_next_pod_of_a_job_that_runs_without_an_attempt_runs_it(ledger: SqlLedger) -> None:
    stuck, _ = two(ledger, "kubernetes")
    write(ledger, "UPDATE job_request SET state = 'running', attempt = 1 WHERE id = :id", id=stuck)
    job = present(ledger.get(stuck))
    assert ledger.claim(stuck, job.uid, 1, 1, "pod", LEASE) == NotThisAttempt()
    claim = ledger.claim(stuck, job.uid, 1, 2, "pod", LEASE)
    assert isinstance(claim, Claim)
    ledger.succeed(None, claim.token, None)
    assert end_of(ledger, stuck)[0] is JobState.SUCCEEDED


@pytest.mark.parametrize(("state", "answer"), [("succeeded", NotThisAttempt), ("failed", AttemptOver)])
def test_a_pod_whose_attempt_s_number_is_taken_ends_and_the_next_one_runs(
    ledger: SqlLedger, state: str, answer: type
) -> None:
    broken, _ = two(ledger, "kubernetes")
    write(ledger, NEW_ATTEMPT, id=broken, number=1, state=state, until="2026-01-01 00:00:00")
    job = present(ledger.get(broken))
    assert isinstance(ledger.claim(broken, job.uid, 1, 1, "pod", LEASE), answer)
    assert isinstance(ledger.claim(broken, job.uid, 1, 2, "pod", LEASE), Claim)


@BOTH
def test_a_job_with_too_many_attempts_ends(ledger: SqlLedger) -> None:
    broken, good = two(ledger)
    number = LARGEST if ledger.engine.dialect.name == "postgresql" else 2**63 - 1
    write(ledger, "UPDATE job_request SET attempt = :n WHERE id = :id", n=number, id=broken)
    write(ledger, NEW_ATTEMPT, id=broken, number=number, state="failed", until="2026-01-01 00:00:00")
    assert claimed(ledger) == {good: 1}
    assert end_of(ledger, broken) == BROKEN
    assert claimed(ledger) == {}


@BOTH
def test_options_that_the_database_cannot_convert_to_text_keep_no_end_from_being_recorded(ledger: SqlLedger) -> None:
    options = [r'{"a": "\u0000"}', r'{"a": "\ud800", "retentionSeconds": 7}']
    ids = [ledger.insert(new_job()).id for _ in range(3)]

    def spoil(jobs: list[int]) -> None:
        for job_id, text in zip(jobs, options, strict=True):
            write(ledger, "UPDATE job_request SET options = :options WHERE id = :id", options=text, id=job_id)

    spoil(ids[:2])
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    assert len(ledger.succeed_many({claim.token: None for claim in claims})) == 3
    failing = [ledger.insert(new_job()).id for _ in options]
    spoil(failing)
    for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 9):
        assert ledger.fail(claim.token, Failure("JobError", "x", for_good=True), decide=True)
    assert [end_of(ledger, job_id)[0].final for job_id in (*ids, *failing)] == [True] * 5
    assert all(ledger.retry(job_id) is not None for job_id in failing)


@BOTH
def test_a_number_in_the_options_is_found_wherever_it_is(ledger: SqlLedger) -> None:
    (first, second), third = two(ledger), ledger.insert(new_job()).id
    for job_id, options in (
        (first, '{"x": {"y": ["\\"retentionSeconds\\":5,"]}, "retentionSeconds" : 7.5}'),
        (second, '{"retentionSeconds":1e-05,"x":1}'),
        (third, '{"retentionSeconds":"9","x":1}'),
    ):
        write(ledger, "UPDATE job_request SET options = :options WHERE id = :id", options=options, id=job_id)
    claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    ledger.succeed_many({claim.token: None for claim in claims})
    kept = {}
    for job in ledger.list_jobs():
        assert job.expires_at is not None
        assert job.finished_at is not None
        kept[job.id] = round((job.expires_at - job.finished_at).total_seconds())
    assert kept == {first: pytest.approx(7.5, abs=0.6), second: 0, third: 7 * 86_400}


@BOTH
def test_a_retry_of_the_last_run_there_can_be_is_one_more_try(ledger: SqlLedger) -> None:
    broken, _ = two(ledger)
    ledger.cancel(broken)
    write(ledger, "UPDATE job_request SET run = :n WHERE id = :id", n=LARGEST, id=broken)
    assert ledger.retry(broken) is not None
    assert claimed(ledger)[broken] == 1


@BOTH
def test_a_job_that_other_code_has_ended_stays_ended_when_its_lease_lapses(ledger: SqlLedger) -> None:
    (succeeded, failed), good = two(ledger), ledger.insert(new_job()).id
    claimed(ledger, SHORT)
    for job_id, state in ((succeeded, JobState.SUCCEEDED), (failed, JobState.FAILED)):
        write(ledger, "UPDATE job_request SET state = :state WHERE id = :id", state=state.value, id=job_id)
    found: set[int] = set()

    def all_are_reaped() -> bool:
        found.update(job.id for job in ledger.reap("legacy"))
        return len(found) == 3

    eventually(all_are_reaped)
    states = [end_of(ledger, job_id)[0] for job_id in (succeeded, failed, good)]
    assert states == [JobState.SUCCEEDED, JobState.FAILED, JobState.WAITING]


@BOTH
def test_the_priorities_at_the_ends_of_their_type_hide_no_reason_of_other_jobs(ledger: SqlLedger) -> None:
    (highest, lowest), good = two(ledger), ledger.insert(new_job()).id
    priorities = {highest: LARGEST + 1, lowest: -LARGEST, good: 0}
    for job_id, priority in priorities.items():
        write(ledger, "UPDATE job_request SET rank = :rank WHERE id = :id", rank=-priority, id=job_id)
    queries = Queries(ledger.engine)
    found = {count.first_id: count.kind.priority for count in queries.crowd(60.0).waiting}
    assert found == {waiting.id: waiting.kind.priority for waiting in queries.waiting()} == priorities
    assert all(queries.situation(job_id) for job_id in priorities)
    assert claimed(ledger) == dict.fromkeys(priorities, 1)
    situation = present(queries.situation(ledger.insert(new_job()).id))
    assert {trace.priority for trace in situation.takers.traces} == {*priorities.values()}


@POSTGRESQL
def test_a_time_without_end_stops_no_count(ledger: SqlLedger) -> None:
    for column in ("created_at", "run_after", "start_by", "updated_at"):
        for moment in ("infinity", "-infinity"):
            write(ledger, "DELETE FROM job_request")
            broken, _ = two(ledger, "kubernetes")
            write(ledger, f"UPDATE job_request SET {column} = '{moment}' WHERE id = :id", id=broken)
            with ledger.engine.connect() as connection:
                count, oldest = syncing.backlog(connection)
                assert count in (1, 2)
                assert 0 <= oldest <= LONGEST_WAIT_SECONDS
                assert len(syncing.unlaunched(connection, 0.0, [], 9)) in (1, 2)
            found = ledger.backlog("kubernetes")
            assert found["due"] in (1, 2)
            assert 0 <= found["oldest"] <= LONGEST_WAIT_SECONDS
            for by in GroupedBy:
                assert Queries(ledger.engine).statistics(by, 3600, ANY_JOB).total.waiting == 2


@POSTGRESQL
@pytest.mark.parametrize(("state", "moment"), [("succeeded", "infinity"), ("failed", "-infinity")])
def test_a_time_without_end_stops_no_chart(ledger: SqlLedger, state: str, moment: str) -> None:
    columns = ("created_at", "run_after", "started_at", "finished_at")
    for number in range(len(columns) + 1):
        job = ledger.insert(new_job(organization_id=1))
        write(ledger, NEW_ATTEMPT.replace("0a1b", f"0a{number}b"), id=job.id, number=1, state=state, until="2026-01-01")
        ended = f"attempt = 1, cause = 'JobError', started_at = now(), finished_at = now(), state = '{state}'"
        write(ledger, f"UPDATE job_request SET {ended} WHERE id = :id", id=job.id)
        if number < len(columns):
            write(ledger, f"UPDATE job_request SET {columns[number]} = '{moment}' WHERE id = :id", id=job.id)
    queries = DashboardQueries(ledger.engine)
    for which in (ANY_JOB, JobFilter(organizations=frozenset({1}))):
        for period in PERIODS.values():
            ended_jobs = queries.ended(which, period)
            assert sum(ended_jobs.succeeded) + sum(ended_jobs.failed) == len(columns), "all but one without an end"
            assert [sum(numbers) for numbers in queries.failed_by_time(period, which, {("JobError", "")}).values()] in (
                [],
                [len(columns)],
            )


@POSTGRESQL
def test_a_time_without_end_in_a_row_with_a_unique_key_stops_no_other(ledger: SqlLedger) -> None:
    columns = ("created_at", "run_after", "start_by", "updated_at", "expires_at")
    for column, moment in product(columns, ("infinity", "-infinity")):
        broken = ledger.insert(new_job(unique_key=column))
        write(ledger, f"UPDATE job_request SET {column} = '{moment}' WHERE id = :id", id=broken.id)
        assert ledger.insert(new_job(unique_key=column)).id == broken.id
        good = ledger.insert(new_job(unique_key="good"))
        assert good.id in claimed(ledger)
        ledger.reap("legacy")
        ledger.expire_starts("legacy", ["report"])
        for job_id in (broken.id, good.id):
            ledger.cancel(job_id)
        assert end_of(ledger, broken.id)[0] in (JobState.FAILED, JobState.RUNNING)
        write(ledger, "DELETE FROM job_request")


@BOTH
def test_counts_of_the_outbox_end_without_an_error(ledger: SqlLedger) -> None:
    outbox, queries = Outbox(ledger.engine, "legacy"), OutboxQueries(ledger.engine)
    with ledger.engine.begin() as connection:
        for _ in range(3):
            insert_task(connection, "legacy", "send", "{}")
    ids = sorted(task.id for task in queries.tasks(ANY_TASK))
    for task_id, column in zip(ids, ("attempt", "losses"), strict=False):
        token = f"0a1b2c3d00004000800000000000000{task_id}"
        spoil = f"UPDATE task_outbox SET {column} = :n, token = '{token}' WHERE id = :id"
        write(ledger, spoil, n=LARGEST, id=task_id)
    tasks = [*outbox.claim(["send"], "w", LEASE, 9)]
    while more := outbox.claim(["send"], "w", LEASE, 1, suspects=True):
        tasks += more
    assert sorted(task.id for task in tasks) == ids
    assert all(outbox.fail(task, TaskFailure("TaskError", "", 0.0)) for task in tasks)


@pytest.mark.parametrize("value", ["x'00ff'", "'many'", "1.5"])
def test_attempts_with_values_of_any_type_are_read(ledger: SqlLedger, value: str) -> None:
    """What people read about other jobs must not depend on them."""
    first, second = two(ledger, queue_name="q", locks_queue=True)
    assert claimed(ledger) == {first: 1}
    with ledger.engine.begin() as connection:
        insert_task(connection, "legacy", "send", "{}")
    columns = ("run", "number", "worker", "cause", "error_type", "output_tail", "claimed_at", "lease_expires_at")
    for table, names in (("job_attempt", columns), ("task_outbox", ("uid", "attempt", "losses", "name", "worker"))):
        for name in names:
            write(ledger, f"UPDATE {table} SET {name} = {value}")
    situation = present(Queries(ledger.engine).situation(second))
    assert situation.holder is not None
    assert situation.holder.job_id == first
    (attempt,) = Queries(ledger.engine).attempts(first)
    for read in (attempt.worker, attempt.cause, situation.takers.load[0].worker, situation.takers.traces[0].worker):
        assert isinstance(read, str)
    assert (type(attempt.run), type(attempt.number)) == (int, int)
    (task,) = OutboxQueries(ledger.engine).tasks(ANY_TASK)
    assert (type(task.name), type(task.attempt)) == (str, int)


def test_an_organization_that_is_no_number_keeps_no_job_from_being_claimed(ledger: SqlLedger) -> None:
    broken, good = two(ledger)
    write(ledger, "UPDATE job_request SET organization_id = 'march' WHERE id = :id", id=broken)
    ledger.limits.set(parse_scope("each-organization"), lambda old: changed_bounds(old, 1))
    assert claimed(ledger) == {broken: 1, good: 1}


NEW_LOCK = (
    "INSERT INTO queue_lock (queue_name, job_id, token, acquired_at) "
    "VALUES ('q', :id, '0a1b2c3d000040008000000000000000', '2026-01-01 00:00:00')"
)


@BOTH
def test_a_queue_s_lock_that_no_running_attempt_holds_is_shown_and_deleted(ledger: SqlLedger) -> None:
    owner, waiting = ledger.insert(new_job()).id, ledger.insert(new_job(queue_name="q", locks_queue=True)).id
    write(ledger, NEW_LOCK, id=owner)
    assert claimed(ledger) == {owner: 1}, "a running attempt of it has another token"
    situation = present(Queries(ledger.engine).situation(waiting))
    assert situation.holder is not None
    assert (situation.holder.job_id, situation.holder.lease_expires_at) == (owner, None)
    assert Queries(ledger.engine).crowd(60.0).holders.keys() == {owner}
    assert (ledger.end_strays(), ledger.end_strays()) == (1, 0)
    assert claimed(ledger) == {waiting: 1}
    assert ledger.end_strays() == 0, "a running attempt holds this one"
    assert Queries(ledger.engine).situation(waiting).holder.job_id == waiting  # type: ignore[union-attr]


def test_the_attempt_of_another_queue_s_job_holds_no_queue(ledger: SqlLedger) -> None:
    owner = ledger.insert(new_job()).id
    write(ledger, NEW_ATTEMPT, id=owner, number=1, state="running", until="2026-01-01 00:00:00")
    write(ledger, "UPDATE job_request SET state = 'running'")
    write(ledger, NEW_LOCK, id=owner)
    waiting = ledger.insert(new_job(queue_name="q", locks_queue=True)).id
    assert (ledger.end_strays(), claimed(ledger)) == (1, {waiting: 1})


@POSTGRESQL
def test_a_claim_that_is_not_committed_keeps_its_queue_s_lock(ledger: SqlLedger) -> None:
    held = ledger.insert(new_job(queue_name="q", locks_queue=True))
    with ledger.engine.begin() as connection:
        claim = single_claim.claim(connection, held.id, held.uid, 1, 1, "w", LEASE)
        assert isinstance(claim, Claim)
        assert ledger.end_strays() == 0
    assert ledger.end_strays() == 0
    assert Queries(ledger.engine).situation(held.id).holder is not None  # type: ignore[union-attr]


@BOTH
def test_attempts_of_jobs_that_do_not_run_end_and_fill_no_limit(ledger: SqlLedger) -> None:
    states = [JobState.WAITING, JobState.BLOCKED, JobState.SUCCEEDED, JobState.FAILED]
    owners = {ledger.insert(new_job(runner="nobody")).id: state for state in states}
    for number, (owner, state) in enumerate(owners.items()):
        write(ledger, "UPDATE job_request SET state = :state WHERE id = :id", state=state.value, id=owner)
        attempt = NEW_ATTEMPT.replace("0a1b", f"0a{number}b")
        write(ledger, attempt, id=owner, number=1, state="running", until="2999-01-01 00:00:00")
    ledger.limits.set(parse_scope("type:report"), lambda bounds: changed_bounds(bounds, 1))
    waiting = ledger.insert(new_job()).id
    assert claimed(ledger) == {}
    assert (ledger.end_strays(), ledger.end_strays()) == (4, 0)
    assert claimed(ledger) == {waiting: 1}
    for owner, state in owners.items():
        assert end_of(ledger, owner) == (state, "")
        (attempt_,) = ledger.attempts(owner)
        assert (attempt_.state, attempt_.cause) == (AttemptState.FAILED, "WorkerLost")


LEASES = [
    ("legacy", "infinity"),
    ("kubernetes", "-infinity"),
    ("nobody", "2999-01-01 00:00:00"),
    ("reference", "2026-01-01 00:00:00"),
]


@BOTH
@pytest.mark.parametrize(("runner", "until"), LEASES)
def test_a_lease_that_no_process_writes_or_renews_fills_no_limit(ledger: SqlLedger, runner: str, until: str) -> None:
    owner = ledger.insert(new_job(runner=runner)).id
    write(ledger, "UPDATE job_request SET state = 'running', attempt = 1")
    write(ledger, NEW_ATTEMPT, id=owner, number=1, state="running", until=until)
    ledger.limits.set(parse_scope("type:report"), lambda bounds: changed_bounds(bounds, 1))
    ledger.insert(new_job())
    assert claimed(ledger) == {}
    assert ledger.end_strays() == (runner == "reference" or until in ("infinity", "2999-01-01 00:00:00"))
    assert [job.id for job in ledger.reap("legacy")] == ([] if runner == "reference" else [owner])
    assert len(claimed(ledger, LONGEST_LEASE_SECONDS)) == 1
    assert (ledger.reap("legacy"), ledger.end_strays()) == ([], 0), "the longest lease is valid"


@BOTH
def test_of_very_many_kinds_of_running_jobs_few_are_read_and_all_count(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_limits, "COUNTED_APART", 3)
    for number, queue in enumerate(["busy", "busy", "a", "b", "c", "d"]):
        ledger.insert(new_job(queue_name=queue, limit_key=f"key {number}"))
    assert len(claimed(ledger)) == 6
    with ledger.engine.connect() as connection:
        read = current_limits.running_jobs(connection, frozenset({ScopeKind.EACH_QUEUE, ScopeKind.ALL}))
    assert (len(read), read.total()) == (3 + 1, 6)
    assert read[Subject("", "busy", None)] == 2, "the largest are counted apart"
    held, free = ledger.insert(new_job(queue_name="busy")).id, ledger.insert(new_job(queue_name="a")).id
    ledger.limits.set(parse_scope("each-queue"), lambda bounds: changed_bounds(bounds, 2))
    ledger.limits.set(parse_scope("all"), lambda bounds: changed_bounds(bounds, 6))
    assert claimed(ledger) == {}
    ledger.limits.set(parse_scope("all"), lambda bounds: changed_bounds(bounds, 7))
    assert list(claimed(ledger)) == [free], f"job {held} is held"


def test_the_many_causes_of_a_job_s_attempts_are_read_as_few(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other code may write a million attempts with long causes, and whoever decides has little memory."""
    broken = ledger.insert(new_job(options=JobOptions(retry=RetryPolicy(budget={CauseClass.INFRASTRUCTURE: 3}))))
    for number in range(-3, 0):
        write(
            ledger,
            NEW_ATTEMPT.replace("0a1b2c3d", f"0a1b2c3{-number}"),
            id=broken.id,
            number=number,
            state="failed",
            until="2026-01-01 00:00:00",
        )
        write(
            ledger,
            "UPDATE job_attempt SET cause = :cause WHERE number = :number",
            cause=f"made up {number}",
            number=number,
        )
    seen: list[tuple[str, int]] = []
    charged = transitions.charged

    def count(causes: Iterable[tuple[str, int]]) -> Mapping[CauseClass, int]:
        seen.extend(causes)
        return charged(seen)

    monkeypatch.setattr(transitions, "charged", count)
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)
    assert ledger.fail(claim.token, Failure("WorkerLost", "x"), decide=True)
    assert seen == [("", 3)]
    assert end_of(ledger, broken.id) == (JobState.FAILED, "WorkerLost"), "they count as they did by their names"


def test_a_job_whose_attempts_are_counted_below_0_is_replaced_and_may_start_too_late(ledger: SqlLedger) -> None:
    first = ledger.insert(new_job(unique_key="k", options=JobOptions(start_timeout_seconds=60)))
    write(ledger, "UPDATE job_request SET attempt = -1")
    again = ledger.insert(new_job(unique_key="k", payload='{"n":2}', on_conflict="replace"))
    assert (again.id, again.payload) == (first.id, '{"n":2}')
    write(ledger, "UPDATE job_request SET start_by = '2026-01-01 00:00:00'")
    assert claimed(ledger) == {}
    assert [job.id for job in ledger.expire_starts("legacy", ["report"])] == [first.id]
