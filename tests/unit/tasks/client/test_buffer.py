"""What a dispatcher holds: bounded, in order, and let go only by name."""

from __future__ import annotations

import threading
import time

import pytest

from spoke_jobs.errors import TaskBufferFull
from spoke_jobs.tasks.client.buffer import Buffer
from spoke_jobs.tasks.protocol.messages import Task


def task(number: int) -> Task:
    return Task(str(number), "n", "1")


def filled(count: int, limit: int = 100, limit_bytes: int = 1_000) -> Buffer:
    buffer = Buffer(limit, limit_bytes, lambda: None)
    for number in range(count):
        buffer.put(task(number), 10, 0)
    return buffer


def numbers(buffer: Buffer, limit: int = 100, limit_bytes: int = 1_000) -> list[str]:
    return [item.task.id for item in buffer.take(limit, limit_bytes)]


def test_the_oldest_come_first_within_number_and_bytes() -> None:
    buffer = filled(10)
    assert numbers(buffer, limit=3) == ["0", "1", "2"]
    assert numbers(buffer, limit_bytes=20) == ["3", "4"]
    assert numbers(buffer, limit_bytes=5) == ["5"]
    assert buffer.counts() == (10, 4)


def test_what_is_given_back_comes_first_in_its_old_order() -> None:
    buffer = filled(4)
    buffer.requeue(buffer.take(2, 1_000))
    assert numbers(buffer) == ["0", "1", "2", "3"]


def test_a_task_takes_room_until_it_is_let_go() -> None:
    buffer = filled(2, limit=2)
    taken = buffer.take(1, 1_000)
    with pytest.raises(TaskBufferFull, match="2 tasks.*SPOKE_TASKS_URL"):
        buffer.put(task(3), 10, 0)
    buffer.remove(taken)
    buffer.remove(taken)  # twice is once
    buffer.put(task(3), 10, 0)
    with pytest.raises(TaskBufferFull):
        buffer.put(task(4), 10, 0)
    assert [item.id for item in buffer.kept()] != []


def test_bytes_are_bounded_too_but_one_task_always_fits() -> None:
    buffer = filled(1, limit_bytes=15)
    with pytest.raises(TaskBufferFull):
        buffer.put(task(1), 10, 0)
    assert Buffer(1, 15, lambda: None).put(task(1), 100, 0) is None


def test_putting_waits_for_room() -> None:
    buffer = filled(1, limit=1)
    taken = buffer.take(1, 1_000)
    timer = threading.Timer(0.2, buffer.remove, [taken])
    began = time.monotonic()
    timer.start()
    buffer.put(task(2), 10, 20)
    assert 0.1 < time.monotonic() - began < 15
    timer.join()


def test_emptiness_is_waited_for() -> None:
    buffer = filled(1)
    assert not buffer.wait_empty(0.05)
    taken = buffer.take(1, 1_000)
    assert not buffer.wait_empty(0)
    buffer.remove(taken)
    assert buffer.wait_empty(0)


def test_the_taker_is_woken_once_when_it_found_nothing() -> None:
    woken: list[int] = []
    buffer = Buffer(10, 1_000, lambda: woken.append(1))
    buffer.put(task(1), 1, 0)
    buffer.put(task(2), 1, 0)
    assert len(woken) == 1
    assert len(buffer.take(10, 1_000)) == 2
    buffer.put(task(3), 1, 0)
    assert len(woken) == 1  # it took something, and looks again by itself
    buffer.take(10, 1_000)
    assert buffer.take(10, 1_000, polls=True) == []
    buffer.put(task(4), 1, 0)
    assert len(woken) == 1  # nor while it stays awake
    assert len(buffer.take(10, 1_000, polls=True)) == 1
    assert buffer.take(10, 1_000) == []
    buffer.put(task(5), 1, 0)
    assert len(woken) == 2
