"""What every ledger must do with many jobs at once."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.contract.ledger import LEASE, SHORT, LedgerSteps, claim_one, new_job
from tests.waiting import eventually

from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.limits.job_limit import Bounds, parse_scope
from spoke_jobs.model import (
    AttemptState,
    AttemptUsage,
    ClaimFilter,
    Failure,
    JobFilter,
    JobState,
    Progress,
    Pulse,
)


class BatchContract(LedgerSteps):
    """What a busy worker and a batch dispatch depend on."""

    def test_a_batch_takes_the_highest_priority_first_then_the_oldest(self, ledger: Ledger) -> None:
        priorities = [0, 5, -3, 5, 0]
        jobs = [ledger.insert(new_job(priority=priority)) for priority in priorities]
        order = [jobs[1], jobs[3], jobs[0], jobs[4], jobs[2]]
        assert self.batch(ledger, 2) == [job.id for job in order[:2]]
        assert self.batch(ledger, 8) == [job.id for job in order[2:]]
        assert self.batch(ledger, 8) == []
        assert self.batch(ledger, 0) == []

    def test_a_filter_leaves_jobs_to_other_workers(self, ledger: Ledger) -> None:
        kinds = [("report", "slow"), ("report", ""), ("r%port", "slow.a"), ("ingest.csv", "Slow"), ("ingest.a", "s_ow")]
        ids = {ledger.insert(new_job(job_type=name, queue_name=queue)).id: (name, queue) for name, queue in kinds}

        def taken(*patterns: tuple[str, ...]) -> list[tuple[str, str]]:
            only = ClaimFilter(*patterns)
            claims = ledger.claim_batch("legacy", ["report", "r%port", "ingest.*"], "w", LEASE, 9, only)
            for claim in claims:
                ledger.release(claim.token)
            return [ids[claim.job.id] for claim in claims]

        assert taken() == kinds
        assert taken(("report", "ingest.*")) == [kinds[0], kinds[1], kinds[3], kinds[4]]
        assert taken((), ("slow",)) == [kinds[0]]
        assert taken((), ("slow*", "")) == kinds[:3]
        assert taken((), (), ("r*",)) == kinds[3:]
        assert taken((), (), ("r%port", "ingest.csv")) == [kinds[0], kinds[1], kinds[4]]
        assert taken((), (), (), ("slow*",)) == [kinds[1], kinds[3], kinds[4]]
        assert taken(("report",), (), (), ("slow",)) == [kinds[1]]
        assert taken(("r%*", "_*"), ()) == [kinds[2]]
        ledger.limits.set(parse_scope("type:report"), lambda _old: Bounds(1))
        assert taken((), (), ("ingest.*",), ("slow.*",)) == [kinds[0]]

    def test_claims_of_a_batch_equal_single_ones(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(priority=7, queue_name="q"), new_job(campaign_id=None)])
        for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 4):
            job = ledger.get(claim.job.id)
            assert job == claim.job
            assert (job.state, job.assigned, job.attempt, claim.number) == (JobState.RUNNING, True, 1, 1)
            assert job.started_at is not None
            (attempt,) = ledger.attempts(job.id)
            assert (attempt.state, attempt.worker) == (AttemptState.RUNNING, "w")
            assert (attempt.lease_expires_at - attempt.claimed_at).total_seconds() == pytest.approx(LEASE, abs=1)
            ledger.succeed(None, claim.token, None)

    def test_a_job_for_later_waits_until_it_is_due(self, ledger: Ledger) -> None:
        hour, east = timedelta(hours=1), timezone(timedelta(hours=5))
        later = ledger.insert(new_job(run_after=datetime.now(east) + hour))
        due = ledger.insert(new_job(run_after=datetime.now(east) - hour))
        assert later.run_after is not None
        assert later.run_after.utcoffset() == timedelta(0) or later.run_after.tzinfo is east
        assert self.batch(ledger, 8) == [due.id]
        soon = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(seconds=SHORT)))
        eventually(lambda: self.batch(ledger, 8) == [soon.id])
        assert ledger.get(later.id) == later

    def test_a_naive_time_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(Exception, match=r"time zone"):
            ledger.insert(new_job(run_after=datetime(2030, 1, 1)))

    def test_prefixes_stand_for_the_names_that_begin_with_them(self, ledger: Ledger) -> None:
        names = ["ingest.csv", "ingest.a.b", "ingest", "ingestion.csv", "Ingest.csv", "a%.x", "ab.x", "a_.x", "ac.x"]
        names += ["back\\slash.x", "backslash.x", "report"]
        ids = {ledger.insert(new_job(job_type=name)).id: name for name in names}

        def taken(*types: str) -> list[str]:
            claims = ledger.claim_batch("legacy", types, "w", LEASE, 20)
            return [ids[claim.job.id] for claim in claims]

        assert taken("INGEST.*", "%", "_", "%.*", "*") == []
        assert taken() == []
        assert taken("ingest.*") == ["ingest.csv", "ingest.a.b"]
        assert taken("a%.*") == ["a%.x"]
        assert taken("a_.*", "back\\slash.*") == ["a_.x", "back\\slash.x"]
        assert taken("report", "ab.*") == ["ab.x", "report"]

        def listed(pattern: str) -> list[str]:
            return [job.job_type for job in ledger.list_jobs(99, JobFilter(job_type=pattern))]

        assert listed("ingest.*") == ["ingest.a.b", "ingest.csv"]
        assert listed("*.csv") == ["Ingest.csv", "ingestion.csv", "ingest.csv"]
        assert listed("a%*") == ["a%.x"]
        assert listed("a_*") == ["a_.x"]
        assert listed("back\\*") == ["back\\slash.x"]
        assert listed("in*t.*v") == ["ingest.csv"]
        assert len(listed("*")) == len(names)
        assert listed("[a]*") == listed("?_.x") == []

    def test_a_batch_takes_one_job_of_a_locked_queue_and_continues_after_the_others(self, ledger: Ledger) -> None:
        locked = [ledger.insert(new_job(queue_name="q", locks_queue=True)) for _ in range(12)]
        second = [ledger.insert(new_job(queue_name="r", locks_queue=True)) for _ in range(12)]
        loose = ledger.insert(new_job(queue_name="q"))
        # The head has many more jobs than the batch: they must not hide the later ones.
        assert self.batch(ledger, 3) == [locked[0].id, second[0].id, loose.id]
        assert self.batch(ledger, 3) == []

    def test_what_is_not_due_at_the_head_hides_nothing(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(run_after=datetime.now(UTC) + timedelta(hours=1)) for _ in range(20)])
        ledger.insert_many([new_job(job_type="newer") for _ in range(20)])
        behind = ledger.insert(new_job())
        assert self.batch(ledger, 2) == [behind.id]

    def test_each_of_many_heartbeats_gets_its_own_answer(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job() for _ in range(4)])
        held, told, asked, done = ledger.claim_batch("legacy", ["report"], "w", SHORT, 4)
        ledger.succeed(None, done.token, None)
        ledger.cancel(asked.job.id)
        stranger = uuid.uuid4()
        pulses = ledger.heartbeats(
            {
                held.token: None,
                told.token: Progress(30, "a\x00b"),
                asked.token: Progress(1, ""),
                done.token: None,
                stranger: None,
            },
            LEASE,
        )
        assert pulses == {
            held.token: Pulse.HELD,
            told.token: Pulse.HELD,
            asked.token: Pulse.CANCELLED,
            done.token: Pulse.GONE,
            stranger: Pulse.GONE,
        }
        assert [self.row(ledger, claim).status for claim in (held, told, asked, done)] == [0, 30, 1, 100]
        for claim in (held, told, asked):
            (attempt,) = ledger.attempts(claim.job.id)
            assert (attempt.lease_expires_at - attempt.heartbeat_at).total_seconds() == pytest.approx(LEASE, abs=1)
        assert ledger.heartbeats({}, LEASE) == {}

    def test_of_many_successes_those_count_that_hold_their_claims(self, ledger: Ledger) -> None:
        ledger.insert_many([new_job(queue_name=f"q{n}", locks_queue=True) for n in range(3)])
        first, lost, third = ledger.claim_batch("legacy", ["report"], "w", LEASE, 3)
        ledger.fail(lost.token, Failure("JobError"), decide=True)
        results = {first.token: {"n": [1, None, "\u00e9"]}, lost.token: "late", uuid.uuid4(): 1, third.token: None}
        assert ledger.succeed_many(results) == {first.token, third.token}
        rows = [self.row(ledger, claim) for claim in (first, lost, third)]
        assert [(row.state, row.result) for row in rows] == [
            (JobState.SUCCEEDED, {"n": [1, None, "\u00e9"]}),
            (JobState.WAITING, None),
            (JobState.SUCCEEDED, None),
        ]
        assert rows[0].expires_at is not None
        assert ledger.succeed_many({}) == set()
        ledger.insert_many([new_job(queue_name=f"q{n}", locks_queue=True) for n in range(3)])
        assert len(ledger.claim_batch("legacy", ["report"], "w", LEASE, 9)) == 3  # every queue is free again

    def test_results_and_messages_of_any_characters_are_recorded_as_they_are(self, ledger: Ledger) -> None:
        texts = [
            "",
            " ",
            "NULL",
            '"',
            "\\",
            '\\"',
            "{a,b}",
            "a,b",
            "'; --",
            "%s :x",
            "line\nline\ttab",
            "\u00e9\U0001f600",
        ]
        ledger.insert_many([new_job() for _ in texts])
        claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, len(texts))
        told = {claim.token: Progress(5, text) for claim, text in zip(claims, texts, strict=True)}
        assert set(ledger.heartbeats(told, LEASE).values()) == {Pulse.HELD}
        assert [self.row(ledger, claim).result_message for claim in claims] == texts
        results = {claim.token: {text: text} for claim, text in zip(claims, texts, strict=True)}
        last = {token: Progress(9, f"{progress.message}.") for token, progress in told.items()}
        assert ledger.succeed_many(results, last) == set(results)
        rows = [self.row(ledger, claim) for claim in claims]
        assert [row.result for row in rows] == [{text: text} for text in texts]
        assert [row.result_message for row in rows] == [f"{text}." for text in texts]

    def test_many_jobs_are_written_in_the_order_given(self, ledger: Ledger) -> None:
        many = [new_job(campaign_id=n, unique_key=f"k{-n}" if n % 7 == 3 else None) for n in range(1200)]
        jobs = ledger.insert_many(many)
        assert [job.campaign_id for job in jobs] == list(range(1200))
        assert len({job.id for job in jobs}) == 1200
        plain = [job.id for job in jobs if job.unique_key is None]
        assert plain == sorted(plain)
        assert ledger.insert_many([]) == []

    def test_a_batch_names_an_existing_job_in_its_place(self, ledger: Ledger) -> None:
        there = ledger.insert(new_job(unique_key="k"))
        jobs = ledger.insert_many(
            [new_job(), new_job(unique_key="k"), new_job(unique_key="l"), new_job(unique_key="l")]
        )
        assert jobs[1] == there
        assert jobs[2] == jobs[3]
        assert len(ledger.list_jobs()) == 3

    def test_a_success_records_the_last_progress_with_it(self, ledger: Ledger) -> None:
        jobs = ledger.insert_many([new_job(), new_job()])
        one, other = (claim_one(ledger, "legacy", ["report"], "w", LEASE) for _ in jobs)
        assert one is not None
        assert other is not None
        ledger.heartbeat(other.token, LEASE, Progress(5, "row 5"))
        recorded = ledger.succeed_many({one.token: 1, other.token: 2}, {one.token: Progress(99, "row 99\x00")})
        assert recorded == {one.token, other.token}
        rows = [ledger.get(claim.job.id) for claim in (one, other)]
        assert [(row.status, row.result_message) for row in rows if row] == [(100, "row 99\ufffd"), (100, "row 5")]

    def test_what_an_attempt_used_is_recorded_with_its_end(self, ledger: Ledger) -> None:
        """Also of jobs that a batch counts, whose ends take other statements. A killed process records nothing."""
        batch = ledger.open_batch("march")
        jobs = ledger.insert_many([new_job(), new_job(batch_id=batch.id), new_job(), new_job(), new_job()])
        alone, counted, failed, killed, unmeasured = (self.claim_next(ledger) for _ in jobs)
        large = AttemptUsage(peak_memory_bytes=2**40, cpu_milliseconds=2**33, wall_milliseconds=2**34)
        usage = {alone.token: large, counted.token: AttemptUsage(1, 2, 3)}
        assert len(ledger.succeed_many({alone.token: 1, counted.token: 2}, {}, usage)) == 2
        ledger.fail(failed.token, Failure("JobError", usage=AttemptUsage(7, 8, 9)), decide=True)
        ledger.fail(killed.token, Failure("OutOfMemory"), decide=True)
        ledger.succeed(None, unmeasured.token, None, None, AttemptUsage(wall_milliseconds=5))
        claims = (alone, counted, failed, killed, unmeasured)
        found = [ledger.attempts(claim.job.id)[0] for claim in claims]
        assert [(one.peak_memory_bytes, one.cpu_milliseconds, one.wall_milliseconds) for one in found] == [
            (2**40, 2**33, 2**34),
            (1, 2, 3),
            (7, 8, 9),
            (None, None, None),
            (None, None, 5),
        ]

    @pytest.mark.parametrize("limited", ["", "type:export", "type:report"])
    def test_an_attempt_keeps_since_when_it_was_due(self, ledger: Ledger, limited: str) -> None:
        """Also after its claim was given back: the job is due since the same time. A limit takes other statements."""
        if limited:
            ledger.limits.set(parse_scope(limited), lambda _old: Bounds(5), "ada")
        at_once = ledger.insert(new_job())
        claim = self.claimed_once_due(ledger)
        assert [attempt.due_at for attempt in ledger.attempts(at_once.id)] == [at_once.created_at]
        ledger.succeed(None, claim.token, None)
        later = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(seconds=0.2)))
        for _ in range(2):
            claim = self.claimed_once_due(ledger)
            assert (claim.job.run_after, claim.due_at) == (None, later.run_after)
            assert ledger.release(claim.token)
            assert self.row(ledger, claim).run_after == later.run_after
        claim = self.claimed_once_due(ledger)
        ledger.succeed(None, claim.token, None)
        assert [attempt.due_at for attempt in ledger.attempts(later.id)] == [later.run_after]
