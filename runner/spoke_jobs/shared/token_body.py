"""Read the body of a JSON Web Token without verifying its signature. Whoever forges a token writes what they like."""

from __future__ import annotations

import base64
import re
from typing import Any

from spoke_jobs.shared.strict_json import NotJson, read_json_object

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_LIMIT = 8_192
"""The longest token, in characters. A service account's has about 1,000."""


def read_token_body(token: str) -> dict[str, Any] | None:
    """Return the token's claims; None if this is no token. Raises nothing, whatever the text."""
    if len(token) > _LIMIT or not _FORM.fullmatch(token):
        return None
    part = token.split(".")[1]
    try:
        found = read_json_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:  # no whole number of bytes
        return None
    return None if isinstance(found, NotJson) else found
