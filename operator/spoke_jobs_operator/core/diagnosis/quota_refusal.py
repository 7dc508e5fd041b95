"""Decide whether an object that a ResourceQuota refuses waits for the quota, or can never be created."""

from __future__ import annotations

import re

from spoke_jobs.contract.quantities import in_bytes
from spoke_jobs.contract.quota_message import QuotaUse, read_quota_refusal
from spoke_jobs.contract.wait_reasons import Wait, WaitReason

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
