"""Checks of the values of options. A check returns what is wrong, as text that follows the option's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from spoke_jobs.contract.retry import RetryPolicy, is_quantity
from spoke_jobs.shared.clean_text import is_storable
from spoke_jobs.shared.validation_text import wrong

Check = Callable[[Any], str]
"""Returns what is wrong with a value, as text that follows the option's name: " is 5, where ... is expected"; empty if
the value is valid."""
AUTO = "auto"
"""As resources: requests that suit what earlier jobs of the type have used."""
AFTER_LIMIT = 1000
"""How many jobs one job may depend on."""
LARGEST_NUMBER = 2**31 - 1
"""The largest number of an organization or a campaign: their columns hold 32 bits."""
LARGEST_ID = 2**63 - 1
"""The largest id of a job or a batch."""
_FIRST_YEAR, _LAST_YEAR = 1970, 9900
"""The last year leaves room for a start timeout and a time zone: their sum is still a valid date."""


class Dispatched(Protocol):
    """A job that was dispatched: a :class:`spoke_jobs.model.JobRequest`."""

    @property
    def uid(self) -> UUID:
        """The uid of its row."""


def expect(fits: Callable[[Any], bool], expected: str) -> Check:
    """Make a check: the value fits, or the text says what is expected."""

    def check(value: Any) -> str:
        return "" if fits(value) else wrong(value, expected)

    return check


def is_text(shortest: int, longest: int) -> Callable[[Any], bool]:
    """Return a condition: text of that length that the database can store."""
    return lambda value: isinstance(value, str) and shortest <= len(value) <= longest and is_storable(value)


def is_whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    """Return a condition: a whole number in that range."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def check_retry(policy: Any) -> str:
    """Check a retry policy."""
    if not isinstance(policy, RetryPolicy):
        return wrong(policy, "a spoke_jobs.RetryPolicy")
    try:
        policy.check()
    except ValueError as error:
        return f": {error}"
    return ""


def check_resources(resources: Any) -> str:
    """Check a container's resources."""
    if resources == AUTO:
        return ""
    expected = '{"requests": {"memory": "512Mi"}, "limits": {...}} or "auto"'
    if not isinstance(resources, Mapping) or not set(resources) <= {"requests", "limits"}:
        return wrong(resources, expected)
    for amounts in resources.values():
        if not isinstance(amounts, Mapping) or len(amounts) > 10:
            return wrong(resources, expected)
        for name, amount in amounts.items():
            if not isinstance(name, str) or not is_quantity(amount):
                return f": {name}{wrong(amount, 'a quantity in a string, for example 500m or 512Mi,')}"
    return ""


def check_time(when: Any) -> str:
    """Check a time."""
    if not isinstance(when, datetime):
        return wrong(when, "a datetime with a time zone")
    if when.utcoffset() is None:
        return f" is {when.isoformat()} without a time zone: use for example datetime.now(UTC) + timedelta(hours=1)"
    if when.year > _LAST_YEAR:
        return f" is {when.isoformat()}, later than the year {_LAST_YEAR}"
    return f" is {when.isoformat()}, earlier than the year {_FIRST_YEAR}" if when.year < _FIRST_YEAR else ""


def check_after(jobs: Any) -> str:
    """Check a list of jobs."""
    expected = "a list of jobs as dispatch_job returns them, or of their ids"
    if not isinstance(jobs, Sequence) or isinstance(jobs, str | bytes):
        return wrong(jobs, expected)
    for job in jobs:
        known = isinstance(job, int | UUID) and not isinstance(job, bool)
        if not known and not isinstance(getattr(job, "uid", None), UUID):
            return f": {job!r} is no job: give {expected}"
    return f" names {len(jobs):,} jobs: at most {AFTER_LIMIT:,} are possible" if len(jobs) > AFTER_LIMIT else ""
