"""The process that enqueues with one system's client. Latency is from the commit to the job's first line.

`python -m tests.bench.ledger.client ORDER`: see :mod:`tests.bench.lib.orders`; the answer is its output's last line.
"""

from __future__ import annotations

import sys

from tests.bench.lib.jobs import marks
from tests.bench.lib.orders import Order, fill, pace, text_of


def main() -> None:
    """Carry out the order."""
    order = Order.read(sys.argv[1])
    client = order.made_client()
    answer = fill(client, order) if order.action == "fill" else pace(client, order, client.enqueue, marks().begun_at)
    print(text_of(answer), flush=True)


if __name__ == "__main__":
    main()
