"""What becomes of a SpokeJob that can't be read."""

from __future__ import annotations

from datetime import datetime

from spoke_jobs.contract.spokejob import SpokeJobStatus

from . import status
from .actions import ApplyStatus
from .model import Unreadable


def reconcile_unreadable(item: Unreadable, now: datetime) -> tuple[ApplyStatus, ...]:
    """It ends as InvalidSpec, naming the fields, and is let alone from then on."""
    if item.settled:
        return ()
    message = f"not readable: {item.problem}."
    final = status.finished(SpokeJobStatus(observed_generation=item.generation), "InvalidSpec", now, message)
    return (ApplyStatus(final),)
