"""Decide who may send tasks: callers with the shared key, or with a token of an account in SPOKE_TASKS_CALLERS.

A token may be refused because of its own claims. Otherwise the API server reviews it. The answers are cached by the
token's hash, acceptances and refusals separately, so that forged tokens cannot displace valid ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import Settings
from spoke_jobs.shared.secret_file import Secret
from spoke_jobs.shared.token_body import read_token_body
from spoke_jobs.shared.token_bucket import TokenBucket
from spoke_jobs.tasks.protocol.messages import AUDIENCE, CurrentKey
from spoke_jobs.tasks.server.log_throttle import LogThrottle
from spoke_jobs.tasks.server.token_review import Review, ReviewFailed, TokenReviews

_SCHEME = "bearer"
ACCEPTED_SECONDS = 60.0
"""The longest time that an acceptance is cached. A token may work for this long after its account is deleted."""
REFUSED_SECONDS = 10.0
"""How long a refusal is cached."""
ACCEPTED_LIMIT = 4_096
REFUSED_LIMIT = 1_024
SKEW_SECONDS = 120.0
"""How long after its expiry a token is still reviewed: the API server allows a minute, and clocks differ."""
_KNOWN_CONCURRENT = 8
"""Reviews at once of tokens that the API server has accepted before."""
_UNKNOWN_CONCURRENT = 4
_TURN_SECONDS = 5.0
"""How long a token waits for its review to begin."""
PEER_PER_SECOND = 2.0
PEER_BURST = 20.0
"""A pod shows one token, and another one about once an hour. Pods behind one proxy share a peer."""
TOTAL_PER_SECOND = 50.0
TOTAL_BURST = 200.0
"""After a rollout, each replica sees a new token from every pod."""
_PEERS_LIMIT = 4_096
_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_USER = "system:serviceaccount:"

logger = logging.getLogger(__name__)
logger.addFilter(LogThrottle())


@dataclass(frozen=True, slots=True)
class AuthRefusal:
    """Why a caller is refused. Contains no part of its credentials."""

    status: int
    """401: the credentials are invalid. 403: the account is not allowed. 503: the token cannot be reviewed now."""
    reason: str
    """The metric's label."""
    text: str


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims that every token of a service account has (RFC 7519, section 4.1). Nobody has verified them.

    They can only be a reason to refuse a token: whoever forges a token writes what they like into it.
    """

    audiences: frozenset[str]
    subject: str
    expires: float
    """Seconds since 1970."""


def read_claims(token: str) -> Claims | None:
    """Return the claims; None if this is not a token of a service account. Raises nothing, whatever the text."""
    found = read_token_body(token)
    if found is None:
        return None
    audiences, subject, expires = found.get("aud"), found.get("sub"), found.get("exp")
    if isinstance(audiences, str):
        audiences = [audiences]
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        return None
    if not isinstance(subject, str) or isinstance(expires, bool) or not isinstance(expires, int | float):
        return None
    try:
        seconds = float(expires)
    except OverflowError:
        return None
    return Claims(frozenset(audiences), subject, seconds) if math.isfinite(seconds) else None


class ReviewLimits:
    """How many unknown tokens the API server is asked about: token buckets, one for each peer, and one for all.

    Without them, whoever can reach the port could make the API server review forged tokens as fast as they can be sent.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._total = TokenBucket(TOTAL_PER_SECOND, TOTAL_BURST, clock)
        self._peers: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, peer: str) -> bool:
        """Return whether an unknown token of this peer may be reviewed now."""
        bucket = self._peers.get(peer)
        if bucket is None:
            bucket = self._peers[peer] = TokenBucket(PEER_PER_SECOND, PEER_BURST, self._clock)
        self._peers.move_to_end(peer)
        if len(self._peers) > _PEERS_LIMIT:
            self._peers.popitem(last=False)
        return _take(bucket) and _take(self._total)


def _take(bucket: TokenBucket) -> bool:
    if bucket.take() == 0:
        return True
    bucket.put_back()
    return False


class CallerCheck(Protocol):
    """Decides whether a request is allowed."""

    async def refusal(self, authorization: str | None, peer: str) -> AuthRefusal | None:
        """Return why the caller is refused; None if it is allowed.

        :param authorization: the value of the header; None if there is none.
        :param peer: the caller's address.
        """


class Callers:
    """Allows ``Authorization: Bearer`` with the shared key, compared in constant time, or with a token.

    :param key: the shared key; empty for none.
    :param tokens: checks tokens; None to accept only the key.
    """

    def __init__(self, key: Secret = "", tokens: ServiceAccounts | None = None) -> None:
        self._key = CurrentKey(key) if key or tokens is None else None
        self._tokens = tokens

    async def refusal(self, authorization: str | None, peer: str) -> AuthRefusal | None:
        """See :class:`CallerCheck`."""
        if authorization is None:
            return AuthRefusal(401, "none", "there are no credentials: send the header Authorization: Bearer")
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            return AuthRefusal(401, "scheme", "the scheme of the Authorization header is not Bearer")
        token = shown.strip()
        if self._key is not None and hmac.compare_digest(
            token.encode("utf-8", "surrogateescape"), self._key.get().encode("ascii")
        ):
            return None
        if self._tokens is None:
            return AuthRefusal(401, "key", "the key is not this server's SPOKE_TASKS_KEY")
        return await self._tokens.refusal_of(token, peer)


@dataclass(frozen=True, slots=True)
class _Cached:
    refusal: AuthRefusal | None
    until: float


class _Cache:
    """The answers that were used last, by the token's hash."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: OrderedDict[bytes, _Cached] = OrderedDict()

    def get(self, digest: bytes) -> _Cached | None:
        found = self._answers.get(digest)
        if found is not None:
            self._answers.move_to_end(digest)
        return found

    def put(self, digest: bytes, answer: _Cached) -> None:
        self._answers[digest] = answer
        self._answers.move_to_end(digest)
        if len(self._answers) > self._limit:
            self._answers.popitem(last=False)

    def remove(self, digest: bytes) -> None:
        self._answers.pop(digest, None)

    def __len__(self) -> int:
        return len(self._answers)


class ServiceAccounts:
    """Allows the tokens of these service accounts.

    :param allowed: ``namespace/name`` of each.
    :param review: lets the API server review a token.
    """

    def __init__(
        self,
        allowed: Collection[str],
        review: Review,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._review = review
        self._clock = clock
        self._accepted = _Cache(ACCEPTED_LIMIT)
        self._refused = _Cache(REFUSED_LIMIT)
        self._reviews: dict[bytes, asyncio.Future[AuthRefusal | None]] = {}
        self._limits = ReviewLimits(monotonic)
        self._known_turns = asyncio.Semaphore(_KNOWN_CONCURRENT)
        self._unknown_turns = asyncio.Semaphore(_UNKNOWN_CONCURRENT)

    async def refusal_of(self, token: str, peer: str) -> AuthRefusal | None:
        """Return why the token is refused; None if it is allowed."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._accepted.get(digest)
        cached = known or self._refused.get(digest)
        if cached is not None and self._clock() < cached.until:
            return cached.refusal
        claims = read_claims(token)
        if claims is None:
            return AuthRefusal(401, "form", "the credentials are neither the shared key nor a service account's token")
        refusal = refusal_by_claims(claims, self._allowed, self._clock())
        if refusal is not None:
            return refusal
        review = self._reviews.get(digest)
        if review is None:
            if known is None and not self._limits.allow(peer):
                return AuthRefusal(503, "busy", f"too many unknown tokens come from {peer}: try again")
            turns = self._unknown_turns if known is None else self._known_turns
            review = self._reviews[digest] = asyncio.ensure_future(self._reviewed(digest, token, claims, turns))
            review.add_done_callback(lambda _: self._reviews.pop(digest, None))
        return await asyncio.shield(review)

    async def _reviewed(
        self, digest: bytes, token: str, claims: Claims, turns: asyncio.Semaphore
    ) -> AuthRefusal | None:
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await turns.acquire()
        except TimeoutError:
            return AuthRefusal(503, "busy", "too many tokens wait for the API server's review: try again")
        try:
            status = await self._review(token)
        except ReviewFailed as error:
            logger.error("the API server did not review a caller's token: %s", error)  # noqa: TRY400
            return AuthRefusal(503, "review", "the API server cannot review the token now: try again")
        finally:
            turns.release()
        refusal = self._decide(status)
        self._remember(digest, refusal, claims.expires)
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
        return _refusal_of_user(str((status.get("user") or {}).get("username") or ""), self._allowed)

    def _remember(self, digest: bytes, refusal: AuthRefusal | None, expires: float) -> None:
        now = self._clock()
        if refusal is None:
            self._accepted.put(digest, _Cached(None, min(now + ACCEPTED_SECONDS, expires)))
        else:
            self._accepted.remove(digest)
            self._refused.put(digest, _Cached(refusal, now + REFUSED_SECONDS))


def refusal_by_claims(claims: Claims, allowed: Collection[str], now: float) -> AuthRefusal | None:
    """Return why a token is refused without a review: the API server would not accept what it says. None otherwise."""
    if AUDIENCE not in claims.audiences:
        return AuthRefusal(401, "audience", f"the token is not for the audience {AUDIENCE!r}")
    if claims.expires + SKEW_SECONDS < now:
        return AuthRefusal(401, "token", "the token has expired")
    return _refusal_of_user(claims.subject, allowed)


def _refusal_of_user(user: str, allowed: Collection[str]) -> AuthRefusal | None:
    account = user.removeprefix(_USER).replace(":", "/")
    if user.startswith(_USER) and account in allowed:
        return None
    return AuthRefusal(403, "account", f"{user[:300]!r} may not send tasks: SPOKE_TASKS_CALLERS does not name it")


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


def callers_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Callers:
    """Allow the service accounts of SPOKE_TASKS_CALLERS, and callers with SPOKE_TASKS_KEY.

    :raises ConfigurationError: if neither is set, or one cannot be used.
    """
    key = settings.shared_key
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
