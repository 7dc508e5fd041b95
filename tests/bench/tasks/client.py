"""The process that dispatches with one system's client: it stays until its standard input ends.

A buffer in memory is its dispatcher's: so every system's dispatcher lives on while its worker works. Latency is from
the call to the task's last line.
`python -m tests.bench.tasks.client ORDER`: see :mod:`tests.bench.lib.orders`; the answer is its output's first line.
"""

from __future__ import annotations

import sys
import time

from tests.bench.lib.client import Client
from tests.bench.lib.jobs import marks
from tests.bench.lib.orders import Order, Paced, fill, pace, text_of


def main() -> None:
    """Carry out the order, then wait to be let go."""
    order = Order.read(sys.argv[1])
    client = order.made_client()
    answer = fill(client, order) if order.action == "fill" else _paced(client, order)
    print(text_of(answer), flush=True)
    sys.stdin.read()
    close = getattr(client, "close", None)
    if close is not None:
        close()


def _paced(client: Client, order: Order) -> Paced:
    def enqueue(number: int, task_ms: int) -> float:
        called = time.monotonic()
        client.enqueue(number, task_ms)
        return called

    return pace(client, order, enqueue, marks().ended_at)


if __name__ == "__main__":
    main()
