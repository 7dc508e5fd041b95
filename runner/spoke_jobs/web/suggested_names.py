"""The names of types and queues that the fields of pages suggest. Each set of organizations has its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spoke_jobs.ledger.reading.dashboard_queries import RecentNames
from spoke_jobs.model import JobFilter
from spoke_jobs.web.viewer import Viewer

KEPT_SECONDS = 60.0
"""How long names are suggested after they were read. A name that is not among them can be typed."""
KEPT_SETS = 50
"""Of how many sets of organizations names are kept: of those that were read last."""


class SuggestedNames:
    """Reads names, and keeps them for a while. Threads may share it.

    :param read: reads the names of the newest jobs that a filter selects.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, read: Callable[[JobFilter], RecentNames], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[frozenset[int] | None, tuple[float, RecentNames]] = {}

    def of(self, viewer: Viewer) -> RecentNames:
        """Return the names of the newest jobs that a viewer may see."""
        now = self._clock()
        with self._lock:
            at, names = self._kept.get(viewer.organizations, (now - KEPT_SECONDS, None))
        if names is not None and now - at < KEPT_SECONDS:
            return names
        names = self._read(viewer.narrowed())
        with self._lock:
            self._kept.pop(viewer.organizations, None)
            self._kept[viewer.organizations] = now, names
            while len(self._kept) > KEPT_SETS:
                del self._kept[next(iter(self._kept))]
        return names
