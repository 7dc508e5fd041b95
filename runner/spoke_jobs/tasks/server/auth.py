"""Who may send tasks: whoever shows the shared key, or the token of a service account that is in the list.

Tokens are asked of the API server by TokenReview, and answers are remembered for a while by the tokens' hash.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import Settings
from spoke_jobs.tasks.protocol.messages import AUDIENCE, usable_key
from spoke_jobs.tasks.server.token_review import Review, ReviewFailed, TokenReviews

_SCHEME = "bearer"
REMEMBERED_SECONDS = 60.0
"""How long an answer is believed at most: for so long a token works on after its account is gone."""
REFUSED_SECONDS = 10.0
"""How long a refusal is."""
REMEMBERED = 1_024
_TOKEN_LIMIT = 8_192
_AT_ONCE = 8
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_USER = "system:serviceaccount:"


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthRefusal:
    """Why a caller is refused, without anything of what it showed."""

    status: int
    """401 for credentials that don't hold, 403 for somebody else's, 503 where nobody can tell now."""
    reason: str
    """A word, for the count of such."""
    text: str


class CallerCheck(Protocol):
    """Decides on a request by its ``Authorization`` header."""

    async def refusal(self, authorization: str | None) -> AuthRefusal | None:
        """Why the caller is refused; None if it may go on."""


class TokenCheck(Protocol):
    """Decides on a token that isn't the shared key."""

    async def refusal_of(self, token: str) -> AuthRefusal | None:
        """See :class:`CallerCheck`."""


class Callers:
    """Callers that show ``Authorization: Bearer ...``: the key, compared in constant time, or a token.

    :param key: the shared key; empty for none.
    :param tokens: who knows of tokens; None for nobody.
    """

    def __init__(self, key: str = "", tokens: TokenCheck | None = None) -> None:
        self._key = usable_key(key).encode("ascii") if key or tokens is None else b""
        self._tokens = tokens

    async def refusal(self, authorization: str | None) -> AuthRefusal | None:
        """See :class:`CallerCheck`."""
        if authorization is None:
            return AuthRefusal(401, "none", "no credentials were shown: send them as Authorization: Bearer")
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            return AuthRefusal(401, "scheme", "the Authorization header isn't of the scheme Bearer")
        token = shown.strip()
        if self._key and hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._key):
            return None
        if self._tokens is None:
            return AuthRefusal(401, "key", "the key is another one")
        return await self._tokens.refusal_of(token)


@dataclass(frozen=True, slots=True)
class _Known:
    refusal: AuthRefusal | None
    until: float


class ServiceAccounts:
    """Lets in the accounts of a list.

    :param allowed: ``namespace/name`` of each.
    """

    def __init__(self, allowed: Collection[str], review: Review, clock: Callable[[], float] = time.time) -> None:
        self._allowed = frozenset(allowed)
        self._review = review
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[AuthRefusal | None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def refusal_of(self, token: str) -> AuthRefusal | None:
        """See :class:`TokenCheck`."""
        if len(token) > _TOKEN_LIMIT or not _FORM.fullmatch(token):
            return AuthRefusal(401, "form", "what was shown is neither the key nor a service account's token")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until:
            return known.refusal
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.ensure_future(self._ask(digest, token))
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(asking)

    async def _ask(self, digest: bytes, token: str) -> AuthRefusal | None:
        async with self._turns:
            try:
                status = await self._review(token)
            except ReviewFailed as error:
                logger.error("the API server can't be asked about a caller's token: %s", error)  # noqa: TRY400
                return AuthRefusal(503, "review", "who you are can't be asked of the API server just now")
        refusal = self._judged(status)
        self._remember(digest, refusal, _expiry(token))
        return refusal

    def _judged(self, status: dict[str, Any]) -> AuthRefusal | None:
        if status.get("authenticated") is not True:
            return AuthRefusal(401, "token", f"the token doesn't hold: expired, revoked, or not for {AUDIENCE!r}")
        if AUDIENCE not in (status.get("audiences") or ()):
            return AuthRefusal(401, "audience", f"the token's audience isn't {AUDIENCE!r}")
        user = str((status.get("user") or {}).get("username") or "")
        account = user.removeprefix(_USER).replace(":", "/")
        if not user.startswith(_USER) or account not in self._allowed:
            return AuthRefusal(
                403, "account", f"{user[:300]!r} is not among those that may send tasks (SPOKE_TASKS_CALLERS)"
            )
        return None

    def _remember(self, digest: bytes, refusal: AuthRefusal | None, expiry: float) -> None:
        now = self._clock()
        believed = REMEMBERED_SECONDS if refusal is None else REFUSED_SECONDS
        self._known[digest] = _Known(refusal, min(now + believed, expiry) if refusal is None else now + believed)
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def accounts_of(text: str) -> list[str]:
    """``namespace/name, namespace/name`` taken apart.

    :raises ConfigurationError: naming what isn't one.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    for account in found:
        if not _ACCOUNT.fullmatch(account):
            raise ConfigurationError(
                f"SPOKE_TASKS_CALLERS has {account!r}: name service accounts as namespace/name, separated by commas"
            )
    return found


def _expiry(token: str) -> float:
    """When a token that the API server has found good ends: what isn't said is not believed for long."""
    try:
        claims = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0.0


def callers_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Callers:
    """The service accounts of SPOKE_TASKS_CALLERS, and whoever has SPOKE_TASKS_KEY.

    :raises ConfigurationError: if there is neither, or one can't be used.
    """
    key = settings.tasks_key.get_secret_value()
    accounts = accounts_of(settings.tasks_callers)
    if not accounts:
        if not key:
            raise ConfigurationError(
                "neither SPOKE_TASKS_CALLERS nor SPOKE_TASKS_KEY is set: name the service accounts that may send tasks "
                "(namespace/name, ...), or a key that dispatchers and task deployment share"
            )
        return Callers(key)
    url = settings.tasks_api_url or _api_of(environment)
    if not url:
        raise ConfigurationError(
            "SPOKE_TASKS_CALLERS is set, and this process isn't in a pod: name the API server that knows their tokens "
            "with SPOKE_TASKS_API_URL, or use SPOKE_TASKS_KEY"
        )
    reviews = TokenReviews(url, settings.tasks_api_ca_file, settings.tasks_api_token_file)
    return Callers(key, ServiceAccounts(accounts, reviews))


def _api_of(environment: Mapping[str, str]) -> str:
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
