"""Sign-ins at an identity provider that have begun. Nothing of them is stored. Pure.

What belongs to an attempt follows from the session in which it begins, and from the key that signs sessions. So any
replica can finish it, and no other browser can.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from spoke_jobs.shared.keyed_macs import keyed_mac
from spoke_jobs.web.signed_sessions import CLOCKS_DIFFER_SECONDS, Session

LASTING_SECONDS = 600
_STATE = re.compile(r"([0-9a-f]{32}\.([0-9]{1,12}))\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that has begun."""

    state: str
    """The provider sends it back by the browser. It shows that this session began the attempt, and when."""
    nonce: str
    """The provider writes it into the ID token, which is then of no use for another attempt."""
    verifier: str
    """PKCE's secret. Without it, the provider gives no ID token for the attempt's code."""

    @property
    def challenge(self) -> str:
        """The verifier's hash, by PKCE's method S256."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def begin_attempt(key: bytes, session: Session, now: float) -> Attempt:
    """Begin an attempt.

    :param key: the key that signs sessions.
    """
    return _attempt(key, session, f"{secrets.token_hex(16)}.{int(now)}")


def attempt_of(key: bytes, session: Session, state: str, now: float) -> Attempt | None:
    """Return the attempt with this state; None if the session did not begin it, or too long ago."""
    found = _STATE.fullmatch(state)
    if found is None:
        return None
    attempt = _attempt(key, session, found[1])
    if not hmac.compare_digest(state, attempt.state):
        return None
    return attempt if -CLOCKS_DIFFER_SECONDS <= now - int(found[2]) < LASTING_SECONDS else None


def _attempt(key: bytes, session: Session, beginning: str) -> Attempt:
    def part(purpose: str) -> str:
        return keyed_mac(key, purpose, f"{session.id}.{beginning}")

    return Attempt(f"{beginning}.{part('sign-in state')}", part("sign-in nonce"), part("sign-in verifier"))
