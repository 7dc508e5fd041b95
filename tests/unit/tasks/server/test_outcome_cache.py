"""What a server remembers of tasks that have ended."""

from __future__ import annotations

from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome
from spoke_jobs.tasks.server.executor import OutcomeCache


class Clock:
    """Time as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def ending(task_id: str) -> tuple[Task, Acknowledgement]:
    return Task(task_id, "n", "1"), Acknowledgement(task_id, TaskOutcome.DONE)


def test_an_ending_is_remembered_for_its_time() -> None:
    clock = Clock()
    memory = OutcomeCache(clock, seconds=10)
    memory.remember(*ending("a"))
    clock.now = 10
    found = memory.recall("a")
    assert found is not None
    assert found.ack.outcome is TaskOutcome.DONE
    clock.now = 10.1
    assert memory.recall("a") is None
    assert memory.recall("b") is None


def test_the_oldest_goes_first_and_no_more_than_the_limit_stay() -> None:
    memory = OutcomeCache(Clock(), limit=3)
    for task_id in ("a", "b", "a", "c", "d"):  # a second ending of a makes it newer than b
        memory.remember(*ending(task_id))
    assert len(memory) == 3
    assert memory.recall("b") is None
    assert all(memory.recall(task_id) for task_id in ("a", "c", "d"))


def test_what_is_too_old_takes_no_memory() -> None:
    clock = Clock()
    memory = OutcomeCache(clock, seconds=10)
    for number in range(100):
        memory.remember(*ending(str(number)))
    clock.now = 11
    memory.remember(*ending("new"))
    assert len(memory) == 1
