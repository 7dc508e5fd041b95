"""Service accounts' tokens: asked of the API server by TokenReview, and remembered for a while by their hash."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.callers import Refusal

AUDIENCE = "spoke-tasks"
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


class ReviewFailed(Exception):
    """The API server could not be asked; the message says why, and holds no token."""


Review = Callable[[str], Awaitable[dict[str, Any]]]
"""A token to the ``status`` of its TokenReview; raises :class:`ReviewFailed`."""


@dataclass(frozen=True, slots=True)
class _Known:
    refusal: Refusal | None
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
        self._asking: dict[bytes, asyncio.Future[Refusal | None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def refusal_of(self, token: str) -> Refusal | None:
        """See :class:`spoke_jobs.tasks.callers.TokenCheck`."""
        if len(token) > _TOKEN_LIMIT or not _FORM.fullmatch(token):
            return Refusal(401, "form", "what was shown is neither the key nor a service account's token")
        digest = hashlib.sha256(token.encode("ascii")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until:
            return known.refusal
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.ensure_future(self._ask(digest, token))
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(asking)

    async def _ask(self, digest: bytes, token: str) -> Refusal | None:
        async with self._turns:
            try:
                status = await self._review(token)
            except ReviewFailed as error:
                logger.error("the API server can't be asked about a caller's token: %s", error)  # noqa: TRY400
                return Refusal(503, "review", "who you are can't be asked of the API server just now")
        refusal = self._judged(status)
        self._remember(digest, refusal, _expiry(token))
        return refusal

    def _judged(self, status: dict[str, Any]) -> Refusal | None:
        if status.get("authenticated") is not True:
            return Refusal(401, "token", f"the token doesn't hold: expired, revoked, or not for {AUDIENCE!r}")
        if AUDIENCE not in (status.get("audiences") or ()):
            return Refusal(401, "audience", f"the token's audience isn't {AUDIENCE!r}")
        user = str((status.get("user") or {}).get("username") or "")
        account = user.removeprefix(_USER).replace(":", "/")
        if not user.startswith(_USER) or account not in self._allowed:
            return Refusal(
                403, "account", f"{user[:300]!r} is not among those that may send tasks (SPOKE_TASKS_CALLERS)"
            )
        return None

    def _remember(self, digest: bytes, refusal: Refusal | None, expiry: float) -> None:
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
