"""Who runs a command that changes something."""

from __future__ import annotations

from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import ACTOR_LIMIT, process_actor


def name_of_actor(given: str | None) -> str:
    """Return the name that was given, or that of the process: ``ada@laptop``, or a pod's service account."""
    return line(given or "", ACTOR_LIMIT) or process_actor()
