"""Sessions and form tokens, which are signed and not stored. Pure.

A cookie holds the session's id, when it began, whether its holder has signed in, and perhaps a text, with a MAC. The
token of a form is a MAC of the session's id and the viewer's name, so that it is of no use in another session, or to
somebody else.

Of a sign-in at an identity provider that has begun, nothing is stored either. What belongs to it follows from the
session in which it begins, and from the key that signs sessions. So any replica can finish it, and no other browser.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Self

from spoke_jobs.shared.keyed_macs import derived_key, is_keyed_mac, keyed_mac

LASTING_SECONDS = 12 * 3600
CLOCKS_DIFFER_SECONDS = 60
"""How far the clock of the replica that signs something may be ahead of that of another one, which reads it."""
_FORM = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([012])(?:\.([A-Za-z0-9_-]{1,2800}))?\.([0-9a-f]{64})")
_NOT, _SIGNED_IN, _ONLY_LOOKS = "012"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session."""

    id: str
    began: int
    """Seconds since 1970."""
    signed_in: bool = False
    name: str = ""
    """Who has signed in, if an identity provider has said so."""
    only_looks: bool = False
    """Whether they may only look."""
    wanted: str = ""
    """The page to go to after signing in at an identity provider. Whoever has signed in needs none."""

    @classmethod
    def begin(cls, now: float, *, signed_in: bool = False, name: str = "", only_looks: bool = False) -> Self:
        """Begin a session with a random id."""
        return cls(secrets.token_hex(16), int(now), signed_in, name, only_looks)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs cookies and forms with a key."""

    key: bytes

    def cookie(self, session: Session) -> str:
        """Return the cookie's value."""
        state = _NOT if not session.signed_in else _ONLY_LOOKS if session.only_looks else _SIGNED_IN
        text = f"{session.id}.{session.began}.{state}"
        if more := session.name if session.signed_in else session.wanted:
            text = f"{text}.{base64.urlsafe_b64encode(more.encode()).decode().rstrip('=')}"
        return f"{text}.{keyed_mac(self.key, 'session', text)}"

    def session(self, cookie: str, now: float) -> Session | None:
        """Read a cookie's value; None if nobody with the key wrote it, or if the session is over."""
        found = _FORM.fullmatch(cookie)
        if found is None:
            return None
        text, mac = cookie.rpartition(".")[0], found[5]
        if not is_keyed_mac(mac, self.key, "session", text):
            return None
        more = base64.urlsafe_b64decode(f"{found[4] or ''}==").decode()
        if found[3] == _NOT:
            session = Session(found[1], int(found[2]), wanted=more)
        else:
            session = Session(found[1], int(found[2]), True, more, found[3] == _ONLY_LOOKS)
        return session if -CLOCKS_DIFFER_SECONDS <= now - session.began < LASTING_SECONDS else None

    def form_token(self, session: Session, name: str) -> str:
        """Return the token of a viewer's forms in the session."""
        return keyed_mac(self.key, "form", f"{session.id}.{name}")

    def is_form_token(self, token: str, session: Session, name: str) -> bool:
        """Whether it is the token of the viewer's forms in the session."""
        return is_keyed_mac(token, self.key, "form", f"{session.id}.{name}")


def session_key(secret: str) -> bytes:
    """Derive the key that signs sessions from a secret that is also used for something else."""
    return derived_key(secret, "web sessions")


ATTEMPT_SECONDS = 600
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
    return attempt if -CLOCKS_DIFFER_SECONDS <= now - int(found[2]) < ATTEMPT_SECONDS else None


def _attempt(key: bytes, session: Session, beginning: str) -> Attempt:
    def part(purpose: str) -> str:
        return keyed_mac(key, purpose, f"{session.id}.{beginning}")

    return Attempt(f"{beginning}.{part('sign-in state')}", part("sign-in nonce"), part("sign-in verifier"))
