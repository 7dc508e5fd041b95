"""Decide who may send tasks: callers with the shared key, or with a token of an account in SPOKE_TASKS_CALLERS.

The API server reviews tokens. Its answers are cached by the token's hash.
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
ACCEPTED_SECONDS = 60.0
"""The longest time that an acceptance is cached. A token may work for so long after its account is deleted."""
REFUSED_SECONDS = 10.0
"""How long a refusal is cached."""
CACHE_LIMIT = 1_024
_TOKEN_LIMIT = 8_192
_CONCURRENT_REVIEWS = 8
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_USER = "system:serviceaccount:"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthRefusal:
    """Why a caller is refused. Contains no part of its credentials."""

    status: int
    """401: the credentials are invalid. 403: the account is not allowed. 503: the token cannot be reviewed now."""
    reason: str
    """The metric's label."""
    text: str


class CallerCheck(Protocol):
    """Decides whether a request is allowed."""

    async def refusal(self, authorization: str | None) -> AuthRefusal | None:
        """Return why the caller is refused; None if it is allowed.

        :param authorization: the value of the header; None if there is none.
        """


class TokenCheck(Protocol):
    """Decides whether a token is allowed."""

    async def refusal_of(self, token: str) -> AuthRefusal | None:
        """Return why the token is refused; None if it is allowed."""


class Callers:
    """Allows ``Authorization: Bearer`` with the shared key, compared in constant time, or with a token.

    :param key: the shared key; empty for none.
    :param tokens: checks tokens; None to accept only the key.
    """

    def __init__(self, key: str = "", tokens: TokenCheck | None = None) -> None:
        self._key = usable_key(key).encode("ascii") if key or tokens is None else b""
        self._tokens = tokens

    async def refusal(self, authorization: str | None) -> AuthRefusal | None:
        """See :class:`CallerCheck`."""
        if authorization is None:
            return AuthRefusal(401, "none", "there are no credentials: send the header Authorization: Bearer")
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            return AuthRefusal(401, "scheme", "the scheme of the Authorization header is not Bearer")
        token = shown.strip()
        if self._key and hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._key):
            return None
        if self._tokens is None:
            return AuthRefusal(401, "key", "the key is not this server's SPOKE_TASKS_KEY")
        return await self._tokens.refusal_of(token)


@dataclass(frozen=True, slots=True)
class _Cached:
    refusal: AuthRefusal | None
    until: float


class ServiceAccounts:
    """Allows the tokens of these service accounts.

    :param allowed: ``namespace/name`` of each.
    :param review: asks the API server.
    """

    def __init__(self, allowed: Collection[str], review: Review, clock: Callable[[], float] = time.time) -> None:
        self._allowed = frozenset(allowed)
        self._review = review
        self._clock = clock
        self._cache: OrderedDict[bytes, _Cached] = OrderedDict()
        self._reviews: dict[bytes, asyncio.Future[AuthRefusal | None]] = {}
        self._concurrent = asyncio.Semaphore(_CONCURRENT_REVIEWS)

    async def refusal_of(self, token: str) -> AuthRefusal | None:
        """See :class:`TokenCheck`."""
        if len(token) > _TOKEN_LIMIT or not _FORM.fullmatch(token):
            return AuthRefusal(401, "form", "the credentials are neither the shared key nor a service account's token")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        cached = self._cache.get(digest)
        if cached is not None and self._clock() < cached.until:
            return cached.refusal
        review = self._reviews.get(digest)
        if review is None:
            review = self._reviews[digest] = asyncio.ensure_future(self._reviewed(digest, token))
            review.add_done_callback(lambda _: self._reviews.pop(digest, None))
        return await asyncio.shield(review)

    async def _reviewed(self, digest: bytes, token: str) -> AuthRefusal | None:
        async with self._concurrent:
            try:
                status = await self._review(token)
            except ReviewFailed as error:
                logger.error("the API server did not review a caller's token: %s", error)  # noqa: TRY400
                return AuthRefusal(503, "review", "the API server cannot review the token now: try again")
        refusal = self._decide(status)
        self._add_to_cache(digest, refusal, _expiry(token))
        return refusal

    def _decide(self, status: dict[str, Any]) -> AuthRefusal | None:
        if status.get("authenticated") is not True:
            return AuthRefusal(
                401,
                "token",
                f"the token is not valid: it has expired, is revoked, or is not for the audience {AUDIENCE!r}",
            )
        if AUDIENCE not in (status.get("audiences") or ()):
            return AuthRefusal(401, "audience", f"the token is not for the audience {AUDIENCE!r}")
        user = str((status.get("user") or {}).get("username") or "")
        account = user.removeprefix(_USER).replace(":", "/")
        if not user.startswith(_USER) or account not in self._allowed:
            return AuthRefusal(
                403, "account", f"{user[:300]!r} may not send tasks: SPOKE_TASKS_CALLERS does not name it"
            )
        return None

    def _add_to_cache(self, digest: bytes, refusal: AuthRefusal | None, expiry: float) -> None:
        now = self._clock()
        kept = ACCEPTED_SECONDS if refusal is None else REFUSED_SECONDS
        self._cache[digest] = _Cached(refusal, min(now + kept, expiry) if refusal is None else now + kept)
        self._cache.move_to_end(digest)
        while len(self._cache) > CACHE_LIMIT:
            self._cache.popitem(last=False)


def accounts_of(text: str) -> list[str]:
    """Parse ``namespace/name, namespace/name``.

    :raises ConfigurationError: if a part has another form; it names the part.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    for account in found:
        if not _ACCOUNT.fullmatch(account):
            raise ConfigurationError(
                f"SPOKE_TASKS_CALLERS has {account!r}: name service accounts as namespace/name, separated by commas"
            )
    return found


def _expiry(token: str) -> float:
    """Return the expiry time that a token contains; 0 if it contains none, so that it is not cached."""
    try:
        claims = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0.0


def callers_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Callers:
    """Allow the service accounts of SPOKE_TASKS_CALLERS, and callers with SPOKE_TASKS_KEY.

    :raises ConfigurationError: if neither is set, or one cannot be used.
    """
    key = settings.tasks_key.get_secret_value()
    accounts = accounts_of(settings.tasks_callers)
    if not accounts:
        if not key:
            raise ConfigurationError(
                "neither SPOKE_TASKS_CALLERS nor SPOKE_TASKS_KEY is set: set SPOKE_TASKS_CALLERS to the service "
                "accounts that may send tasks (namespace/name, ...), or SPOKE_TASKS_KEY to a key that dispatchers and "
                "task deployment share"
            )
        return Callers(key)
    url = settings.tasks_api_url or _api_of(environment)
    if not url:
        raise ConfigurationError(
            "SPOKE_TASKS_CALLERS is set, but this process is not in a pod: set SPOKE_TASKS_API_URL to the API server "
            "that reviews the tokens, or use SPOKE_TASKS_KEY instead"
        )
    reviews = TokenReviews(url, settings.tasks_api_ca_file, settings.tasks_api_token_file)
    return Callers(key, ServiceAccounts(accounts, reviews))


def _api_of(environment: Mapping[str, str]) -> str:
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
