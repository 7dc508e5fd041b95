"""The process that dispatches with one system's client: it stays until its standard input ends.

A buffer in memory is its dispatcher's: so every system's dispatcher lives on while its worker works.
`python -m tests.bench.tasks.client ORDER`: the order is one JSON object, and so is each line of its output.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

from tests.bench.ledger.client import Client
from tests.bench.ledger.jobs import GATE, GATE_SECONDS, gates, marks

_LATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a client process is to do."""

    client: str
    """module:function that makes the client."""
    action: Literal["fill", "pace"]
    """fill: dispatch gates, then as many as there is time for. pace: at a given rate, to a worker that runs."""
    tasks_ms: tuple[int, ...]
    """The kinds of task, one after the other; ``fill`` takes the first."""
    tasks: int
    """How many of each kind; ``fill``: at most."""
    concurrency: int
    seconds: float
    seed: int = 0


def fill(client: Client, order: Order) -> dict[str, float]:
    """How many were dispatched, and how many a second."""
    task_ms = order.tasks_ms[0]
    for number in gates():
        client.enqueue(number, GATE)
    numbers = range(len(gates()), len(gates()) + order.tasks)
    warming = numbers[: 4 * order.concurrency]
    client.burst(warming, task_ms, _LATE_SECONDS)
    begin = time.monotonic()
    count = client.burst(numbers[len(warming) :], task_ms, order.seconds)
    return {"tasks": len(warming) + count, "per_second": count / (time.monotonic() - begin)}


def pace(client: Client, order: Order) -> dict[str, list[list[float]]]:
    """From the call to the task's end, in milliseconds, for each task of each kind."""
    for number in gates():
        client.enqueue(number, GATE)
    _await_ends(gates(), GATE_SECONDS + 60)
    numbers = range(len(gates()), len(gates()) + len(order.tasks_ms) * order.tasks)
    latencies = []
    for index, task_ms in enumerate(order.tasks_ms):
        mine = numbers[index * order.tasks :][: order.tasks]
        warming, measured = mine[: order.concurrency], mine[order.concurrency :]
        for number in warming:
            client.enqueue(number, task_ms)
        _await_ends(warming, _LATE_SECONDS)
        time.sleep(0.3)
        called = _at_random(client, measured, task_ms, order)
        _await_ends(measured, _LATE_SECONDS)
        latencies.append([(_end(number) - when) * 1000 for number, when in called.items()])
    return {"latencies_ms": latencies}


def _at_random(client: Client, numbers: range, task_ms: int, order: Order) -> dict[int, float]:
    """When each was called for. The arrivals don't wait for one another: a slow one makes the next come late."""
    arrivals = random.Random(order.seed)
    due = time.monotonic()
    called = {}
    for number in numbers:
        due += arrivals.expovariate(len(numbers) / order.seconds)
        time.sleep(max(0.0, due - time.monotonic()))
        called[number] = time.monotonic()
        client.enqueue(number, task_ms)
    return called


def _end(number: int) -> float:
    (when,) = marks().ends(range(number, number + 1))
    return when


def _await_ends(numbers: range, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while len(marks().ends(numbers)) < len(numbers):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(marks().ends(numbers))} of {len(numbers)} tasks ended within {seconds:g} s")
        time.sleep(0.02)


def main() -> None:
    """Carry out the order, then wait to be let go."""
    order = Order(**json.loads(sys.argv[1]))
    module, _, function = order.client.partition(":")
    client: Any = getattr(importlib.import_module(module), function)(order.concurrency)
    answer = fill(client, order) if order.action == "fill" else pace(client, order)
    print(json.dumps(answer), flush=True)
    sys.stdin.read()
    close = getattr(client, "close", None)
    if close is not None:
        close()


if __name__ == "__main__":
    main()
