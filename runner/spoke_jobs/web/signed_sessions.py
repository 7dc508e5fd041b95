"""Sessions and form tokens, which are signed and not stored. Pure.

A cookie holds the session's id, when it began, whether its holder has signed in, and perhaps a text, with a MAC. The
token of a form is a MAC of the session's id and the viewer's name, so that it is of no use in another session, or to
somebody else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Self

LASTING_SECONDS = 12 * 3600
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
        return f"{text}.{self._mac('session', text)}"

    def session(self, cookie: str, now: float) -> Session | None:
        """Read a cookie's value; None if nobody with the key wrote it, or if the session is over."""
        found = _FORM.fullmatch(cookie)
        if found is None:
            return None
        text, mac = cookie.rpartition(".")[0], found[5]
        if not hmac.compare_digest(mac, self._mac("session", text)):
            return None
        more = base64.urlsafe_b64decode(f"{found[4] or ''}==").decode()
        if found[3] == _NOT:
            session = Session(found[1], int(found[2]), wanted=more)
        else:
            session = Session(found[1], int(found[2]), True, more, found[3] == _ONLY_LOOKS)
        return session if 0 <= now - session.began < LASTING_SECONDS else None

    def form_token(self, session: Session, name: str) -> str:
        """Return the token of a viewer's forms in the session."""
        return self._mac("form", f"{session.id}.{name}")

    def is_form_token(self, token: str, session: Session, name: str) -> bool:
        """Whether it is the token of the viewer's forms in the session."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.form_token(session, name).encode())

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self.key, f"{purpose}\0{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def derived_key(secret: str) -> bytes:
    """Derive a signing key from a secret that is also used for something else."""
    return hmac.new(secret.encode(), b"spoke-jobs web sessions", hashlib.sha256).digest()
