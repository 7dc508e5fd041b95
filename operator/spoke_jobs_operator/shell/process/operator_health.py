"""The operator's liveness and readiness.

The operator is alive if an event or a comparison came recently. Events alone do not show it: a quiet cluster sends
none, and neither does a broken watch. Comparisons list the cluster every half minute, so a longer silence means a
failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.shared.probe_server import Routes, in_loop, text_answer
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics


class OperatorHealth:
    """The time of the last event or comparison.

    :param unhealthy_after_seconds: how long the operator counts as alive without an event or a comparison.
    """

    def __init__(self, unhealthy_after_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._unhealthy_after = unhealthy_after_seconds
        self._clock = clock
        self._beat_at = clock()
        self.ready = False
        """Whether the first comparison is complete. The operator can then lead."""

    def beat(self) -> None:
        """Record that an event arrived or a comparison succeeded."""
        self._beat_at = self._clock()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last event or comparison."""
        return self._clock() - self._beat_at

    @property
    def alive(self) -> bool:
        """Whether the last event or comparison is recent enough."""
        return self.silent_seconds <= self._unhealthy_after


def routes(health: OperatorHealth, metrics: OperatorMetrics) -> Routes:
    """Return the routes ``/healthz``, ``/readyz`` and ``/metrics``, answered in the running event loop."""
    return {
        "/healthz": in_loop(
            lambda: text_answer(health.alive, f"last event or comparison {health.silent_seconds:.0f} s ago\n")
        ),
        "/readyz": in_loop(
            lambda: text_answer(ready := health.ready and health.alive, "ready\n" if ready else "not ready\n")
        ),
        "/metrics": in_loop(lambda: Exposition("operator", metrics.registry.collect())),
    }
