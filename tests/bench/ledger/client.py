"""What a system's client must offer, and the process that enqueues with it.

`python -m tests.bench.ledger.client ORDER`: the order is one JSON object, the last line of its output another.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from tests.bench.ledger.jobs import GATE, GATE_SECONDS, gates, marks

_LATE_SECONDS = 60.0


class Client(Protocol):
    """A system's dispatching side. Its module offers a function that makes one for so many dispatchers at once."""

    def enqueue(self, number: int, job_ms: int) -> float:
        """Enqueue one job; returns the time (``time.monotonic()``) at which its commit had returned."""

    def burst(self, numbers: range, job_ms: int, seconds: float) -> int:
        """Enqueue jobs one by one, by all dispatchers at once, while there is time; returns how many there were."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a client process is to do."""

    client: str
    """module:function that makes the client."""
    action: Literal["fill", "pace"]
    """fill: enqueue gates, then a backlog. pace: jobs at a given rate, to a worker that runs."""
    jobs_ms: tuple[int, ...]
    """The kinds of job, one after the other; ``fill`` takes the first."""
    jobs: int
    """How many of each kind; ``fill``: at most."""
    concurrency: int
    seconds: float
    """How long for each kind."""
    seed: int


@dataclass(frozen=True, slots=True)
class Filled:
    """What ``fill`` did."""

    jobs: int
    """How many were enqueued after the gates."""
    per_second: float


@dataclass(frozen=True, slots=True)
class Paced:
    """What ``pace`` found."""

    latencies_ms: list[list[float]]
    """Commit to start of each job, in milliseconds, for each kind."""


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


def fill(client: Client, order: Order) -> Filled:
    """Enqueue the gates, then a backlog: as fast as the client can."""
    job_ms = order.jobs_ms[0]
    for number in gates():
        client.enqueue(number, GATE)
    numbers = range(len(gates()), len(gates()) + order.jobs)
    warming = numbers[: 4 * order.concurrency]
    client.burst(warming, job_ms, _LATE_SECONDS)
    begin = time.monotonic()
    count = client.burst(numbers[len(warming) :], job_ms, order.seconds)
    passed = time.monotonic() - begin
    return Filled(jobs=len(warming) + count, per_second=count / passed)


def pace(client: Client, order: Order) -> Paced:
    """Enqueue jobs at random times, as many a second as ordered, and see how soon each began."""
    for number in gates():
        client.enqueue(number, GATE)
    _await_ends(gates(), GATE_SECONDS + 60)
    numbers = range(len(gates()), len(gates()) + len(order.jobs_ms) * order.jobs)
    latencies = []
    for index, job_ms in enumerate(order.jobs_ms):
        mine = numbers[index * order.jobs :][: order.jobs]
        warming, measured = mine[: order.concurrency], mine[order.concurrency :]
        for number in warming:
            client.enqueue(number, job_ms)
        _await_ends(warming, _LATE_SECONDS)
        time.sleep(0.3)
        committed = _enqueue_at_random(client, measured, job_ms, order)
        _await_ends(measured, _LATE_SECONDS)
        latencies.append([(marks().begun_at(number) - when) * 1000 for number, when in committed.items()])
    return Paced(latencies)


def _enqueue_at_random(client: Client, numbers: range, job_ms: int, order: Order) -> dict[int, float]:
    """When each job was committed. The arrivals don't wait for one another: a slow one makes the next come late."""
    arrivals = random.Random(order.seed)
    due = time.monotonic()
    committed = {}
    for number in numbers:
        due += arrivals.expovariate(len(numbers) / order.seconds)
        time.sleep(max(0.0, due - time.monotonic()))
        committed[number] = client.enqueue(number, job_ms)
    return committed


def _await_ends(numbers: range, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while len(marks().ends(numbers)) < len(numbers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(marks().ends(numbers))} of {len(numbers)} jobs ended within {seconds:g} s")
        time.sleep(0.02)


def main() -> None:
    """Carry out the order."""
    order = Order(**json.loads(sys.argv[1]))
    module, _, function = order.client.partition(":")
    client: Client = getattr(importlib.import_module(module), function)(order.concurrency)
    answer: Filled | Paced = fill(client, order) if order.action == "fill" else pace(client, order)
    print(json.dumps(asdict(answer)), flush=True)


if __name__ == "__main__":
    main()
