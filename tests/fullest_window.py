"""Whether starts, or the calls that they make, keep a rate in every window: the bound that a token bucket gives."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from spoke_jobs.contract.start_rate import StartRate


def excess(times: Sequence[float], rate: StartRate, slack: float = 0.0) -> float:
    """By how much the fullest window holds more than the burst and its tokens; at most 0 if none does.

    :param times: in seconds, sorted.
    :param slack: by how much the delays between tokens and these times differ at most.
    """
    per_second = rate.count / rate.seconds
    worst = -float("inf")
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            worst = max(worst, last - first + 1 - rate.burst - per_second * (times[last] - begin + slack))
    return worst


def most_in(times: Sequence[float], seconds: float) -> int:
    """How many of the times the fullest window of this length has."""
    return max((bisect_right(times, begin + seconds) - n for n, begin in enumerate(times)), default=0)
