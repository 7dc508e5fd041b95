"""The table of a job's attempts: headings and rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

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
    elif item.executor(job) is not Executor.CLUSTER and isinstance(job.options.resources, Mapping):
        limit = job.options.resources.get("limits", {}).get("memory", "")  # of what it says, a worker obeys this alone
    used = item.row.peak_memory_bytes if item.row is not None else None
    share = _share(used, request, "request") or _share(used, limit, "limit")
    return _amount(request), _amount(limit), f"{peak} ({share})" if share else peak


def _amount(quantity: str) -> str:
    """Format an amount of memory as peaks are formatted."""
    amount = in_bytes(quantity)
    return line(quantity) if amount is None else memory(int(amount))


def _share(used: int | None, of: str, what: str) -> str:
    """Say which share of an amount was used; empty if one of them is not known."""
    amount = in_bytes(of)
    if used is None or not amount:
        return ""
    return f"{round(100 * Decimal(used) / amount):,} % of its {what}"
