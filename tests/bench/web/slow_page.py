"""What a page says whose statement takes too long: another transaction has locked the table that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import URL, text
from tests.bench.web.dashboards import Dashboard

from spoke_jobs.ledger.engine import create_engine

SAYS = b"This takes too long"
_PATH = "/audit"
_OTHER = "/schedules"
"""A page that does not read the locked table."""


@dataclass(frozen=True, slots=True)
class SlowPage:
    """The answer."""

    said: bool
    """Whether it said what is the matter, with the status 503."""
    seconds: float
    other_ms: float
    """What another page took, right after it."""


def measure(url: URL, shown: Dashboard) -> SlowPage:
    """Ask for a page that waits for a lock."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE job_event IN ACCESS EXCLUSIVE MODE"))
            reply = shown.get(_PATH)
            other = shown.get(_OTHER)
    finally:
        engine.dispose()
    return SlowPage(reply.status == 503 and SAYS in reply.body, reply.seconds, other.seconds * 1000)
