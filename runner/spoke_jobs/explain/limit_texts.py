"""What is said of limits, rates and pauses, as texts. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.explain.words import line, seconds, until
from spoke_jobs.ledger.reading.queries import LimitState
from spoke_jobs.limits.job_limit import NO_BOUNDS, JobLimit, LimitPause

LONG_PAUSE = timedelta(days=1)
"""Somebody may have forgotten a pause that lasts for so long."""
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


def forgotten_pause(wait: Wait, now: datetime) -> str:
    """Say that a pause may be forgotten, because it lasts for long and has no end; empty if it may not."""
    since = wait.paused_since
    if wait.code != WaitReason.PAUSED or since is None or now - since < LONG_PAUSE or wait.retry_at is not None:
        return ""
    lasts = f"This pause has no end, and has lasted {seconds((now - since).total_seconds())}"
    return f"{lasts}: ask {line(wait.by)} whether it is still wanted." if wait.by else f"{lasts}."


def _source(limit: JobLimit) -> str:
    if limit.default is None and limit.bounds == NO_BOUNDS:
        return _NONE  # it is only paused
    changed = limit.default is not None and limit.default != limit.bounds
    return f"{limit.source} (default: {limit.default})" if changed else limit.source.value
