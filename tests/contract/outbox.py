"""What the outbox must do on every database: subclass it with a fixture ``engine``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from tests.contract.ledger import LEASE
from tests.waiting import eventually

from spoke_jobs.errors import Superseded
from spoke_jobs.ledger.columns.clock import LONGEST_WAIT_SECONDS, clock_after
from spoke_jobs.ledger.outbox import task_outbox as outbox_module
from spoke_jobs.ledger.outbox.outbox_queries import ANY_TASK, OutboxQueries, TaskFilter
from spoke_jobs.ledger.outbox.task_outbox import Outbox, OutboxTask, TaskFailure, insert_task
from spoke_jobs.ledger.outbox.task_replicas import SlotUse, TaskReplica, replicas
from spoke_jobs.ledger.outbox_row import TaskState
from spoke_jobs.ledger.tables import task_outbox, task_replica
from spoke_jobs.model import UnreadPayload
from spoke_jobs.payloads import TASK_LIMIT_BYTES

NAMES = ["send", "mail.*"]


def put(engine: Engine, *texts: str, name: str = "send", runner: str = "kubernetes") -> None:
    with engine.begin() as connection:
        for text in texts:
            insert_task(connection, runner, name, text)


def rows(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(task_outbox).order_by(task_outbox.c.id)).mappings()]


class OutboxContract:
    """See the module."""

    @pytest.fixture
    def outbox(self, engine: Engine) -> Outbox:
        return Outbox(engine, "kubernetes")

    def claim(self, outbox: Outbox, limit: int = 10, lease: float = LEASE) -> Sequence[OutboxTask]:
        return outbox.claim(NAMES, "w", lease, limit)

    def test_a_claim_takes_the_oldest_and_nobody_else_gets_them(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2", "3")
        first, second = self.claim(outbox, 2), self.claim(outbox, 2)
        assert [(task.payload, task.attempt, task.losses) for task in first] == [("1", 1, 0), ("2", 1, 0)]
        assert [task.payload for task in second] == ["3"]
        assert self.claim(outbox) == []

    def test_replicas_say_how_many_slots_are_in_use(self, engine: Engine, outbox: Outbox) -> None:
        def said() -> dict[str, TaskReplica]:
            with engine.connect() as connection:
                return {each.name: each for each in replicas(connection, 9)}

        outbox.sign("a", SlotUse(8, 3, 0), age_seconds=60, first=True)
        began = said()["a"]
        assert (began[3:], (began.seen_at - began.started_at).total_seconds()) == ((8, 3, 0), pytest.approx(60, abs=1))
        outbox.sign("a", SlotUse(8, 0, 5), age_seconds=70, first=False)
        later = said()["a"]
        assert (later.started_at, later[3:]) == (began.started_at, (8, 0, 5))
        assert later.seen_at > began.seen_at
        outbox.sign("a", SlotUse(4, 0, 0), age_seconds=0, first=True)
        assert said()["a"].started_at > began.started_at, "the container was restarted, and has the same name"
        with engine.begin() as connection:
            connection.execute(update(task_replica).values(seen_at=clock_after(-3601)))
        assert said() == {}, "a has died an hour ago, and nobody is there to delete its row"
        outbox.sign("b", SlotUse(4, 0, 0), age_seconds=7200, first=False)
        outbox.sign("c", SlotUse(4, 0, 0), age_seconds=0, first=True)
        with engine.connect() as connection:
            assert connection.scalars(select(task_replica.c.name).order_by("name")).all() == ["b", "c"]
        frozen = said()["b"]  # its row had been deleted meanwhile
        assert (frozen.seen_at - frozen.started_at).total_seconds() == pytest.approx(7200, abs=1)
        outbox.sign_off("b")
        assert [*said()] == ["c"]

    def test_a_task_keeps_the_trace_in_which_it_was_dispatched(self, engine: Engine, outbox: Outbox) -> None:
        trace = f"00-{'1' * 32}-{'2' * 16}-01"
        with engine.begin() as connection:
            insert_task(connection, "kubernetes", "send", "1", trace)
            insert_task(connection, "kubernetes", "send", "2")
        assert [task.traceparent for task in self.claim(outbox)] == [trace, ""]
        found = [OutboxQueries(engine).task(row["id"]) for row in rows(engine)]
        assert [task.traceparent for task in found if task is not None] == [trace, ""]

    def test_only_known_names_of_the_runner_are_claimed(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "a", name="mail.welcome")
        put(engine, "b", name="mailings")
        put(engine, "c", runner="legacy")
        assert [task.name for task in self.claim(outbox)] == ["mail.welcome"]

    def test_what_has_run_is_deleted_and_only_by_who_holds_it(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2")
        early = self.claim(outbox, lease=0.0)
        late = self.claim(outbox)
        assert [task.losses for task in late] == [1, 1]
        assert outbox.finish_many(early) == set()
        assert outbox.finish_many(late[:1]) == {late[0].id}
        assert [row["payload"] for row in rows(engine)] == ["2"]

    def test_effects_and_end_commit_together_or_not_at_all(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1")
        (early,) = self.claim(outbox, lease=0.0)
        (late,) = self.claim(outbox)
        with Session(engine) as session:
            insert_task(session.connection(), "kubernetes", "send", "an effect")
            with pytest.raises(Superseded):
                outbox.finish(session, early)
            session.rollback()
        with Session(engine) as session, pytest.raises(Superseded):
            outbox.fence(session, early)
        with Session(engine) as session:
            outbox.fence(session, late)
            insert_task(session.connection(), "kubernetes", "send", "an effect")
            outbox.finish(session, late)
            session.commit()
        assert [row["payload"] for row in rows(engine)] == ["an effect"]

    def test_a_renewed_lease_holds_and_a_lapsed_one_is_taken_over(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2")
        tasks = self.claim(outbox, lease=0.3)
        assert outbox.renew(tasks[:1], LEASE) == {tasks[0].id}
        found: list[OutboxTask] = []
        eventually(lambda: bool(found.extend(self.claim(outbox)) or found))
        assert [(task.payload, task.losses) for task in found] == [("2", 1)]
        assert outbox.renew(tasks, LEASE) == {tasks[0].id}

    def test_what_may_have_killed_its_replicas_is_claimed_by_itself(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2")
        for _ in range(3):
            self.claim(outbox, lease=0.0)
        put(engine, "3")
        assert [task.payload for task in self.claim(outbox)] == ["3"]
        (suspect,) = outbox.claim(NAMES, "w", LEASE, 1, suspects=True)
        assert (suspect.payload, suspect.losses) == ("1", 3)
        outbox.release([suspect])  # by a replica that stops: it is no less suspected
        assert self.claim(outbox) == []
        suspects = outbox.claim(NAMES, "w", LEASE, 10, suspects=True)
        assert sorted((task.payload, task.losses) for task in suspects) == [("1", 3), ("2", 3)]

    def test_a_failed_run_is_due_again_later_as_the_next_attempt(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2")
        soon, later = self.claim(outbox)
        assert outbox.fail(soon, TaskFailure("TaskError", "ValueError", 0.0))
        assert outbox.fail(later, TaskFailure("TaskError", "ValueError", 60.0))
        assert not outbox.fail(later, TaskFailure("TaskError", "ValueError", 0.0))
        (again,) = self.claim(outbox)
        assert (again.id, again.attempt, again.losses) == (soon.id, 2, 0)

    def test_a_failure_for_good_is_kept_and_pruned_when_its_time_is_over(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1")
        (task,) = self.claim(outbox)
        assert outbox.fail(task, TaskFailure("TaskError", "ValueError"))
        (row,) = rows(engine)
        assert (row["state"], row["cause"], row["error_type"]) == ("failed", "TaskError", "ValueError")
        assert row["expires_at"] - row["finished_at"] > timedelta(days=6)
        assert (self.claim(outbox), outbox.prune()) == ([], 0)
        with engine.begin() as connection:
            connection.execute(update(task_outbox).values(expires_at=datetime(2000, 1, 1, tzinfo=UTC)))
        assert outbox.prune() == 1
        assert rows(engine) == []

    def test_what_is_given_back_is_as_if_never_claimed(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1")
        outbox.release(self.claim(outbox))
        (task,) = self.claim(outbox)
        assert (task.attempt, task.losses) == (1, 0)

    def test_a_name_that_no_release_knows_fails_after_an_hour(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "old", "new", name="unheard_of")
        put(engine, "known")
        with engine.begin() as connection:
            long_ago = datetime.now(UTC) - timedelta(hours=2)
            connection.execute(update(task_outbox).where(task_outbox.c.payload != "new").values(due_at=long_ago))
        assert outbox.expire_unknown(NAMES) == 1
        failed = [(row["payload"], row["cause"]) for row in rows(engine) if row["state"] == "failed"]
        assert failed == [("old", "UnknownTask")]

    def test_what_a_replica_died_with_that_alone_knew_its_name_fails_as_any_unknown_one(
        self, engine: Engine, outbox: Outbox
    ) -> None:
        put(engine, "lapsed", "held", name="former")
        claimed = {task.payload: task for task in outbox.claim(["former"], "w", LEASE, 10)}
        assert outbox.expire_unknown(NAMES) == 0, "its lease has not ended"
        with engine.begin() as connection:
            long_ago = datetime.now(UTC) - timedelta(hours=2)
            connection.execute(update(task_outbox).where(task_outbox.c.payload == "lapsed").values(due_at=long_ago))
        assert outbox.expire_unknown(NAMES) == 1
        assert [row["cause"] for row in rows(engine) if row["payload"] == "lapsed"] == ["UnknownTask"]
        assert outbox.finish_many(list(claimed.values())) == {claimed["held"].id}, "its claim is over"

    @pytest.fixture
    def aside(self, engine: Engine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Tasks with a name that :data:`NAMES` lacks, of which two may stay due; the texts of the others."""
        monkeypatch.setattr(outbox_module, "UNKNOWN_DUE", 2)
        put(engine, "1", "2", "3", "4", name="newer")
        put(engine, "known")
        with monkeypatch.context() as patch:
            patch.setattr(outbox_module, "ASIDE_AFTER_SECONDS", 3600)
            assert outbox.set_unknown_aside(NAMES) == 0, "a replica of a newer release may claim them at once"
        with engine.begin() as connection:
            connection.execute(update(task_outbox).values(due_at=datetime.now(UTC) - timedelta(minutes=1)))
        assert (outbox.set_unknown_aside(NAMES), outbox.set_unknown_aside(NAMES)) == (2, 0)
        return ["3", "4"]

    def test_many_tasks_with_unknown_names_are_set_aside(
        self, engine: Engine, outbox: Outbox, aside: list[str]
    ) -> None:
        waits = TaskFilter((TaskState.LATER,), cause="UnknownTask")
        assert [task.id for task in OutboxQueries(engine).tasks(waits)] == [4, 3], "claims do not read them"
        assert outbox.backlog()["due"] == 3
        assert [task.payload for task in outbox.claim(["newer"], "w", LEASE, 10)] == ["1", "2"]
        assert outbox.recall(NAMES) == 0
        assert outbox.recall(["newer", "other.*"]) == 2
        recalled = outbox.claim(["newer"], "w", LEASE, 10)
        assert [(task.payload, task.attempt, task.losses) for task in recalled] == [(text, 1, 0) for text in aside]
        assert outbox.expire_unknown(NAMES) == 0

    def test_what_was_set_aside_fails_after_its_hour(self, engine: Engine, outbox: Outbox, aside: list[str]) -> None:
        assert outbox.expire_unknown(NAMES) == 0
        with engine.begin() as connection:
            over = {"due_at": datetime.now(UTC) - timedelta(seconds=1)}
            connection.execute(update(task_outbox).where(task_outbox.c.payload.in_(aside)).values(over))
        assert outbox.expire_unknown(["newer"]) == 0
        assert outbox.expire_unknown(NAMES) == 2
        failed = [(row["payload"], row["cause"]) for row in rows(engine) if row["state"] == "failed"]
        assert failed == [(text, "UnknownTask") for text in aside]

    def test_what_was_retried_or_claimed_again_waits_for_its_hour_again(
        self, engine: Engine, outbox: Outbox, aside: list[str]
    ) -> None:
        """So a person may retry, and then deploy the release that knows the name."""
        with engine.begin() as connection:
            over = {"due_at": datetime.now(UTC) - timedelta(seconds=1)}
            connection.execute(update(task_outbox).where(task_outbox.c.payload.in_(aside)).values(over))
        third = OutboxQueries(engine).tasks(TaskFilter(cause="UnknownTask"))[0]
        claimed = [task for task in outbox.claim(["newer"], "w", LEASE, 10) if task.id == third.id]
        outbox.release(claimed)
        assert outbox.expire_unknown(NAMES) == 0, "a claim of it ended its time aside"
        with engine.begin() as connection:
            failed = {"state": "failed", "cause": "UnknownTask", "token": None, "finished_at": datetime.now(UTC)}
            connection.execute(update(task_outbox).where(task_outbox.c.id == third.id).values(failed))
        assert OutboxQueries(engine).retry([third.id]) == {third.id}
        assert outbox.expire_unknown(NAMES) == 0

    def test_the_backlog_counts_what_is_due_and_what_has_failed(self, engine: Engine, outbox: Outbox) -> None:
        assert outbox.backlog() == {"due": 0, "oldest": 0.0, "failed": 0}
        put(engine, "1", "2", "3")
        (task,) = self.claim(outbox, 1)
        outbox.fail(task, TaskFailure("TaskError"))
        found = outbox.backlog()
        assert (found["due"], found["failed"]) == (2, 1)
        assert 0 < found["oldest"] < 60

    def test_times_that_cannot_be_are_no_waits_of_ages(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "early", "late")
        ancient, far = datetime(100, 1, 1, tzinfo=UTC), datetime(9990, 1, 1, tzinfo=UTC)
        with engine.begin() as connection:
            for payload, created in (("early", ancient), ("late", far)):
                change = update(task_outbox).where(task_outbox.c.payload == payload)
                connection.execute(change.values(created_at=created, due_at=ancient))
        assert outbox.backlog()["oldest"] == LONGEST_WAIT_SECONDS
        waits = {task.payload: task.waited_seconds for task in self.claim(outbox)}
        assert waits == {"early": LONGEST_WAIT_SECONDS, "late": 0.0}

    def test_a_payload_that_is_too_large_is_not_read(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "x" * TASK_LIMIT_BYTES, "x" * (TASK_LIMIT_BYTES + 1), "3")
        found = {task.id: task.payload for task in self.claim(outbox)}
        assert found == {1: "x" * TASK_LIMIT_BYTES, 2: "", 3: "3"}
        assert isinstance(found[2], UnreadPayload)
        assert found[2].size == TASK_LIMIT_BYTES + 1
        one = OutboxQueries(engine).task(2)
        assert one is not None
        assert isinstance(one.payload, UnreadPayload)

    def test_what_people_read_of_it(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2", "3", "4")
        claimed, later, over = self.claim(outbox, 3)
        assert outbox.fail(later, TaskFailure("TaskError", "ValueError", retry_seconds=60))
        assert outbox.fail(over, TaskFailure("Timeout"))
        put(engine, "5", name="mail.welcome")
        queries = OutboxQueries(engine)
        payloads = {row["id"]: row["payload"] for row in rows(engine)}

        def read(which: TaskFilter = ANY_TASK) -> dict[str, TaskState]:
            return {payloads[task.id]: task.state for task in queries.tasks(which)}

        due, failed = TaskState.DUE, TaskState.FAILED
        states = {"5": due, "4": due, "3": failed, "2": TaskState.LATER, "1": TaskState.CLAIMED}
        assert list(read().items()) == list(states.items()), "the newest first"
        assert read(TaskFilter((failed, TaskState.LATER))) == {"3": failed, "2": TaskState.LATER}
        assert read(TaskFilter(name="mail*")) == {"5": due}
        assert read(TaskFilter(cause="Timeout")) == {"3": failed}
        assert [payloads[task.id] for task in queries.tasks(ANY_TASK, 2)] == ["5", "4"]
        assert [payloads[task.id] for task in queries.selected(TaskFilter((failed, due)))] == ["3", "4", "5"]
        assert queries.counts() == {due: 2, TaskState.LATER: 1, TaskState.CLAIMED: 1, failed: 1}
        shown = queries.task(claimed.id)
        assert shown is not None
        assert (shown.uid, shown.worker, shown.attempt, shown.payload) == (claimed.uid, "w", 1, "1")
        assert queries.task(999) is None

    def test_a_claim_whose_lease_has_lapsed_is_due(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1")
        self.claim(outbox, lease=0.0)
        eventually(lambda: OutboxQueries(engine).counts()[TaskState.DUE] == 1)

    def test_a_failed_task_runs_again_with_all_its_attempts_and_no_other(self, engine: Engine, outbox: Outbox) -> None:
        put(engine, "1", "2")
        over, running = self.claim(outbox)
        assert outbox.fail(over, TaskFailure("TaskError", retry_seconds=0))
        (over,) = self.claim(outbox)
        assert (over.attempt, outbox.fail(over, TaskFailure("TaskError"))) == (2, True)
        assert OutboxQueries(engine).retry([over.id, running.id, 999]) == {over.id}
        (again,) = self.claim(outbox)
        assert (again.id, again.attempt, again.losses) == (over.id, 1, 0)
        assert outbox.finish_many([again, running]) == {again.id, running.id}
