"""What a worker claims while one type's jobs take down the processes that run them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from tests.contract.ledger import LEASE, new_job
from tests.unit.worker.test_child_pool import NoProcess

from spoke_jobs.ledger.memory.memory_ledger import MemoryLedger
from spoke_jobs.worker import claiming
from spoke_jobs.worker.child_messages import Report
from spoke_jobs.worker.child_pool import Child, ChildKind
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile
from spoke_jobs.worker.supervisor import Supervisor
from spoke_jobs.worker.worker_options import WorkerOptions

CHILDREN = 3


class Worker:
    """A supervisor with children whose part the test plays."""

    def __init__(self, *types: str) -> None:
        self.now = 1000.0
        self.ledger = MemoryLedger()
        self.supervisor = Supervisor(self.ledger, WorkerOptions("legacy", types, CHILDREN, LEASE, 60.0))
        self.sockets, self.shared = [], []
        for _ in range(CHILDREN):
            ours, theirs = socket.socketpair()
            shared, descriptor = SharedState.make(0)
            child = Child(
                ChildKind.THREAD, 1, 1, NoProcess(), ours, None, shared, StackFile(), OutputFile(), ready=True
            )
            self.sockets += [ours, theirs]
            self.shared.append(SharedState.open(descriptor))
            self.supervisor._pool.children.append(child)
            self.supervisor._selector.register(ours, 1, child)

    @property
    def children(self) -> list[Child]:
        return self.supervisor._pool.children

    def dispatch(self, job_type: str, count: int) -> None:
        for _ in range(count):
            self.ledger.insert(new_job(job_type=job_type))
        self.supervisor._claiming.expect_work()

    def claim(self) -> Counter[str]:
        """Claim, begin what each child got, and count what the worker holds, by type."""
        self.supervisor._claiming.claim()
        for child, shared in zip(self.children, self.shared, strict=True):
            if child.orders and shared.at[0] not in child.orders:
                shared.enter(next(iter(child.orders)))
        return Counter(item.type_name for _, item in self.supervisor._pool.assignments())

    def place_of(self, job_type: str) -> int:
        """Which child runs a job of the type."""
        runs = [(child.shared.at[0], child) for child in self.children]
        return next(n for n, (token, child) in enumerate(runs) if token and child.orders[token].type_name == job_type)

    def die(self, job_type: str) -> None:
        """Let a child die of its job. Another takes its place."""
        place = self.place_of(job_type)
        child = self.children[place]
        child.process.returncode = -9
        self.supervisor._exits.died(child)
        child.orders.clear()
        child.output = OutputFile()
        self.shared[place].leave()

    def end(self, job_type: str, code: int = 0) -> None:
        """Let a job end. Its child goes on."""
        place = self.place_of(job_type)
        child = self.children[place]
        token = child.shared.at[0]
        assert token is not None
        self.shared[place].leave()
        self.ledger.succeed(None, token, None)
        self.supervisor._process(child, Report(code, token=token))

    def close(self) -> None:
        self.supervisor._selector.close()
        for one in self.sockets:
            one.close()
        for child in self.children:
            child.stack_file.close()
            child.output.close()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    made = Worker("bad", "good")
    monkeypatch.setattr(claiming, "time", SimpleNamespace(monotonic=lambda: made.now))
    yield made
    made.close()


def test_one_job_of_the_type_runs_at_a_time_beside_the_others(worker: Worker) -> None:
    worker.dispatch("bad", 10)
    assert worker.claim() == {"bad": 3}
    worker.die("bad")
    worker.dispatch("good", 10)
    assert worker.claim() == {"bad": 2, "good": 1}
    worker.end("bad")
    assert worker.claim() == {"bad": 2, "good": 1}, "one has ended, and its process goes on: it is not the type"
    worker.die("bad")
    worker.die("bad")
    assert worker.claim() == {"good": 3}


def test_a_paused_type_has_a_turn_after_its_pause_and_before_the_others(worker: Worker) -> None:
    worker.dispatch("bad", 10)
    worker.claim()
    for _ in range(CHILDREN):
        worker.die("bad")
    worker.dispatch("good", 100)
    assert worker.claim() == {"good": 3}
    worker.now += 3600
    assert worker.claim() == {"good": 3}, "all processes are busy"
    worker.end("good")
    assert worker.claim() == {"good": 2, "bad": 1}
    worker.end("good")
    assert worker.claim() == {"good": 2, "bad": 1}, "and no other beside it"
    worker.end("bad", 10)  # its own error, which costs no process
    worker.end("good")
    assert worker.claim()["bad"] >= 1
    assert "bad" not in worker.supervisor._claiming._suspects


def test_no_job_waits_in_the_process_of_a_suspect(worker: Worker) -> None:
    worker.supervisor._claiming._seconds = dict.fromkeys(ChildKind, 0.001)  # jobs are short: orders are held ahead
    worker.dispatch("bad", 1)
    worker.claim()
    worker.die("bad")
    worker.dispatch("bad", 1)
    worker.dispatch("good", 20)
    assert worker.claim() == {"bad": 1, "good": 4}
    assert len(worker.children[worker.place_of("bad")].orders) == 1


def test_a_worker_that_takes_no_other_type_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("bad")
    worker.dispatch("bad", 10)
    for _ in range(3):
        assert worker.claim() == {"bad": 3}
        worker.die("bad")
    worker.close()
