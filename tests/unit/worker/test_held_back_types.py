"""What a worker claims while one type's jobs take down the processes that run them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from tests.contract.ledger import LEASE, new_job
from tests.unit.worker.test_child_pool import NoProcess

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.worker import claiming
from spoke_jobs.worker.child_messages import Report
from spoke_jobs.worker.child_pool import Child, ChildKind
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile
from spoke_jobs.worker.supervisor import Supervisor
from spoke_jobs.worker.worker_options import WorkerOptions

CHILDREN = 3
SLOTS = 4
"""Of an event loop."""


class Worker:
    """A supervisor with children whose part the test plays."""

    def __init__(self, *types: str, loop_types: tuple[str, ...] = (), children: int = CHILDREN) -> None:
        self.now = 1000.0
        self.ledger = MemoryLedger()
        self.supervisor = Supervisor(self.ledger, WorkerOptions("legacy", types, children, LEASE, 60.0, loop_types))
        self.suspects = self.supervisor._claiming._suspects
        self.sockets, self.shared = [], []
        for kind in [ChildKind.THREAD] * (children if types else 0) + [ChildKind.LOOP] * bool(loop_types):
            ours, theirs = socket.socketpair()
            shared, descriptor = SharedState.make(SLOTS)
            slots, ahead = (1, 1) if kind is ChildKind.THREAD else (SLOTS, 0)
            child = Child(kind, slots, ahead, NoProcess(), ours, None, shared, StackFile(), OutputFile(), ready=True)
            self.sockets += [ours, theirs]
            self.shared.append(SharedState.open(descriptor))
            self.supervisor._pool.children.append(child)
            self.supervisor._selector.register(ours, 1, child)

    @property
    def children(self) -> list[Child]:
        return self.supervisor._pool.children

    def hold_orders_ahead(self) -> None:
        """Let all jobs be short, whatever the machine takes for them."""
        claims = self.supervisor._claiming
        claims._seconds = dict.fromkeys(ChildKind, 0.001)
        claims.record_duration = lambda kind, seconds: None  # type: ignore[method-assign]

    def dispatch(self, job_type: str, count: int) -> None:
        for _ in range(count):
            self.ledger.insert(new_job(job_type=job_type))
        self.supervisor._claiming.expect_work()

    def claim(self) -> Counter[str]:
        """Claim, begin what each child got, and count what the worker holds, by type."""
        self.supervisor._claiming.claim()
        for child, shared in zip(self.children, self.shared, strict=True):
            if child.kind is ChildKind.LOOP:
                for token in child.orders:
                    if not shared.lists(token):
                        shared.add(token)
            elif child.orders and shared.at[0] not in child.orders:
                shared.enter(next(iter(child.orders)))
        return self.held()

    def held(self) -> Counter[str]:
        return Counter(item.type_name for _, item in self.supervisor._pool.assignments())

    def place_of(self, job_type: str) -> int:
        """Which child runs a job of the type."""
        runs = [(child.shared.at[0], child) for child in self.children]
        return next(n for n, (token, child) in enumerate(runs) if token and child.orders[token].type_name == job_type)

    def die(self, job_type: str) -> None:
        """Let a child die of its job. Another takes its place."""
        self.replace(self.place_of(job_type))

    def die_loop(self, job_type: str) -> None:
        """Let the event loop's process die while the code of a job of the type runs; empty: of no job."""
        (place,) = (place for place, child in enumerate(self.children) if child.kind is ChildKind.LOOP)
        held = self.children[place].orders.items()
        if job_type:
            self.shared[place].enter(next(token for token, item in held if item.type_name == job_type))
        self.replace(place)

    def suspect(self, *names: str) -> None:
        """Let two other jobs of each type have taken down their processes, so that it is paused for 28 s."""
        for name in names:
            for job_id in (1001, 1002):
                self.suspects.took_down(name, job_id, 7.0, self.now)

    def replace(self, place: int) -> None:
        child = self.children[place]
        child.process.returncode = -9
        self.supervisor._exits.died(child)
        for token in child.orders:
            self.shared[place].remove(token)
        child.orders.clear()
        child.output = OutputFile()
        self.shared[place].leave()

    def end(self, job_type: str, code: int = 0, *, last: bool = False) -> None:
        """Let a job end. Its child goes on, or ends in good order.

        :param last: whether the child was told to stop.
        """
        place = self.place_of(job_type)
        child = self.children[place]
        token = child.shared.at[0]
        assert token is not None
        self.shared[place].leave()
        self.ledger.succeed(None, token, None)
        self.supervisor._process(child, Report(code, last=last, token=token))

    def end_oldest(self) -> None:
        """Let the job end that was dispatched first, of whatever kind."""
        held = [(item.order.job_id, token, place) for place, child in enumerate(self.children)
                for token, item in child.orders.items()]  # fmt: skip
        _, token, place = min(held)
        self.shared[place].remove(token)
        if self.shared[place].at[0] == token:
            self.shared[place].leave()
        self.ledger.succeed(None, token, None)
        self.supervisor._process(self.children[place], Report(0, token=token))

    def close(self) -> None:
        self.supervisor._selector.close()
        for one in self.sockets:
            one.close()
        for child in self.children:
            child.stack_file.close()
            child.output.close()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """Makes a worker whose clock the test has."""
    made: list[Worker] = []

    def worker(*types: str, loop_types: tuple[str, ...] = (), children: int = CHILDREN) -> Worker:
        made.append(new := Worker(*types, loop_types=loop_types, children=children))
        monkeypatch.setattr(claiming, "time", SimpleNamespace(monotonic=lambda: new.now))
        return new

    monkeypatch.setattr(SharedState, "running_seconds", 0.0)  # whatever the machine takes for a test
    yield worker
    for one in made:
        one.close()


@pytest.fixture
def worker(make: Callable[..., Worker]) -> Worker:
    return make("bad", "good")


def test_one_job_that_takes_down_its_process_changes_nothing(worker: Worker) -> None:
    worker.dispatch("bad", 10)
    assert worker.claim() == {"bad": 3}
    worker.die("bad")
    assert worker.claim() == {"bad": 3}
    worker.end("bad")
    worker.die("bad")
    assert worker.claim() == {"bad": 3}, "not in a row"


def test_a_suspect_type_waits_beside_the_others(worker: Worker) -> None:
    worker.dispatch("bad", 10)
    worker.claim()
    worker.die("bad")
    worker.die("bad")
    worker.dispatch("good", 10)
    assert worker.claim() == {"bad": 1, "good": 2}
    assert worker.supervisor.metrics.held_back_types == 1
    worker.end("bad")
    assert "bad" not in worker.suspects
    worker.end("good")
    worker.end("good")
    assert worker.claim()["bad"] >= 1, "one has ended, and its process goes on: it is not the type"
    assert worker.supervisor.metrics.held_back_types == 0


@pytest.mark.parametrize(
    ("types", "at", "losses"), [("aabb", "a", {"a": 1}), ("aabb", "", {}), ("aa", "", {"a": 1}), ("a", "", {"a": 1})]
)
def test_the_death_of_an_event_loop_counts_once_and_for_the_type_that_is_to_blame(
    make: Callable[..., Worker], types: str, at: str, losses: dict[str, int]
) -> None:
    worker = make(loop_types=("a", "b"))
    for job_type in types:
        worker.dispatch(job_type, 1)
    assert worker.claim() == Counter(types)
    worker.die_loop(at)
    assert {name: found.jobs for name, found in worker.suspects._losses.items()} == losses


def test_a_paused_type_has_a_turn_after_its_pause_and_before_the_others(worker: Worker) -> None:
    worker.dispatch("bad", 10)
    worker.claim()
    for _ in range(CHILDREN):
        worker.die("bad")
    worker.dispatch("good", 100)
    assert worker.claim() == {"good": 3}
    worker.now += 30
    assert worker.claim() == {"good": 3}, "all processes are busy"
    worker.end("good")
    assert worker.claim() == {"good": 2, "bad": 1}
    worker.end("good")
    assert worker.claim() == {"good": 2, "bad": 1}, "and no other beside it"
    worker.end("bad", 10)  # its own error, which costs no process
    worker.end("good")
    assert worker.claim()["bad"] >= 1
    assert "bad" not in worker.suspects


def test_no_job_waits_in_the_process_of_a_suspect(worker: Worker) -> None:
    worker.hold_orders_ahead()
    worker.dispatch("bad", 2)
    worker.claim()
    worker.die("bad")
    worker.die("bad")
    worker.now += 30
    worker.dispatch("bad", 1)
    worker.dispatch("good", 20)
    assert worker.claim() == {"bad": 1, "good": 4}
    assert len(worker.children[worker.place_of("bad")].orders) == 1


def test_a_worker_that_takes_no_other_type_goes_on(make: Callable[..., Worker]) -> None:
    worker = make("bad")
    worker.dispatch("bad", 10)
    for _ in range(3):
        assert worker.claim() == {"bad": 3}
        worker.die("bad")


@pytest.mark.parametrize(("loop", "busy"), [(False, False), (False, True), (True, False)])
def test_a_suspect_name_under_a_prefix_is_held_back_and_the_rest_of_the_prefix_is_not(
    make: Callable[..., Worker], loop: bool, busy: bool
) -> None:
    types = ("ingest.*", "mail")
    worker = make(*types, loop_types=("ingest.csv", "chat")) if loop else make(*types, "ingest.csv")
    worker.hold_orders_ahead()
    if busy:
        worker.dispatch("mail", 3)
        assert worker.claim() == {"mail": 3}
    worker.suspect("ingest.csv")
    worker.dispatch("ingest.csv", 10)
    worker.dispatch("ingest.xml", 2)
    assert worker.claim() == ({"mail": 3, "ingest.*": 2} if busy else {"ingest.*": 2})
    if not busy:
        worker.now += 30
        worker.dispatch("ingest.xml", 10)
        assert worker.claim()["ingest.csv"] == 1


def test_a_suspect_prefix_takes_no_turn_of_a_suspect_name_under_it(make: Callable[..., Worker]) -> None:
    worker = make("ingest.*", "ingest.csv")
    worker.suspect("ingest.*", "ingest.csv")
    worker.suspects["ingest.*"].paused_until = 0.0
    worker.dispatch("ingest.csv", 10)
    assert worker.claim() == {}
    worker.dispatch("ingest.xml", 10)
    assert worker.claim() == {"ingest.*": 1}


def test_jobs_that_began_before_the_suspicion_do_not_count(worker: Worker) -> None:
    worker.dispatch("bad", 10)
    worker.claim()
    worker.die("bad")
    worker.die("bad")
    worker.now += 30
    assert worker.claim() == {"bad": 2}, "one of them with three processes for it alone"


@pytest.mark.parametrize(("children", "at_once"), [(1, 1), (3, 1), (4, 2)])
def test_suspect_types_have_half_of_the_processes_at_most(
    make: Callable[..., Worker], children: int, at_once: int
) -> None:
    worker = make("bad1", "bad2", "bad3", "bad4", "good", children=children)
    for number in (1, 2, 3, 4):
        worker.suspect(f"bad{number}")
        worker.dispatch(f"bad{number}", 5)
    worker.dispatch("good", 10)
    worker.now += 30
    assert worker.claim()["good"] == children - at_once
    assert worker.held().total() == children


@pytest.mark.parametrize("children", [1, 3])
def test_a_suspect_type_has_its_turn_beside_a_backlog_of_short_jobs(make: Callable[..., Worker], children: int) -> None:
    worker = make("bad", "good", children=children)
    worker.hold_orders_ahead()
    worker.suspect("bad")
    worker.dispatch("good", 100)
    assert worker.claim() == {"good": 2 * children}
    worker.dispatch("bad", 1)
    worker.now += 30
    for _ in range(2 * children):
        assert worker.held()["bad"] == 0
        worker.end("good")
        if worker.claim()["bad"]:
            break
    assert worker.held()["bad"] == 1


def test_a_job_that_was_stopped_says_nothing_of_its_type(worker: Worker) -> None:
    worker.dispatch("bad", 4)
    worker.claim()
    worker.die("bad")
    worker.die("bad")
    worker.end("bad", ExitCode.FAILED, last=True)
    assert "bad" in worker.suspects
    worker.now += 30
    worker.claim()
    for _, item in worker.supervisor._pool.assignments():
        item.cancelled_at = worker.now
    worker.end("bad", ExitCode.FAILED)
    assert "bad" in worker.suspects


def test_a_worker_that_stops_holds_back_nothing(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    worker.dispatch("bad", 3)
    worker.claim()
    worker.supervisor._stopping = True
    for _ in range(3):
        worker.die("bad")
    assert "bad" not in worker.suspects
    assert "held back" not in caplog.text


def test_jobs_of_a_type_do_not_wait_for_a_long_one(worker: Worker) -> None:
    worker.suspect("bad")
    worker.dispatch("bad", 10)
    worker.now += 600
    assert worker.claim() == {"bad": 1}
    worker.now += 1
    assert worker.claim() == {"bad": 3}
