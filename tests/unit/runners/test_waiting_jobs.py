"""Jobs of one locked queue come one at a time and in the order of their rows; no other job waits for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sync.making import job

from spoke_jobs.model import JobRequest
from spoke_jobs.runners.waiting_jobs import WaitingJobs


def locking(row: int, queue: str = "q") -> JobRequest:
    return job(id=row, queue_name=queue, locks_queue=True)


def all_of(waiting: WaitingJobs) -> list[int]:
    """The rows in the order in which one thread launches them."""
    rows = []
    while taken := waiting.take():
        rows.append(taken.row)
        waiting.launched(taken.job)
    return rows


def test_jobs_that_lock_no_queue_are_taken_in_the_order_in_which_they_come() -> None:
    waiting = WaitingJobs()
    for row in (9, 7, 8):
        waiting.add(job(id=row, queue_name="q"), 0.0)
    assert waiting.free == 3
    assert [taken.row for _ in range(3) if (taken := waiting.take())] == [9, 7, 8]


def test_what_is_cleared_does_not_end_the_launches() -> None:
    waiting = WaitingJobs()
    waiting.add(locking(1), 0.0)
    launching = waiting.take()
    assert launching
    waiting.add(locking(2), 0.0)
    waiting.add(job(id=3), 0.0)
    waiting.clear()
    assert (len(waiting), waiting.take()) == (0, None)
    waiting.add(locking(4), 0.0)
    assert waiting.take() is None, "the first one is still being launched"
    assert waiting.launched(launching.job)
    assert all_of(waiting) == [4]


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "take", "end"]), st.integers(0, 9), st.sampled_from(["", "a", "b"]))
)


@given(STEPS)
def test_whatever_comes_and_ends_each_job_is_launched_once_and_each_line_in_order(
    steps: list[tuple[str, int, str]],
) -> None:
    waiting = WaitingJobs()
    there: list[JobRequest] = []
    under_way: list[JobRequest] = []
    done: list[int] = []

    def take() -> bool:
        first, taken = waiting.first(), waiting.take()
        assert first == taken
        locked = {item.queue_name for item in under_way if item.locks_queue}
        may = [item for item in there if not (item.locks_queue and item.queue_name in locked)]
        if taken is None:
            assert may == []
            return False
        assert taken.job in may
        older = [item for item in may if item.locks_queue and taken.job.locks_queue and item.id < taken.row]
        assert taken.job.queue_name not in {item.queue_name for item in older}
        there.remove(taken.job)
        under_way.append(taken.job)
        return True

    def end(position: int) -> None:
        ended = under_way.pop(position % len(under_way))
        done.append(ended.id)
        behind = any(item.locks_queue and item.queue_name == ended.queue_name for item in there)
        assert waiting.launched(ended) is (ended.locks_queue and behind)

    rows = iter(sorted(range(len(steps)), key=lambda number: (steps[number][1], number)))
    for what, position, queue in steps:
        if what == "add":
            new = job(id=next(rows), queue_name=queue, locks_queue=queue != "")
            there.append(new)
            waiting.add(new, 0.0)
        elif what == "take":
            take()
        elif under_way:
            end(position)
        assert len(waiting) == len(there)
    while under_way or there:
        if not take():
            end(0)
    assert len(done) == len(set(done)) == sum(what == "add" for what, _, _ in steps)
