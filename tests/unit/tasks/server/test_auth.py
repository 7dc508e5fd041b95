"""Who is let in by a service account's token, what a token says of itself, and how long an answer is believed."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from tests.task_key import KEY

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.server.auth import (
    ACCEPTED_LIMIT,
    ACCEPTED_SECONDS,
    PEER_BURST,
    PEER_PER_SECOND,
    REFUSED_LIMIT,
    REFUSED_SECONDS,
    SKEW_SECONDS,
    TOTAL_BURST,
    AuthRefusal,
    Callers,
    Claims,
    ServiceAccounts,
    accounts_of,
    read_claims,
)
from spoke_jobs.tasks.server.token_review import ReviewFailed

PEER = "10.0.0.1"


def token(name: str = "web", expires: float = 1e9, audience: str = "spoke-tasks", signature: str = "c2ln") -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"exp": expires, "aud": [audience], "sub": f"system:serviceaccount:texting:{name}"}
    return f"{part({'alg': 'none'})}.{part(claims)}.{signature}"


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
        if shown.endswith(".Zm9yZ2Vk"):
            return {"authenticated": False}
        user = {"username": claims["sub"]}
        return {"authenticated": True, "user": user, "audiences": ["spoke-tasks"]} | self.changes


def accounts(api: Api) -> ServiceAccounts:
    return ServiceAccounts(["texting/web", "texting/jobs"], api, lambda: api.now, lambda: api.now)


async def answer(checked: ServiceAccounts, shown: str, peer: str = PEER) -> tuple[int, str] | None:
    """Why a token is refused, by status and reason; None if it is allowed."""
    refusal = await checked.refusal_of(shown, peer)
    assert refusal is None or not shown or shown not in refusal.text
    return None if refusal is None else (refusal.status, refusal.reason)


async def test_an_account_of_the_list_is_let_in_and_asked_about_once_a_minute() -> None:
    api = Api()
    checked = accounts(api)
    for _ in range(5):
        assert await checked.refusal_of(token(), PEER) is None
    assert api.asked == 1
    api.now = ACCEPTED_SECONDS + 1
    assert await checked.refusal_of(token(), PEER) is None
    assert api.asked == 2


async def test_no_answer_is_believed_beyond_the_token_s_own_end() -> None:
    api = Api()
    checked = accounts(api)
    assert await checked.refusal_of(token(expires=10), PEER) is None
    api.now, api.changes = 11.0, {"authenticated": False}
    assert await answer(checked, token(expires=10)) == (401, "token")


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
        assert await answer(checked, token()) == (status, reason)
    assert api.asked == 1
    api.now, api.changes = REFUSED_SECONDS + 1, {}
    assert await checked.refusal_of(token(), PEER) is None


async def test_where_nobody_can_be_asked_the_caller_is_to_come_again() -> None:
    api = Api()
    api.away = True
    checked = accounts(api)
    assert await answer(checked, token()) == (503, "review")
    api.away = False
    assert await checked.refusal_of(token(), PEER) is None, "that nobody answered isn't remembered"


async def test_many_requests_with_one_new_token_ask_once() -> None:
    api = Api()
    api.wait.clear()
    checked = accounts(api)
    asking = [asyncio.ensure_future(checked.refusal_of(token(), PEER)) for _ in range(20)]
    await asyncio.sleep(0)
    api.wait.set()
    assert await asyncio.gather(*asking) == [None] * 20
    assert api.asked == 1


@pytest.mark.parametrize("shown", ["", "a.b.c.d", "é.b.c", "x." * 5000 + "y"])
async def test_what_is_no_token_is_refused_without_asking(shown: str) -> None:
    api = Api()
    assert await answer(accounts(api), shown) == (401, "form")
    assert api.asked == 0


def forged(number: int) -> str:
    """A token whose claims are those of an allowed account, with a signature that nobody made."""
    return token(expires=1e9 + number, signature="Zm9yZ2Vk")


async def test_forged_tokens_displace_no_accepted_one_and_both_caches_are_bounded() -> None:
    api = Api()
    checked = accounts(api)
    assert await checked.refusal_of(token(), PEER) is None
    for number in range(REFUSED_LIMIT + 50):
        assert await answer(checked, forged(number), f"10.1.{number // 200}.{number % 200}") is not None
        api.now += 0.02
    asked = api.asked
    assert asked > REFUSED_LIMIT
    assert await checked.refusal_of(token(), PEER) is None
    assert api.asked == asked, "it is still in the cache"
    for number in range(ACCEPTED_LIMIT + 50):
        assert await checked.refusal_of(token(expires=2e9 + number), f"10.2.{number // 200}.{number % 200}") is None
        api.now += 0.02
    assert (len(checked._accepted), len(checked._refused)) == (ACCEPTED_LIMIT, REFUSED_LIMIT)


async def test_a_peer_with_many_unknown_tokens_causes_few_reviews_and_others_are_served() -> None:
    api = Api()
    checked = accounts(api)
    refusals = [await checked.refusal_of(forged(number), PEER) for number in range(500)]
    assert api.asked == PEER_BURST
    assert {(one.status, one.reason) for one in refusals[int(PEER_BURST) :] if one} == {(503, "busy")}
    assert await checked.refusal_of(token(), "10.0.0.2") is None
    api.now = 10.0
    for number in range(500):
        await checked.refusal_of(forged(1_000 + number), PEER)
    assert api.asked == PEER_BURST + 1 + 10 * PEER_PER_SECOND


async def test_a_token_that_was_accepted_is_reviewed_again_whatever_its_peer_sends_besides() -> None:
    api = Api()
    checked = accounts(api)
    assert await checked.refusal_of(token(), PEER) is None
    api.now = ACCEPTED_SECONDS + 1
    for number in range(500):
        await checked.refusal_of(forged(number), PEER)
    assert await checked.refusal_of(token(), PEER) is None


async def test_the_reviews_of_all_peers_together_are_bounded() -> None:
    api = Api()
    checked = accounts(api)
    for number in range(1_000):
        await checked.refusal_of(forged(number), f"10.1.{number // 200}.{number % 200}")
    assert api.asked == pytest.approx(TOTAL_BURST, abs=1)


@pytest.mark.parametrize(
    ("shown", "status", "reason"),
    [
        (token(audience="https://kubernetes.default.svc"), 401, "audience"),
        (token(expires=1_000 - SKEW_SECONDS - 1), 401, "token"),
        (token("other"), 403, "account"),
    ],
)
async def test_a_token_is_refused_unasked_by_what_it_says_of_itself(shown: str, status: int, reason: str) -> None:
    api = Api()
    api.now = 1_000.0
    assert await answer(accounts(api), shown) == (status, reason)
    assert api.asked == 0


async def test_a_token_just_beyond_its_expiry_is_left_to_the_api_server() -> None:
    api = Api()
    api.now = 1_000.0
    assert await accounts(api).refusal_of(token(expires=990), PEER) is None
    assert api.asked == 1


async def test_the_shared_key_counts_beside_tokens() -> None:
    api = Api()
    callers = Callers(KEY, accounts(api))
    assert await callers.refusal(f"Bearer {KEY}", PEER) is None
    assert await callers.refusal(f"Bearer {token()}", PEER) is None
    assert await callers.refusal("Bearer another-key", PEER) == AuthRefusal(
        401, "form", "the credentials are neither the shared key nor a service account's token"
    )


def test_a_list_of_accounts_is_taken_apart_and_a_wrong_one_named() -> None:
    assert accounts_of(" texting/web, texting/jobs,") == ["texting/web", "texting/jobs"]
    for wrong in ("web", "texting/", "a/b/c", "Texting/web", "texting/web jobs/x"):
        with pytest.raises(ConfigurationError, match="SPOKE_TASKS_CALLERS"):
            accounts_of(wrong)


GOOD = {"aud": ["spoke-tasks"], "sub": "system:serviceaccount:texting:web", "exp": 5}


def token_with(body: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.c2ln"


def test_the_claims_of_a_service_account_s_token_are_read() -> None:
    read = read_claims(token_with(json.dumps(GOOD).encode()))
    assert read == Claims(frozenset(["spoke-tasks"]), "system:serviceaccount:texting:web", 5.0)
    assert read_claims(token_with(json.dumps(GOOD | {"aud": "spoke-tasks", "exp": 5.0}).encode())) == read


@pytest.mark.parametrize(
    "change",
    [
        *({"aud": wrong} for wrong in (None, 1, [1], {"spoke-tasks": 1})),
        *({"sub": wrong} for wrong in (None, 1, ["a"])),
        *({"exp": wrong} for wrong in (None, "5", True, float("nan"), float("inf"), 10**400)),
    ],
)
def test_claims_of_a_wrong_type_are_none(change: dict[str, Any]) -> None:
    assert read_claims(token_with(json.dumps(GOOD | change).encode())) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"\xff", b"[" * 5_000, b"{}", b'{"exp":' + b"9" * 5_000 + b"}"])
def test_what_is_no_object_with_claims_is_none(body: bytes) -> None:
    assert read_claims(token_with(body)) is None
