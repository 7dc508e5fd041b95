"""How long each address takes: one request at a time, in shuffled order, again and again.

The dashboard itself reports no times. So the client measures from the connection to the last byte, on loopback, and
subtracts nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from tests.bench.web.dashboards import Dashboard
from tests.bench.web.figures import Timed
from tests.bench.web.request_plan import Address

WARM_UP = 1
"""Requests of each address that are not counted."""
LEAST = 5
"""An address that takes long is asked for no more than that often..."""
ENOUGH_SECONDS = 10.0
"""...once its requests have taken that long together."""


def measure(
    addresses: Sequence[Address], dashboards: Mapping[str, Dashboard], requests: int, say: Callable[[str], None]
) -> list[Timed]:
    """Ask for each address as often as given, or less often if it takes long.

    :param dashboards: by viewer.
    """
    order = random.Random(7)
    times: dict[str, list[float]] = {each.key: [] for each in addresses}
    sizes, wrong = dict.fromkeys(times, 0), dict.fromkeys(times, 0)
    for number in range(WARM_UP + requests):
        asked = 0
        for each in order.sample(addresses, len(addresses)):
            taken = times[each.key]
            if is_enough(taken):
                continue
            reply = dashboards[each.viewer].get(each.path)
            asked += 1
            if number >= WARM_UP:
                taken.append(reply.seconds)
                sizes[each.key] = len(reply.body)
                wrong[each.key] += reply.status != each.status
        say(f"pages, round {number + 1} of {WARM_UP + requests}: {asked} of {len(addresses)} addresses")
    return [
        Timed(
            each.viewer,
            each.kind,
            each.name,
            each.path,
            [seconds * 1000 for seconds in times[each.key]],
            sizes[each.key],
            wrong[each.key],
        )
        for each in addresses
    ]


def is_enough(seconds: Sequence[float]) -> bool:
    """Whether an address has been asked for often enough, because it takes long."""
    return len(seconds) >= LEAST and sum(seconds) > ENOUGH_SECONDS
