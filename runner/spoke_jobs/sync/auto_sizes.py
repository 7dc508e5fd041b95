"""The requests of jobs with ``resources="auto"``: what earlier jobs of the type have used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from spoke_jobs.explain.sizes import auto_requests, sizes
from spoke_jobs.ledger.reading.usage_queries import usage_of

KEPT_SECONDS = 300.0
"""For how long the sizes of a type are used before they are read again."""
_MOST_TYPES = 1000


@dataclass(slots=True)
class AutoSizes:
    """The requests of each type, as they were a moment ago."""

    clock: Callable[[], float]
    _known: dict[str, tuple[float, Mapping[str, str]]] = field(default_factory=dict)

    def of(self, connection: Connection, job_type: str) -> Mapping[str, str]:
        """Return the requests of a type; empty while too few of its jobs have told what they use."""
        now = self.clock()
        read_at, requests = self._known.get(job_type, (float("-inf"), {}))
        if now < read_at + KEPT_SECONDS:
            return requests
        (size,) = sizes([usage_of(connection, job_type)], {})
        requests = auto_requests(size)
        if len(self._known) >= _MOST_TYPES:
            self._known.clear()
        self._known[job_type] = (now, requests)
        return requests
