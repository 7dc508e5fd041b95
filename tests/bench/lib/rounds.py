"""Systems in shuffled order, again and again while there is time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tests.bench.lib.settings import Settings
from tests.bench.lib.system import System

S = TypeVar("S")
"""One measurement of a system with one kind of job."""


def samples_of(
    settings: Settings,
    systems: Sequence[System],
    measured: Callable[[System, int], Iterable[S]],
    shown: Callable[[S], str],
) -> list[S]:
    """All samples, by system in the order given, then by kind of job, then by round. Each prints a line.

    :param measured: one system's samples in the round of that number: one for each kind of job.
    """
    begin = time.monotonic()
    order = random.Random(settings.seed)
    found: dict[tuple[int, int, int], S] = {}
    longest = 0.0
    for number in range(1, settings.rounds + 1):
        began = time.monotonic()
        if began + longest > begin + 60 * settings.minutes:
            print(f"no time for round {number}: MINUTES={settings.minutes:g}", flush=True)
            break
        for place in order.sample(range(len(systems)), len(systems)):
            for kind, sample in enumerate(measured(systems[place], number)):
                found[place, kind, number] = sample
                passed = time.monotonic() - begin
                print(f"[{passed:4.0f} s] round {number}/{settings.rounds}  {shown(sample)}", flush=True)
        longest = max(longest, time.monotonic() - began)
    return [found[key] for key in sorted(found)]
