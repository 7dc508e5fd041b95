"""The API server's refusals of a Job: their meaning, and when to retry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.shared.backoff import Backoff

from .quota_refusal import quota_wait

_BACKOFF = Backoff(base=10.0, maximum=60.0)
"""The waits before a refused Job is created again."""
REFUSED_VALUES = (400, 422)
"""HTTP statuses that refuse the written value. The same write would be refused again."""
_FORBIDDEN = 403
_TOO_LARGE = 413
_FAILED, _WEBHOOK = 500, "failed calling webhook"
_DENIED = re.compile("denied (the )?request")
"""How the API server reports a refusal by an admission policy or a webhook. The policy's author chooses the HTTP
status. The default is 422 for a ValidatingAdmissionPolicy and 400 for a webhook."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last refusal of the next attempt's Job. The shell keeps one for each SpokeJob."""

    wait: Wait
    """The reason that the SpokeJob shows until the next try."""
    at: datetime
    times: int = 1
    """The number of consecutive refusals."""

    @property
    def retry_at(self) -> datetime:
        """When the next try is due."""
        return self.at + timedelta(seconds=_BACKOFF.after(self.times))

    def is_over(self, now: datetime) -> bool:
        """Whether the next try is due."""
        return now >= self.retry_at


def read_refusal(status: int, message: str, at: datetime) -> Refusal | None:
    """Return the refusal that an error means; None for a temporary error (timeout, 5xx, 429).

    Status 500 for an unreachable admission webhook is a refusal: it may concern this Job only. The SpokeJob then waits
    with a reason, for as long as the webhook is away.

    :param status: the HTTP status.
    :param message: the API server's message.
    """
    if status in REFUSED_VALUES and _DENIED.search(message):
        return Refusal(Wait(Cause.POD_REJECTED, detail=message), at)
    if status in (*REFUSED_VALUES, _TOO_LARGE):
        return Refusal(Wait(Cause.TEMPLATE_INVALID, detail=message), at)
    if status == _FORBIDDEN and (wait := quota_wait(message)) is not None:
        return Refusal(wait, at)
    if status == _FORBIDDEN:  # an admission policy, a namespace that is being deleted
        return Refusal(Wait(Cause.POD_REJECTED, detail=message), at)
    if status == _FAILED and is_webhook_away(message):
        return Refusal(Wait(WaitReason.WEBHOOK_AWAY, detail=message), at)
    return None


def is_webhook_away(message: str) -> bool:
    """Whether a message of the API server says that an admission webhook could not be called."""
    return _WEBHOOK in message


def foreign_job(name: str, at: datetime) -> Refusal:
    """Return the refusal for an attempt whose Job name is taken by another object's Job."""
    return Refusal(Wait(Cause.NAME_TAKEN, object=name), at)
