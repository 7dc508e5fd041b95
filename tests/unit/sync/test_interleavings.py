"""Whatever the order in which runner, sync, operator, pods and people act: every job ends right, and once.

The world is a small model of ledger and cluster. Sync is taken apart: it reads rows, lists SpokeJobs, and carries out
one decision at a time, with anything in between, its own death included. Guards are modelled as the SQL and the API
server have them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.sync.making import LONG_AGO, NOW, row, seen

from spoke_jobs.contract.custom_resources.spokejob import Outcome
from spoke_jobs.model import JobState
from spoke_jobs.sync.decide import compare, decide
from spoke_jobs.sync.sync_model import (
    Action,
    AttemptView,
    Cancel,
    ChangeStart,
    ConfirmGone,
    EndAttempt,
    FailJob,
    Launch,
    Mirror,
    RecordSubmitted,
    Row,
    SpokeJobView,
)

MOST_JOBS = 2
MOST_ATTEMPTS = 3
OUTCOMES = {JobState.SUCCEEDED: Outcome.SUCCEEDED, JobState.FAILED: Outcome.FAILED}


def pick(names: Iterable[str], position: int) -> list[str]:
    """One of the names, if there is any."""
    known = list(names)
    return [known[position % len(known)]] if known else []


@dataclass
class Pod:
    """The process of an attempt: whether it runs, and whether it holds the job's claim."""

    number: int
    claimed: bool = False


class World:
    """See the module."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.cluster: dict[str, SpokeJobView] = {}
        self.pods: dict[str, Pod] = {}
        self.claimed_under: dict[str, str] = {}
        """The SpokeJob, by its object's uid, of the pod that made the last claim of a job."""
        self.creating: list[str] = []
        """Creations that the runner has under way."""
        self.recording: list[str] = []
        self.snapshot: list[Row] | None = None
        self.cache: dict[str, SpokeJobView] = {}
        """What sync has heard of, as old as may be."""
        self.actions: list[Action] = []
        self.succeeded: set[str] = set()
        self.created: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.version = 10

    # The application and its runner

    def dispatch(self, _position: int, tries: bool, _: bool) -> None:
        if len(self.rows) < MOST_JOBS:
            fresh = row(id=len(self.rows) + 1)
            self.rows[fresh.name] = fresh
            if tries:
                self.creating.append(fresh.name)

    def runner_goes_on(self, _position: int, dies: bool, _: bool) -> None:
        if self.recording:
            self.record_submitted(self.recording.pop())
        elif self.creating and self.create(name := self.creating.pop()) and not dies:
            self.recording.append(name)

    # The operator and the pods

    def attempt_starts(self, position: int, _: bool, __: bool) -> None:
        for name in pick(self.startable(), position):
            self.start_attempt(name)

    def pod_claims(self, position: int, _: bool, __: bool) -> None:
        for name in pick(self.claimable(), position):
            pod = self.pods[name]
            pod.claimed = True
            self.claimed_under[name] = self.cluster[name].object_uid if name in self.cluster else ""
            self.change(name, live=pod.number, state=JobState.RUNNING, attempt=pod.number, status=0, result_message="")

    def pod_reports(self, position: int, _: bool, __: bool) -> None:
        for name in pick(self.holders(), position):
            self.change(name, status=10 + position, result_message=f"{position} steps")

    def pod_records_its_end(self, position: int, succeeds: bool, _: bool) -> None:
        for name in pick(self.holders(), position):
            if succeeds:
                self.change(name, live=None, state=JobState.SUCCEEDED, status=100)
                self.succeeded.add(name)
            else:
                self.change(name, live=None, state=JobState.WAITING, cause="JobError", result_message="secret")

    def attempt_is_condemned(self, position: int, _: bool, __: bool) -> None:
        """The operator has decided to stop it, and its pod still runs."""
        for name in pick(self.pods, position):
            if (spokejob := self.cluster.get(name)) is not None and spokejob.attempts:
                *earlier, record = spokejob.attempts
                self.put(spokejob, attempts=(*earlier, replace(record, cause="Timeout")))

    def attempt_ends(self, position: int, last: bool, pretends: bool) -> None:
        for name in pick(self.pods, position):
            self.end_attempt(name, last, pretends)

    def operator_follows_ledger(self, position: int, _: bool, __: bool) -> None:
        for name in pick(self.cluster, position):
            self.follow_ledger(name)

    def somebody_deletes(self, position: int, _: bool, __: bool) -> None:
        for name in pick(self.cluster, position):
            del self.cluster[name]
            self.deleted.add(name)

    def somebody_sets_a_priority(self, position: int, _: bool, __: bool) -> None:
        for name in pick(self.rows, position):
            if self.rows[name].job.state is JobState.WAITING:
                self.change(name, priority=position)

    def somebody_suspends_or_resumes(self, position: int, suspends: bool, _: bool) -> None:
        for name in pick(self.rows, position):
            if not self.rows[name].job.state.final:
                self.change(name, suspended_at=NOW if suspends else None)

    # Sync, in its parts

    def sync_reads_rows(self, _position: int, _: bool, __: bool) -> None:
        self.snapshot = list(self.rows.values())

    def sync_lists(self, _position: int, _: bool, __: bool) -> None:
        if self.snapshot is not None:
            self.cache = dict(self.cluster)
            self.actions += compare(self.snapshot, self.cache, NOW)
            self.snapshot = None

    def sync_follows_one(self, position: int, hears: bool, at_once: bool) -> None:
        for name in pick(self.rows, position):
            if hears and name in self.cluster:
                self.cache[name] = self.cluster[name]
            elif hears:
                self.cache.pop(name, None)
            self.actions += decide(self.rows[name], self.cache.get(name), NOW)
            while at_once and self.actions:
                self.carry_out(self.actions.pop())

    def sync_acts(self, position: int, _: bool, __: bool) -> None:
        if self.actions:
            self.carry_out(self.actions.pop(position % len(self.actions)))

    def sync_dies(self, _position: int, _: bool, __: bool) -> None:
        self.snapshot, self.cache, self.actions = None, {}, []

    # What holds at every moment

    def a_success_stays(self) -> None:
        assert all(self.rows[name].job.state is JobState.SUCCEEDED for name in self.succeeded)

    def nothing_is_launched_twice(self) -> None:
        # Where the first try was neither recorded nor claimed before somebody deleted it, nobody can know of it.
        assert all(count == 1 or name in self.deleted for name, count in self.created.items())

    def no_words_of_a_failure_reach_the_cluster(self) -> None:
        assert all(item.progress is None or item.progress.message != "secret" for item in self.cluster.values())

    def settle(self) -> None:
        """Nothing more happens but what has to: then every job ends, and both sides say the same."""
        for name in self.creating:
            self.create(name)
        self.catch_up()
        self.catch_up()  # once more, since what was decided before came first
        for name, known in self.rows.items():
            if name in self.cluster and not known.job.state.final and self.cluster[name].outcome is not Outcome.FAILED:
                assert self.cluster[name].priority == known.job.priority
                assert self.cluster[name].suspend == (known.job.suspended_at is not None)
        for name in self.rows:
            self.change(name, suspended_at=None)
        for _ in range(2 * MOST_ATTEMPTS):
            for name in self.startable():
                self.start_attempt(name)
            for name in list(self.pods):
                self.end_attempt(name, last=True)
            for name in self.cluster:
                self.follow_ledger(name)
            self.catch_up()
        for name, known in self.rows.items():
            assert known.job.state.final, known
            assert known.live is None
            if (spokejob := self.cluster.get(name)) is not None:
                assert spokejob.outcome is OUTCOMES[known.job.state]
                assert spokejob.ledger is not None
                assert spokejob.ledger.value == spokejob.outcome.value
        assert compare(self.rows.values(), self.cluster, NOW) == [], "what is in step stays in step"

    def catch_up(self) -> None:
        self.actions += compare(self.rows.values(), self.cluster, NOW)
        while self.actions:
            self.carry_out(self.actions.pop(0))

    # What the operator does

    def start_attempt(self, name: str) -> None:
        spokejob = self.cluster[name]
        number = spokejob.attempt + 1
        self.pods[name] = Pod(number)
        attempts = (*spokejob.attempts, AttemptView(number, False, "", ""))
        self.put(spokejob, outcome=Outcome.RUNNING, attempt=number, attempts=attempts)

    def end_attempt(self, name: str, last: bool, pretends: bool = False) -> None:
        """The pod is gone, by itself or killed, and the operator has seen it if there is a SpokeJob yet.

        One that pretends has exited with 0, and recorded nothing.
        """
        del self.pods[name]
        spokejob = self.cluster.get(name)
        if spokejob is None or not spokejob.attempts:
            return
        cause = "" if pretends or name in self.succeeded else "PodDeleted"
        outcome = Outcome.FAILED if last or spokejob.attempt == MOST_ATTEMPTS else Outcome.WAITING
        attempts = (*spokejob.attempts[:-1], AttemptView(spokejob.attempt, True, cause, ""))
        self.put(spokejob, outcome=outcome if cause else Outcome.SUCCEEDED, cause=cause, attempts=attempts)

    def follow_ledger(self, name: str) -> None:
        spokejob = self.cluster[name]
        if spokejob.ledger is None:
            return
        self.pods.pop(name, None)
        outcome = Outcome(spokejob.ledger.value)
        if spokejob.outcome is not outcome:
            self.put(spokejob, outcome=outcome)

    def startable(self) -> list[str]:
        return [
            name
            for name, spokejob in self.cluster.items()
            if name not in self.pods
            and spokejob.ledger is None
            and spokejob.outcome in (None, Outcome.WAITING)
            and spokejob.attempt < MOST_ATTEMPTS
            and not spokejob.suspend
        ]

    def claimable(self) -> list[str]:
        return [
            name
            for name, pod in self.pods.items()
            if not pod.claimed
            and self.rows[name].live is None
            and not self.rows[name].job.state.final
            and pod.number > self.rows[name].job.attempt
        ]

    def holders(self) -> list[str]:
        return [name for name, pod in self.pods.items() if pod.claimed and self.rows[name].live == pod.number]

    # The guards

    def carry_out(self, action: Action) -> None:
        if isinstance(action, Cancel | ChangeStart | Mirror):
            self.tell(action)
            return
        name, known = action.row.name, self.rows[action.row.name]
        match action:
            case Launch():
                if (
                    not known.begun and not known.job.state.final and not known.job.suspended_at
                ):  # asked again just before the call
                    self.create(name)
                    self.record_submitted(name)
            case RecordSubmitted():
                self.record_submitted(name)
            case EndAttempt(number=number, failure=failure):
                if known.live == number:
                    assert not self.may_run(name, number), "ended while it ran"
                    self.change(name, live=None, state=JobState.WAITING, cause=failure.cause)
            case FailJob(failure=failure):
                self.fail(name, failure.cause)
            case ConfirmGone():
                if name not in self.cluster:
                    self.fail(name, "SpokeJobDeleted")

    def tell(self, action: Cancel | ChangeStart | Mirror) -> None:
        live, told = self.cluster.get(action.seen.name), action.seen
        if live is None:
            return
        if isinstance(action, Cancel):
            if live.object_uid == told.object_uid:
                self.put(live, cancel=True)
        elif isinstance(action, ChangeStart):
            if live.object_uid == told.object_uid:
                given = {"priority": action.priority, "suspend": action.suspend, "suspended_by_sync": action.suspend}
                self.put(live, **{name: value for name, value in given.items() if value is not None})
        elif live.resource_version == told.resource_version:
            self.put(live, progress=action.progress, ledger=action.ledger)

    def fail(self, name: str, cause: str) -> None:
        known = self.rows[name]
        if not known.job.state.final:
            assert known.live is None or not self.may_run(name, known.live), "failed while it ran"
            self.change(name, live=None, state=JobState.FAILED, status=-1, cause=cause)

    def create(self, name: str) -> bool:
        if name in self.cluster:
            return False
        self.cluster[name] = seen(self.rows[name], object_uid=f"object-{self.version}")
        self.created[name] = self.created.get(name, 0) + 1
        return True

    def record_submitted(self, name: str) -> None:
        if self.rows[name].job.submitted_at is None:
            self.change(name, live=self.rows[name].live, submitted_at=LONG_AGO)

    def may_run(self, name: str, number: int) -> bool:
        """Whether the cluster says that the attempt runs.

        Attempts of a SpokeJob that was created anew, after somebody had deleted it, have the numbers of earlier ones.
        Such an attempt cannot claim the job, and is not the one that holds it.
        """
        spokejob = self.cluster.get(name)
        if spokejob is None or spokejob.object_uid != self.claimed_under.get(name):
            return False
        return any(item.number == number and not item.ended for item in spokejob.attempts)

    def change(self, name: str, **changes: Any) -> None:
        known = self.rows[name]
        live = changes.pop("live", known.live)
        self.rows[name] = Row(known.job.evolve(**changes), live)

    def put(self, spokejob: SpokeJobView, **changes: Any) -> None:
        self.version += 1
        self.cluster[spokejob.name] = replace(spokejob, resource_version=str(self.version), **changes)


WEIGHTS = {
    World.dispatch: 2,
    World.runner_goes_on: 2,
    World.attempt_starts: 4,
    World.pod_claims: 4,
    World.pod_reports: 3,
    World.pod_records_its_end: 2,
    World.attempt_is_condemned: 1,
    World.attempt_ends: 2,
    World.operator_follows_ledger: 1,
    World.somebody_deletes: 1,
    World.somebody_sets_a_priority: 2,
    World.somebody_suspends_or_resumes: 2,
    World.sync_reads_rows: 2,
    World.sync_lists: 2,
    World.sync_follows_one: 5,
    World.sync_acts: 5,
    World.sync_dies: 1,
}
steps = st.tuples(
    st.sampled_from([step for step, weight in WEIGHTS.items() for _ in range(weight)]),
    st.integers(0, 11),
    st.booleans(),
    st.booleans(),
)


CREATED_ANEW: list[Any] = [
    (World.dispatch, 0, True, False),
    (World.sync_follows_one, 1, False, False),
    (World.sync_acts, 0, False, False),
    (World.attempt_starts, 0, False, False),
    (World.pod_claims, 0, False, False),
    (World.attempt_ends, 0, False, False),
    (World.sync_follows_one, 1, True, False),
    (World.somebody_deletes, 0, False, False),
    (World.runner_goes_on, 0, False, False),
    (World.attempt_starts, 0, False, False),
]
"""The runner's creation comes so late that the job has been launched by sync, run, and deleted."""


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, min_size=20, max_size=50))
@example(CREATED_ANEW)
def test_every_job_ends_right_and_once(walk: list[Any]) -> None:
    world = World()
    world.dispatch(0, True, False)
    for step, position, one, other in walk:
        step(world, position, one, other)
        world.a_success_stays()
        world.nothing_is_launched_twice()
        world.no_words_of_a_failure_reach_the_cluster()
    world.settle()
