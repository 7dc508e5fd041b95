"""What the API server's refusal of a Job means."""

from __future__ import annotations

from datetime import datetime

from .reconcile import Refusal

_INVALID = (400, 422)
_FORBIDDEN = 403
_TOO_LARGE = 413
_FAILED, _WEBHOOK = 500, "failed calling webhook"


def read_refusal(status: int, message: str, at: datetime) -> Refusal | None:
    """The refusal as something to wait for; None for an error that is no verdict on the Job (timeouts, 5xx, 429).

    An admission webhook that can't be asked is answered with 500: others' Jobs may pass, so this one's waiting has a
    name, and an end.

    ``status`` is the HTTP status; ``message`` the API server's own words.
    """
    if status in (*_INVALID, _TOO_LARGE):
        return Refusal("TemplateInvalid", message, at)
    if status == _FORBIDDEN or (
        status == _FAILED and _WEBHOOK in message
    ):  # quota, an admission policy, a namespace that is being deleted
        return Refusal("PodRejected", message, at)
    return None


def foreign_job(name: str, at: datetime) -> Refusal:
    """A Job with the attempt's name is there, and it is not this SpokeJob's."""
    return Refusal("NameTaken", f"Job {name!r} is another object's: it has to go before this attempt can start", at)
