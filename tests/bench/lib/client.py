"""What a system's client must offer, and how it dispatches by many at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol


class Client(Protocol):
    """A system's dispatching side. Its module offers a function that makes one for so many dispatchers at once."""

    def enqueue(self, number: int, job_ms: int) -> float:
        """Enqueue one job; returns the time (``time.monotonic()``) at which its commit had returned."""

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """Enqueue jobs one by one, by all dispatchers at once, while there is time; returns how many there were."""


def by_threads(enqueue: Callable[[int, int], object], numbers: range, job_ms: int, seconds: float, at_once: int) -> int:
    """A burst by threads: for clients whose calls block."""
    shared = iter(numbers)
    deadline = time.monotonic() + seconds
    counts = [0] * at_once
    errors: list[BaseException] = []

    def dispatcher(index: int) -> None:
        try:
            for number in _in_time(shared, deadline):
                enqueue(number, job_ms)
                counts[index] += 1
        except BaseException as error:  # raised in the main thread
            errors.append(error)

    threads = [threading.Thread(target=dispatcher, args=(index,)) for index in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts)


async def by_tasks(
    enqueue: Callable[[int, int], Awaitable[object]], numbers: range, job_ms: int, seconds: float, at_once: int
) -> int:
    """A burst by asyncio tasks: for clients whose calls are awaited."""
    shared = iter(numbers)
    deadline = time.monotonic() + seconds

    async def dispatcher() -> int:
        count = 0
        for number in _in_time(shared, deadline):
            await enqueue(number, job_ms)
            count += 1
        return count

    return sum(await asyncio.gather(*(dispatcher() for _ in range(at_once))))


def _in_time(shared: Iterator[int], deadline: float) -> Iterator[int]:
    while time.monotonic() < deadline and (number := next(shared, None)) is not None:
        yield number
