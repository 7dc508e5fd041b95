"""The operator's liveness and readiness.

It is alive if it has heard of the cluster lately. A watch that has gone silent must not pass for a quiet cluster: the
comparison lists every half minute, so a longer silence means that something is broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spoke_jobs.contract.probe_server import Routes, exposition, in_loop, text_answer

from .operator_metrics import OperatorMetrics


class OperatorHealth:
    """When the cluster was last heard of.

    :param deaf_after_seconds: the longest silence that still counts as alive.
    """

    def __init__(self, deaf_after_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._deaf_after = deaf_after_seconds
        self._clock = clock
        self._beat_at = clock()
        self.ready = False
        """Whether the first comparison is done, so that SpokeJobs are being worked on."""

    def beat(self) -> None:
        """Record that an event came, or that a comparison succeeded."""
        self._beat_at = self._clock()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last event or comparison."""
        return self._clock() - self._beat_at

    @property
    def alive(self) -> bool:
        """Whether that is short enough."""
        return self.silent_seconds <= self._deaf_after


def routes(health: OperatorHealth, metrics: OperatorMetrics) -> Routes:
    """``/healthz``, ``/readyz`` and ``/metrics``, answered in the running event loop."""
    return {
        "/healthz": in_loop(
            lambda: text_answer(health.alive, f"heard of the cluster {health.silent_seconds:.0f} s ago\n")
        ),
        "/readyz": in_loop(
            lambda: text_answer(ready := health.ready and health.alive, "ready\n" if ready else "not ready\n")
        ),
        "/metrics": in_loop(lambda: exposition(metrics.registry.collect())),
    }
