"""The table of a job's attempts: headings and rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spoke_jobs.contract.executors import Executor, Lane, lane_of
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.explain.job_details import ATTEMPT_HEADINGS, Details
from spoke_jobs.explain.tries import Try
from spoke_jobs.explain.words import line, memory
from spoke_jobs.model import JobRequest

_OPTIONAL = ("Lane", "Memory request", "Memory limit", "Peak memory", "CPU time")
_HEADINGS = (*(name.capitalize() for name in ATTEMPT_HEADINGS), *_OPTIONAL)
_LEFT_OUT = frozenset({"Node", "Exit", *_OPTIONAL})
"""The columns that are left out if none has a value."""
_LARGEST_BYTES = 10**21
"""The largest amount of memory that is converted. Rows may have any text."""
_TEXT_LIMIT = 40
"""The most characters of an amount that is shown as it is written."""


def attempt_rows(shown: Details) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the headings and the rows of the table of attempts."""
    rows = [
        (*cells, _lane(shown.job, item), *_memory(shown.job, item, peak), cpu)
        for cells, item, (peak, cpu) in zip(shown.attempts, shown.tries, shown.measured, strict=True)
    ]
    kept = [
        place
        for place, name in enumerate(_HEADINGS)
        if name not in _LEFT_OUT or any(row[place] not in ("", "-") for row in rows)
    ]
    return tuple(_HEADINGS[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows)


def _lane(job: JobRequest, item: Try) -> str:
    """Return the lane in which an attempt ran; empty if its runner has no lanes, or nobody knows."""
    if item.seen is not None:
        return Lane.STANDBY if item.seen.lane == Lane.STANDBY else Lane.POD
    lane = lane_of(item.row.runner or job.runner) if item.row is not None else None
    if lane is Lane.POD and job.options.lane == Lane.STANDBY:
        return ""  # only its SpokeJob says whether a standby pod was free
    return lane or ""


def _memory(job: JobRequest, item: Try, peak: str) -> tuple[str, str, str]:
    """Return the memory that an attempt requested, its limit, and its peak beside the request."""
    request, limit = "", ""
    if item.seen is not None:
        request, limit = item.seen.memory_request, item.seen.memory_limit
    elif item.executor(job) is not Executor.CLUSTER:
        limit = _limit(job.options.resources)  # of what they say, a worker obeys this alone
    used = item.row.peak_memory_bytes if item.row is not None else None
    share = _share(used, request, "request") or _share(used, limit, "limit")
    return _amount(request), _amount(limit), f"{peak} ({share})" if share else peak


def _limit(resources: Any) -> str:
    """Return the limit of memory that a row's resources name; empty if they have another form."""
    limits = resources.get("limits") if isinstance(resources, Mapping) else None
    limit = limits.get("memory") if isinstance(limits, Mapping) else None
    return limit if isinstance(limit, str) else ""


def _amount(quantity: str) -> str:
    """Format an amount of memory as peaks are formatted, or as it is written if it is no amount or too large."""
    amount = in_bytes(quantity)
    return memory(int(amount)) if amount is not None and amount <= _LARGEST_BYTES else line(quantity, _TEXT_LIMIT)


def _share(used: int | None, of: str, what: str) -> str:
    """Say which share of an amount was used; empty if one of them is not known."""
    amount = in_bytes(of)
    if used is None or amount is None or not 1 <= amount <= _LARGEST_BYTES:
        return ""
    return f"{round(100 * Decimal(used) / amount):,} % of its {what}"
