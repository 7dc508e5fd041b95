"""Who is let in by a service account's token, and for how long an answer is believed."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.server.auth import (
    ACCEPTED_SECONDS,
    CACHE_LIMIT,
    REFUSED_SECONDS,
    AuthRefusal,
    Callers,
    ServiceAccounts,
    accounts_of,
)
from spoke_jobs.tasks.server.token_review import ReviewFailed


def token(name: str = "web", expires: float = 1e9) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'exp': expires, 'sub': name})}.c2lnbmF0dXJl"


class Api:
    """An API server of one namespace that knows every token, and its clock."""

    def __init__(self, **changes: Any) -> None:
        self.now = 0.0
        self.asked = 0
        self.changes = changes
        self.away = False
        self.wait = asyncio.Event()
        self.wait.set()

    async def __call__(self, shown: str) -> dict[str, Any]:
        self.asked += 1
        await self.wait.wait()
        if self.away:
            raise ReviewFailed("away")
        claims = json.loads(base64.urlsafe_b64decode(shown.split(".")[1] + "=="))
        user = {"username": f"system:serviceaccount:texting:{claims['sub']}"}
        return {"authenticated": True, "user": user, "audiences": ["spoke-tasks"]} | self.changes


def accounts(api: Api) -> ServiceAccounts:
    return ServiceAccounts(["texting/web", "texting/jobs"], api, lambda: api.now)


async def test_an_account_of_the_list_is_let_in_and_asked_about_once_a_minute() -> None:
    api = Api()
    checked = accounts(api)
    for _ in range(5):
        assert await checked.refusal_of(token()) is None
    assert api.asked == 1
    api.now = ACCEPTED_SECONDS + 1
    assert await checked.refusal_of(token()) is None
    assert api.asked == 2


async def test_no_answer_is_believed_beyond_the_token_s_own_end() -> None:
    api = Api()
    checked = accounts(api)
    assert await checked.refusal_of(token(expires=10)) is None
    api.now, api.changes = 11.0, {"authenticated": False}
    refusal = await checked.refusal_of(token(expires=10))
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (401, "token")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"authenticated": False, "error": "token has expired"}, 401, "token"),
        ({"audiences": ["https://kubernetes.default.svc"]}, 401, "audience"),
        ({"audiences": None}, 401, "audience"),
        ({"user": {"username": "system:serviceaccount:texting:other"}}, 403, "account"),
        ({"user": {"username": "system:serviceaccount:other:web"}}, 403, "account"),
        ({"user": {"username": "texting:web"}}, 403, "account"),
        ({"user": None}, 403, "account"),
        ({"authenticated": "true"}, 401, "token"),
    ],
)
async def test_all_others_are_refused_and_that_is_remembered_shortly(changes: Any, status: int, reason: str) -> None:
    api = Api(**changes)
    checked = accounts(api)
    for _ in range(3):
        refusal = await checked.refusal_of(token())
        assert refusal is not None
        assert (refusal.status, refusal.reason) == (status, reason)
        assert token() not in refusal.text
    assert api.asked == 1
    api.now, api.changes = REFUSED_SECONDS + 1, {}
    assert await checked.refusal_of(token()) is None


async def test_where_nobody_can_be_asked_the_caller_is_to_come_again() -> None:
    api = Api()
    api.away = True
    checked = accounts(api)
    refusal = await checked.refusal_of(token())
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (503, "review")
    api.away = False
    assert await checked.refusal_of(token()) is None, "that nobody answered isn't remembered"


async def test_many_requests_with_one_new_token_ask_once() -> None:
    api = Api()
    api.wait.clear()
    checked = accounts(api)
    asking = [asyncio.ensure_future(checked.refusal_of(token())) for _ in range(20)]
    await asyncio.sleep(0)
    api.wait.set()
    assert await asyncio.gather(*asking) == [None] * 20
    assert api.asked == 1


@pytest.mark.parametrize("shown", ["", "a", "a.b", "a.b.c.d", "a b.c.d", "é.b.c", "x." * 5000 + "y"])
async def test_what_is_no_token_is_refused_without_asking(shown: str) -> None:
    api = Api()
    refusal = await accounts(api).refusal_of(shown)
    assert refusal is not None
    assert (refusal.status, api.asked) == (401, 0)


async def test_what_is_remembered_is_bounded() -> None:
    api = Api()
    checked = accounts(api)
    for number in range(CACHE_LIMIT + 50):
        await checked.refusal_of(token(f"web{number}"))
    assert len(checked._cache) == CACHE_LIMIT
    assert all(isinstance(key, bytes) and len(key) == 32 for key in checked._cache), "hashes, no tokens"


async def test_the_shared_key_counts_beside_tokens() -> None:
    api = Api()
    callers = Callers("the-key", accounts(api))
    assert await callers.refusal("Bearer the-key") is None
    assert await callers.refusal(f"Bearer {token()}") is None
    assert await callers.refusal("Bearer another-key") == AuthRefusal(
        401, "form", "the credentials are neither the shared key nor a service account's token"
    )


def test_a_list_of_accounts_is_taken_apart_and_a_wrong_one_named() -> None:
    assert accounts_of(" texting/web, texting/jobs,") == ["texting/web", "texting/jobs"]
    for wrong in ("web", "texting/", "a/b/c", "Texting/web", "texting/web jobs/x"):
        with pytest.raises(ConfigurationError, match="SPOKE_TASKS_CALLERS"):
            accounts_of(wrong)
