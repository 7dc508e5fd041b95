"""The API server's refusal of a Job: what it means, and when to try again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.contract.backoff import Backoff
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import Wait

_BACKOFF = Backoff(base=10.0, maximum=60.0)
"""When a Job that the API server refused is created again."""
_INVALID = (400, 422)
_FORBIDDEN = 403
_TOO_LARGE = 413
_FAILED, _WEBHOOK = 500, "failed calling webhook"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server's last answer to creating the next attempt's Job, kept by the shell for one SpokeJob."""

    wait: Wait
    """What the SpokeJob waits for until the next try."""
    at: datetime
    times: int = 1
    """How often in a row."""

    @property
    def retry_at(self) -> datetime:
        """When the next try is due."""
        return self.at + timedelta(seconds=_BACKOFF.after(self.times))

    def is_over(self, now: datetime) -> bool:
        """Whether the next try is due."""
        return now >= self.retry_at


def read_refusal(status: int, message: str, at: datetime) -> Refusal | None:
    """Return the refusal as something to wait for; None for an error that is no verdict (timeouts, 5xx, 429).

    An admission webhook that can't be reached is answered with 500: other Jobs may pass it, so this one waits with a
    reason, and not for ever.

    :param status: the HTTP status.
    :param message: the API server's own words.
    """
    if status in (*_INVALID, _TOO_LARGE):
        return Refusal(Wait(Cause.TEMPLATE_INVALID, detail=message), at)
    if status == _FORBIDDEN or (
        status == _FAILED and _WEBHOOK in message
    ):  # quota, an admission policy, a namespace that is being deleted
        return Refusal(Wait(Cause.POD_REJECTED, detail=message), at)
    return None


def foreign_job(name: str, at: datetime) -> Refusal:
    """Return the refusal for a Job that has the attempt's name and belongs to another object."""
    return Refusal(Wait(Cause.NAME_TAKEN, object=name), at)
