"""Figures for Prometheus: a histogram of seconds, and the text format."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Histogram:
    """How often what took how long."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, text: str) -> Iterator[str]:
        """As Prometheus reads it."""
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} histogram"
        so_far = 0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            so_far += count
            yield f'{name}_bucket{{le="{bound:g}"}} {so_far}'
        so_far += self.counts[-1]
        yield f'{name}_bucket{{le="+Inf"}} {so_far}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {so_far}"
