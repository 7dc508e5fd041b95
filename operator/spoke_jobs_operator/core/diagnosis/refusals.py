"""The API server's refusals of a Job: their meaning, and when to retry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.contract.quota_message import QuotaUse, read_quota_refusal
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.shared.backoff import Backoff

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


_RACE = re.compile(r"Operation cannot be fulfilled on resourcequotas\b")
"""What the API server says when it could not count a new object, because others were created at the same time."""


def quota_wait(message: str) -> Wait | None:
    """Return what a refused object waits for; None if it waits for no quota, or if no other object's end would help.

    An object that alone requests more than a quota allows does not wait. A quota of zero is different: somebody has
    closed the namespace for a while, so the object waits until the quota is back.
    """
    refusal = read_quota_refusal(message)
    if refusal is None or any(map(_never_fits, refusal.uses)):
        return None
    return Wait(
        WaitReason.QUOTA_EXCEEDED,
        object=refusal.quota,
        quota=refusal.uses,
        detail="" if refusal.uses else message,
    )


def _never_fits(use: QuotaUse) -> bool:
    requested, hard = in_bytes(use.requested), in_bytes(use.hard)
    return requested is not None and hard is not None and 0 < hard < requested


def is_race(message: str) -> bool:
    """Whether an object was refused only because others were created at the same time. The next try creates it."""
    return _RACE.search(message) is not None
