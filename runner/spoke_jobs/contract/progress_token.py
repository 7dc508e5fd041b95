"""Tokens with which an end user follows the progress of one job: its id, its run and an expiry, signed. Pure.

The application makes them, and whoever serves progress reads them (:mod:`spoke_jobs.web.progress_app`). They say who
may look, and nothing about the job. Nothing is stored, so a token cannot be withdrawn before it expires, except by a
new key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.shared.keyed_macs import derived_key, is_keyed_mac, keyed_mac

TOKEN_LIMIT = 120
"""The most characters of a token."""
LONGEST_VALID_SECONDS = 30 * 86_400
"""The longest time for which a token is valid."""
_PURPOSE = "progress"
_FORM = re.compile(r"([0-9]{1,19})\.([0-9]{1,10})\.([0-9]{1,12})\.([0-9a-f]{64})")
_NO_TOKEN = f"0.0.0.{'0' * 64}"


@dataclass(frozen=True, slots=True)
class ProgressToken:
    """What a token says."""

    job_id: int
    run: int
    """The run of the job when the token was made. It is valid for later runs, too: a job that moves to a pod, or that
    is retried by hand, begins another run. A row with an earlier run is not the row that the token is about."""
    expires_at: int
    """Seconds since 1970."""

    def signed(self, secret: str) -> str:
        """Return the token's text. It can be a segment of a URL's path."""
        text = f"{self.job_id}.{self.run}.{self.expires_at}"
        return f"{text}.{keyed_mac(derived_key(secret, _PURPOSE), _PURPOSE, text)}"


def read_token(text: str, secrets: Sequence[str], now: float) -> ProgressToken | None:
    """Read a token's text; None if nobody with one of the secrets wrote it, or if it has expired.

    It takes the same time for any text, whichever of the secrets has signed it.
    """
    found = _FORM.fullmatch(text) if len(text) <= TOKEN_LIMIT else None
    compared = text if found is not None else _NO_TOKEN
    signed, _, mac = compared.rpartition(".")
    known = [is_keyed_mac(mac, derived_key(secret, _PURPOSE), _PURPOSE, signed) for secret in secrets]
    if found is None or not any(known):
        return None
    token = ProgressToken(int(found[1]), int(found[2]), int(found[3]))
    return token if now < token.expires_at and token.job_id <= LARGEST_ID else None
