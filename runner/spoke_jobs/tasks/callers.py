"""Who may send tasks. One check today, the shared key; a service-account token's check has the same shape."""

from __future__ import annotations

import hmac
from typing import Protocol

from spoke_jobs.errors import ConfigurationError

_SCHEME = "bearer"


class CallerCheck(Protocol):
    """Decides on a request by its ``Authorization`` header."""

    async def refusal(self, authorization: str | None) -> str | None:
        """Why the caller is refused, without anything of what it showed; None if it may go on."""


class SharedKey:
    """Callers that show ``Authorization: Bearer KEY``, compared in constant time."""

    def __init__(self, key: str) -> None:
        self._key = usable_key(key).encode("ascii")

    async def refusal(self, authorization: str | None) -> str | None:
        """See :class:`CallerCheck`."""
        if authorization is None:
            return "no key was shown: send it as Authorization: Bearer"
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            return "the Authorization header isn't of the scheme Bearer"
        if not hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), self._key):
            return "the key is another one"
        return None


def usable_key(key: str) -> str:
    """The key, if it is one.

    :raises ConfigurationError: naming the setting, never the key.
    """
    if not key:
        raise ConfigurationError("SPOKE_TASKS_KEY is not set: dispatchers and task deployment must share a key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("SPOKE_TASKS_KEY can't be sent in a header: use ASCII letters, digits and signs only")
    return key
