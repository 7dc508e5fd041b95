"""A child that takes more memory than it may is ended, and only for a job that has taken it."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.worker.test_child_pool import NoProcess

from spoke_jobs.contract.causes import Cause
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.job_options import JobOptions
from spoke_jobs.model import AttemptUsage
from spoke_jobs.worker.child_exits import failure_of
from spoke_jobs.worker.child_messages import Order
from spoke_jobs.worker.child_pool import Child, ChildKind, ChildPool, HeldOrder, KillReason
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.memory_watch import MemoryWatch, bound_of, keeps_too_much
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile

MIB = 2**20


class Watched:
    """A child that does not run, with memory that the test sets."""

    def __init__(self, pool: ChildPool, kind: ChildKind, connection: socket.socket) -> None:
        shared, descriptor = SharedState.make(4)
        self.shared = SharedState.open(descriptor)
        process = NoProcess()
        process.pid = 1
        self.child = Child(kind, 1, 1, process, connection, None, shared, StackFile(), OutputFile())
        pool.children.append(self.child)
        self.used = 0
        self.watch = MemoryWatch(pool, lambda _child, _reason: None, 256 * MIB, lambda _pid, _bound: self.used)

    def holds(self, memory_bytes: int | None = 256 * MIB) -> HeldOrder:
        order = Order(1, 1, uuid4(), 60.0)
        self.child.orders[order.token] = HeldOrder(order, None, False, memory_bytes)
        return self.child.orders[order.token]

    def exceeded(self) -> KillReason | None:
        return self.watch.exceeded(self.child)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, ChildPool]]:
    ours, theirs = socket.socketpair()
    with selectors.DefaultSelector() as selector, ours, theirs:
        yield ours, ChildPool(selector)


@pytest.fixture(params=[ChildKind.THREAD])
def watched(request: pytest.FixtureRequest, ends: tuple[socket.socket, ChildPool]) -> Iterator[Watched]:
    made = Watched(ends[1], request.param, ends[0])
    yield made
    made.child.stack_file.close()
    made.child.output.close()


def test_an_attempt_ends_as_out_of_memory_with_what_was_measured(watched: Watched) -> None:
    item = watched.holds()
    watched.shared.enter(item.order.token)
    watched.used = 256 * MIB
    assert watched.exceeded() is None, "so much it may have"
    watched.used = 300 * MIB
    reason = watched.exceeded()
    assert reason is not None
    assert (reason.token, reason.cause) == (item.order.token, Cause.OUT_OF_MEMORY)
    watched.child.kill_reason = reason
    failure = failure_of(watched.child, item)
    assert failure.usage == AttemptUsage(300 * MIB)
    assert failure.message == "the job's process had 300Mi of memory; the limit in this worker is 256Mi"
    assert not failure.for_good


@pytest.mark.parametrize(("code", "signal"), [(-9, "SIGKILL"), (-11, "SIGSEGV")])
def test_the_end_of_a_killed_child_names_the_signal(watched: Watched, code: int, signal: str) -> None:
    watched.child.process.returncode = code
    failure = failure_of(watched.child, watched.holds())
    assert (failure.cause, failure.error_type) == (Cause.KILLED, signal)
    assert failure.message == f"{Cause.KILLED.meaning} ({signal})"


def test_a_child_that_runs_nothing_is_not_ended(watched: Watched) -> None:
    watched.holds()
    watched.used = 300 * MIB
    assert watched.exceeded() is None


def test_what_ended_during_the_measurement_is_not_the_next_jobs_fault(watched: Watched) -> None:
    first, second = watched.holds(), watched.holds()
    watched.shared.enter(first.order.token)

    def measure(_pid: int, _bound: int) -> int:
        watched.shared.enter(second.order.token)
        return 300 * MIB

    watched.watch.measure = measure
    assert watched.exceeded() is None


@pytest.mark.parametrize("watched", [ChildKind.LOOP], indirect=True)
def test_all_jobs_of_an_event_loop_end_and_none_is_said_to_have_had_it_all(watched: Watched) -> None:
    items = [watched.holds(), watched.holds()]
    watched.used = 300 * MIB
    watched.child.kill_reason = watched.exceeded()
    assert watched.child.kill_reason is not None
    failures = [failure_of(watched.child, item) for item in items]
    assert [(failure.cause, failure.usage.peak_memory_bytes) for failure in failures] == [("OutOfMemory", None)] * 2


def test_a_worker_whose_children_are_too_large_from_the_start_says_so(watched: Watched) -> None:
    watched.used = 256 * MIB
    watched.watch.started(watched.child)
    watched.used = 257 * MIB
    with pytest.raises(ConfigurationError, match="257Mi of memory before its first job.*256Mi: raise --job-memory"):
        watched.watch.started(watched.child)


def test_a_child_in_which_jobs_have_left_much_memory_is_replaced(watched: Watched) -> None:
    watched.used = 56 * MIB
    watched.watch.started(watched.child)
    watched.used = 156 * MIB
    assert not watched.watch.is_worn(watched.child)
    watched.used = 157 * MIB
    assert watched.watch.is_worn(watched.child)
    watched.holds()
    assert watched.watch.is_worn(watched.child), "under load it always holds an order ahead"


@pytest.mark.parametrize(
    ("bound", "left", "killed_at", "own", "limit"),
    [
        pytest.param(1024, 228, 485, 257, 256, id="it has its own limit beside what is left"),
        pytest.param(400, 228, 401, 173, 400, id="but no more than the worker gives a process"),
        pytest.param(None, 228, 485, 257, 256, id="no bound"),
        pytest.param(None, 300, 513, 213, 512, id="what is left counts from as much as the limit on: jobs may leak"),
    ],
)
def test_what_earlier_jobs_left_does_not_count_towards_a_job_s_own_limit(
    watched: Watched, bound: int | None, left: int, killed_at: int, own: int, limit: int
) -> None:
    watched.watch.bound = bound and bound * MIB
    watched.shared.memory_left = left * MIB
    item = watched.holds(256 * MIB)
    watched.shared.enter(item.order.token)
    watched.used = (killed_at - 1) * MIB
    assert watched.exceeded() is None
    watched.used = killed_at * MIB
    reason = watched.exceeded()
    assert reason is not None
    assert reason.usage.peak_memory_bytes == own * MIB
    assert reason.message == (
        f"the job's process had {killed_at}Mi of memory, {left}Mi of which earlier jobs had left; "
        f"the limit in this worker is {limit}Mi"
    )


def test_what_is_left_counts_towards_the_workers_own_bound(watched: Watched) -> None:
    watched.shared.memory_left = 100 * MIB
    item = watched.holds(256 * MIB)
    watched.shared.enter(item.order.token)
    watched.used = 257 * MIB
    reason = watched.exceeded()
    assert reason is not None
    assert reason.usage.peak_memory_bytes == 257 * MIB


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_fresh_child_is_never_worn(start: int, more: int) -> None:
    assert not keeps_too_much(start, start, start + more)


@pytest.mark.parametrize(
    ("stated", "most", "bound"),
    [
        (None, None, None),
        (None, 256 * MIB, 256 * MIB),
        ("64Mi", None, 64 * MIB),
        ("64Mi", 256 * MIB, 64 * MIB),
        ("1Gi", 256 * MIB, 256 * MIB),
        ("0", 256 * MIB, 256 * MIB),
        ("much", 256 * MIB, 256 * MIB),
    ],
)
def test_the_lower_one_of_the_workers_bound_and_the_jobs_limit_counts(
    stated: str | None, most: int | None, bound: int | None
) -> None:
    resources = {"requests": {"memory": "1Mi"}} | ({"limits": {"memory": stated}} if stated else {})
    assert bound_of(JobOptions(resources=resources), most) == bound


@given(
    st.dictionaries(
        st.sampled_from(["limits", "requests"]), st.none() | st.text() | st.dictionaries(st.text(), st.text())
    )
)
def test_whatever_other_code_wrote_as_resources_is_read(resources: dict[str, object]) -> None:
    assert bound_of(JobOptions(resources=resources), 7) == 7  # type: ignore[arg-type]
