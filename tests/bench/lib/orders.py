"""What a process is told to do with a system's client: one JSON object on its command line, the answer another."""

from __future__ import annotations

import importlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, Self

from tests.bench.lib.client import Client
from tests.bench.lib.jobs import GATE, GATE_SECONDS, gates, marks

_LATE_SECONDS = 60.0


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
    seed: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """From JSON."""
        return cls(**json.loads(text))

    def made_client(self) -> Client:
        """The client that it names."""
        module, _, function = self.client.partition(":")
        client: Client = getattr(importlib.import_module(module), function)(self.concurrency)
        return client


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
    """Of each job, in milliseconds, for each kind."""


def text_of(item: Order | Filled | Paced) -> str:
    """As JSON, in one line."""
    return json.dumps(asdict(item))


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


def pace(client: Client, order: Order, enqueue: Callable[[int, int], float], reached: Callable[[int], float]) -> Paced:
    """Enqueue jobs at random times, as many a second as ordered, and see how soon each came to something.

    :param enqueue: enqueues a job; returns the time that counts from then on.
    :param reached: when the job of that number, which has ended, came to what is waited for.
    """
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
        began = _enqueue_at_random(enqueue, measured, job_ms, order)
        _await_ends(measured, _LATE_SECONDS)
        latencies.append([(reached(number) - when) * 1000 for number, when in began.items()])
    return Paced(latencies)


def _enqueue_at_random(
    enqueue: Callable[[int, int], float], numbers: range, job_ms: int, order: Order
) -> dict[int, float]:
    """The time that counts, of each. The arrivals don't wait for one another: a slow one makes the next come late."""
    arrivals = random.Random(order.seed)
    due = time.monotonic()
    began = {}
    for number in numbers:
        due += arrivals.expovariate(len(numbers) / order.seconds)
        time.sleep(max(0.0, due - time.monotonic()))
        began[number] = enqueue(number, job_ms)
    return began


def _await_ends(numbers: range, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while len(marks().ends(numbers)) < len(numbers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(marks().ends(numbers))} of {len(numbers)} jobs ended within {seconds:g} s")
        time.sleep(0.02)
