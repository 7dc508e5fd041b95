"""Decide who looks at the dashboard: built-in ways, and the application's own function."""

from __future__ import annotations

import hmac
import inspect
import ipaddress
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Protocol

from starlette.datastructures import QueryParams
from starlette.requests import Request

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.audit.process_actor import ACTOR_LIMIT
from spoke_jobs.shared.clean_text import visible_in_a_line
from spoke_jobs.shared.keyed_macs import SHORTEST_SECRET
from spoke_jobs.shared.secret_file import Secret, value_of
from spoke_jobs.web.answers import Answer
from spoke_jobs.web.signed_sessions import Session, session_key
from spoke_jobs.web.viewer import Viewer

Authorize = Callable[[Request], Viewer | Awaitable[Viewer | None] | None]
"""An application's own function."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class SignInProvider(Protocol):
    """Signs people in on another site, from which their browsers come back."""

    name: str
    """Its name for people."""

    async def start(self, session: Session, wanted: str, now: float) -> tuple[Answer, Session]:
        """Send a browser there.

        :param wanted: the page to go to afterwards.
        """

    async def finish(self, session: Session, answer: QueryParams, now: float) -> tuple[Answer, Session]:
        """Take a browser back: return where to go, and the session in which they have signed in."""

    async def sign_out_address(self) -> str:
        """Return where people sign out there, too; empty if there is no such page."""


class Authorizer(ABC):
    """Decides who sends a request."""

    signs_in = False
    """Whether people sign in: by a form that asks for a token, or at a provider."""
    provider: SignInProvider | None = None
    """Where they sign in, if it is on another site."""

    def __init__(self, secret: Secret = "") -> None:
        """Prepare to sign sessions.

        :param secret: what sessions are signed with. Empty: a random one, so that forms and sessions end with the
            process, and are of no use to another replica.
        :raises ConfigurationError: if it is short.
        """
        self._secret = _checked(secret) if secret else secrets.token_hex(32)

    @abstractmethod
    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """Return who it is; None for nobody who may look."""

    def signing_key(self) -> bytes:
        """Return the key with which sessions are signed now."""
        return session_key(value_of(self._secret))

    def is_token(self, shown: str) -> bool:
        """Whether this is the token for signing in."""
        return False


class Hook(Authorizer):
    """Asks the application's own function."""

    def __init__(self, authorize: Authorize, secret: Secret = "") -> None:
        super().__init__(secret)
        self._authorize = authorize

    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """See :class:`Authorizer`."""
        found = self._authorize(request)
        return await found if inspect.isawaitable(found) else found


class TokenSignIn(Authorizer):
    """Admits whoever knows a token, by a form or by the header `Authorization: Bearer`.

    Sessions are signed with a key that follows from the token, so that a new token ends them.
    """

    signs_in = True

    def __init__(self, token: Secret, viewer: Viewer) -> None:
        super().__init__(_checked(token))
        self._viewer = viewer

    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """See :class:`Authorizer`."""
        if not is_long_enough(self._secret):  # the file has changed
            return None
        if session.signed_in:
            return self._viewer
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        return self._viewer if scheme.lower() == "bearer" and self.is_token(shown.strip()) else None

    def is_token(self, shown: str) -> bool:
        """See :class:`Authorizer`."""
        known = value_of(self._secret).encode()
        return is_long_enough(self._secret) and hmac.compare_digest(shown.encode("utf-8", "replace"), known)


class TrustedProxy(Authorizer):
    """Admits whom a proxy at one of these addresses names in a header."""

    def __init__(self, networks: Collection[Network], header: str, viewer: Viewer, secret: Secret = "") -> None:
        super().__init__(secret)
        if not networks:
            raise ConfigurationError("no proxy is trusted: name its addresses")
        self._networks = tuple(networks)
        self._header = header
        self._viewer = viewer

    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """See :class:`Authorizer`."""
        peer = peer_of(request)
        if peer is None or not any(peer in network for network in self._networks):
            return None
        names = request.headers.getlist(self._header)
        if len(names) != 1:  # two headers: one of them may be the client's own
            return None
        name = names[0].strip()
        return replace(self._viewer, name=name) if is_name(name) else None


class LocalOnly(Authorizer):
    """Admits everybody on this machine, without signing in: for a laptop."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer

    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """See :class:`Authorizer`."""
        peer = peer_of(request)
        if peer is None or not peer.is_loopback or any(name in request.headers for name in _FORWARDED):
            return None  # behind a proxy on this machine, the peer may be anybody
        return self._viewer


class ReadOnly(Authorizer):
    """Takes all actions from those whom another one admits."""

    def __init__(self, inner: Authorizer) -> None:
        super().__init__()
        self._inner = inner
        self.signs_in = inner.signs_in
        self.provider = inner.provider

    async def viewer(self, request: Request, session: Session) -> Viewer | None:
        """See :class:`Authorizer`."""
        found = await self._inner.viewer(request, session)
        return found.read_only() if found is not None else None

    def signing_key(self) -> bytes:
        """See :class:`Authorizer`."""
        return self._inner.signing_key()

    def is_token(self, shown: str) -> bool:
        """See :class:`Authorizer`."""
        return self._inner.is_token(shown)


def _checked(secret: Secret) -> Secret:
    if not is_long_enough(secret):
        raise ConfigurationError(
            f"the token or key has fewer than {SHORTEST_SECRET} characters: make one with `openssl rand -hex 32`"
        )
    return secret


def is_long_enough(secret: Secret) -> bool:
    """Whether nobody can guess the token or key as it is now."""
    return len(value_of(secret)) >= SHORTEST_SECRET


def is_name(text: str) -> bool:
    """Whether changes can be recorded under this name, and people can read it."""
    return 0 < len(text) <= ACTOR_LIMIT and visible_in_a_line(text) == text


def peer_of(request: Request) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address of whoever opened the connection; None if it is unknown."""
    if request.client is None:
        return None
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)  # a socket for both families shows IPv4 addresses so
    return mapped or address
