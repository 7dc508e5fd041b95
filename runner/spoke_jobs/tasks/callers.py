"""Who may send tasks: whoever shows the shared key, or the token of a service account that is in the list."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Protocol

from spoke_jobs.errors import ConfigurationError

_SCHEME = "bearer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a caller is refused, without anything of what it showed."""

    status: int
    """401 for credentials that don't hold, 403 for somebody else's, 503 where nobody can tell now."""
    reason: str
    """A word, for the count of such."""
    text: str


class CallerCheck(Protocol):
    """Decides on a request by its ``Authorization`` header."""

    async def refusal(self, authorization: str | None) -> Refusal | None:
        """Why the caller is refused; None if it may go on."""


class TokenCheck(Protocol):
    """Decides on a token that isn't the shared key."""

    async def refusal_of(self, token: str) -> Refusal | None:
        """See :class:`CallerCheck`."""


class Callers:
    """Callers that show ``Authorization: Bearer ...``: the key, compared in constant time, or a token.

    :param key: the shared key; empty for none.
    :param tokens: who knows of tokens; None for nobody.
    """

    def __init__(self, key: str = "", tokens: TokenCheck | None = None) -> None:
        self._key = usable_key(key).encode("ascii") if key or tokens is None else b""
        self._tokens = tokens

    async def refusal(self, authorization: str | None) -> Refusal | None:
        """See :class:`CallerCheck`."""
        if authorization is None:
            return Refusal(401, "none", "no credentials were shown: send them as Authorization: Bearer")
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            return Refusal(401, "scheme", "the Authorization header isn't of the scheme Bearer")
        token = shown.strip()
        if self._key and hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._key):
            return None
        if self._tokens is None:
            return Refusal(401, "key", "the key is another one")
        return await self._tokens.refusal_of(token)


def usable_key(key: str) -> str:
    """The key, if it is one.

    :raises ConfigurationError: naming the setting, never the key.
    """
    if not key:
        raise ConfigurationError("SPOKE_TASKS_KEY is not set: dispatchers and task deployment must share a key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("SPOKE_TASKS_KEY can't be sent in a header: use ASCII letters, digits and signs only")
    return key
