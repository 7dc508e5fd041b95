"""Whether sync is alive, for a probe: its loop turns, also while database or API server are away. And its metrics."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import ThreadingHTTPServer
from typing import Any, get_args

from spoke_jobs.process import probe_server
from spoke_jobs.sync.sync_model import Action

logger = logging.getLogger(__name__)

STARTING = "starting"
STANDBY = "standby"
ACTIVE = "active"
STALE_SECONDS = 120.0
"""A loop that hasn't turned for so long hangs: longer than all time-outs of one turn."""


Backlog = Callable[[], tuple[int, float]]
"""Due rows that have no SpokeJob yet, and for how many seconds the oldest has been due. Asked for by who scrapes."""


class SyncHealth:
    """When what last happened, written by the loop and read by the probe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned = self._tries_since = clock()
        self._compared: float | None = None
        self._role = STARTING
        self.done: Counter[str] = Counter()
        """What was carried out, by kind of action."""
        self.repaired: Counter[str] = Counter()
        """The part of it that a comparison of the whole had found."""
        self.comparisons = 0
        self.last_compare_seconds = 0.0

    @property
    def role(self) -> str:
        """starting, standby, active, or what it waits for."""
        return self._role

    @role.setter
    def role(self, role: str) -> None:
        if self._role == STANDBY != role:
            self._tries_since = self._clock()
        self._role = role

    @property
    def behind_seconds(self) -> float | None:
        """Since the last comparison; since it began to try, where that was later.

        None for a standby, which tries nothing: another does.
        """
        if self._role == STANDBY:
            return None
        since = self._tries_since if self._compared is None else max(self._compared, self._tries_since)
        return self._clock() - since

    def turned(self) -> None:
        """The loop has come round."""
        self._turned = self._clock()

    def listed(self) -> None:
        """Database and API server have answered as a whole: whatever was away is there again, if much is left to do."""
        if self._role != ACTIVE:
            logger.info("ledger and cluster are there: this sync is the active one")
        self.role = ACTIVE

    def compared(self, seconds: float = 0.0) -> None:
        """Ledger and cluster have been compared as a whole, which took so long, and are in step."""
        self._compared = self._clock()
        self.comparisons += 1
        self.last_compare_seconds = seconds

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well with the loop, and the figures."""
        now = self._clock()
        since_turn = now - self._turned
        since_compare = None if self._compared is None else round(now - self._compared, 1)
        figures = {
            "role": self.role,
            "secondsSinceTurn": round(since_turn, 1),
            "secondsSinceCompare": since_compare,
        }
        return since_turn < STALE_SECONDS, figures


def serve_probes(health: SyncHealth, port: int, host: str = "", backlog: Backlog | None = None) -> ThreadingHTTPServer:
    """Answer ``GET /healthz`` (200 while the loop turns, else 503) and ``GET /metrics``, in a thread of its own.

    :param port: 0 takes a free one.
    """

    return probe_server.serve(health.report, lambda: [*_of_pulse(health), *_of_backlog(backlog)], port, host)


def _of_pulse(health: SyncHealth) -> Iterator[str]:
    _, report = health.report()
    yield from _metric("active", "gauge", "1 while this sync is the active one.", health.role == ACTIVE)
    yield from _metric("seconds_since_turn", "gauge", "Since its loop last came round.", report["secondsSinceTurn"])
    behind = health.behind_seconds
    if behind is not None:
        text = "Since ledger and cluster were last compared as a whole, or began to try; absent for a standby."
        yield from _metric("seconds_since_compare", "gauge", text, round(behind, 1))
    if health.comparisons:
        text = "How long the last comparison of the whole took."
        yield from _metric("compare_seconds", "gauge", text, health.last_compare_seconds)
    yield from _metric("comparisons_total", "counter", "Comparisons of the whole.", health.comparisons)
    yield from _by_kind("actions_total", "What was done to bring ledger and cluster in step, by kind.", health.done)
    text = "What a comparison of the whole had to do, by kind: left by a crash or an outage, or missed by the watch."
    yield from _by_kind("repairs_total", text, health.repaired)


def _of_backlog(backlog: Backlog | None) -> Iterator[str]:
    if backlog is None:
        return
    try:
        count, seconds = backlog()
    except Exception:  # the database is away: the other figures are wanted all the more
        return
    yield from _metric("jobs_unlaunched", "gauge", "Due jobs that have no SpokeJob yet.", count)
    yield from _metric("oldest_unlaunched_seconds", "gauge", "For how long the oldest of them has been due.", seconds)


def _by_kind(name: str, text: str, counts: Mapping[str, int]) -> Iterator[str]:
    """All kinds from the start: an increase from nothing would be none to Prometheus."""
    kinds = sorted(action.__name__ for action in get_args(Action))
    return probe_server.labelled(
        f"spoke_sync_{name}", "counter", text, "kind", {kind: counts.get(kind, 0) for kind in kinds}
    )


def _metric(name: str, kind: str, text: str, value: float) -> Iterator[str]:
    return probe_server.metric(f"spoke_sync_{name}", kind, text, value)
