"""What is said of limits, rates and pauses, as texts. Pure."""

from __future__ import annotations

from datetime import datetime

from spoke_jobs.explain.words import line, until
from spoke_jobs.ledger.reading.queries import LimitState
from spoke_jobs.limits.job_limit import NO_BOUNDS, JobLimit, LimitPause

LIMIT_HEADINGS = ("SCOPE", "RUNNING", "MAX", "RATE", "FROM", "PAUSED")
_NONE = "-"


def limit_cells(item: LimitState, now: datetime) -> list[str]:
    """Describe a limit, in the order of :data:`LIMIT_HEADINGS`."""
    bounds, pause = item.limit.bounds, item.limit.paused_at(now)
    return [
        line(str(item.limit.scope)),
        str(item.running),
        _NONE if bounds.max_running is None else str(bounds.max_running),
        _NONE if bounds.rate is None else str(bounds.rate),
        _source(item.limit),
        _NONE if pause is None else pause_text(pause, now),
    ]


def pause_text(pause: LimitPause, now: datetime) -> str:
    """Say why a scope is paused, by whom, and when that ends."""
    ends = f", ends {until(pause.until, now)}" if pause.until else ""
    return f"{line(pause.reason)} (by {line(pause.by) or 'unknown'}{ends})"


def _source(limit: JobLimit) -> str:
    if limit.default is None and limit.bounds == NO_BOUNDS:
        return _NONE  # it is only paused
    changed = limit.default is not None and limit.default != limit.bounds
    return f"{limit.source} (default: {limit.default})" if changed else limit.source.value
