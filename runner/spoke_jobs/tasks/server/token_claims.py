"""What a token says about itself, before anybody has verified its signature. Pure.

These claims can only be a reason to refuse a token: whoever forges a token writes what they like into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spoke_jobs.shared.token_body import read_token_body


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims that every token of a service account has (RFC 7519, section 4.1)."""

    audiences: frozenset[str]
    subject: str
    expires: float
    """Seconds since 1970."""


def read_claims(token: str) -> Claims | None:
    """Return the claims; None if this is not a token of a service account. Raises nothing, whatever the text."""
    found = read_token_body(token)
    if found is None:
        return None
    audiences, subject, expires = found.get("aud"), found.get("sub"), found.get("exp")
    if isinstance(audiences, str):
        audiences = [audiences]
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        return None
    if not isinstance(subject, str) or isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    try:
        seconds = float(expires)
    except OverflowError:
        return None
    return Claims(frozenset(audiences), subject, seconds) if math.isfinite(seconds) else None
