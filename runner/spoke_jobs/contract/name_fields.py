"""Read names in Kubernetes objects leniently: causes, and the names of other objects."""

from __future__ import annotations

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import is_object_name
from spoke_jobs.shared.clean_text import is_cause_name
from spoke_jobs.shared.object_fields import Body, text


def cause(body: Body, name: str = "cause") -> str:
    """Return the cause in a field: empty if there is none, `Undiagnosable` if it does not have the form of a cause."""
    found = text(body, name)
    return found if not found or is_cause_name(found) else Cause.UNDIAGNOSABLE


def object_name(body: Body, name: str) -> str:
    """Return the name of a Kubernetes object in a field; empty if no object can have that name."""
    found = text(body, name)
    return found if is_object_name(found) else ""
