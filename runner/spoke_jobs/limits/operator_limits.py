"""Which of the ledger's limits the operator obeys, and the ledger's identity for it. Pure.

:mod:`.published_limits` has the SpokeLimits by which sync publishes them. Processes that publish none do not load those
models.
"""

from __future__ import annotations

import hashlib

from spoke_jobs.contract.limit_scopes import NUMBERED, Scope
from spoke_jobs.errors import InvalidLimit

_DIGEST = 16
_DIGITS = 18


def ledger_digest(*parts: str) -> str:
    """Return the identity of a ledger from what tells it apart: the value of a label."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]


def not_obeyed(scope: Scope) -> str:
    """Return why the operator does not obey the limit of a scope; empty if it does."""
    return "" if fits(scope) else "no SpokeLimit can have this scope (a line break, or a number of more than 18 digits)"


def fits(scope: Scope) -> bool:
    """Whether the API server accepts the scope in a SpokeLimit."""
    return "\n" not in scope.name and (scope.kind not in NUMBERED or len(scope.name) <= _DIGITS)


def check_obeyed(scope: Scope) -> None:
    """Check that the operator obeys the limit of a scope.

    :raises InvalidLimit: saying why it does not.
    """
    if problem := not_obeyed(scope):
        raise InvalidLimit(f"under kubernetes {scope} can't be limited so: {problem} (docs/how-to/limits.md)")
