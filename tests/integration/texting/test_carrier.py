"""The fake carrier takes one message for a key, and says why it won't take others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests import plain_http

from texting.carrier import create_app

MESSAGE = {"to": "+12125550100", "text": "hi"}


@pytest.fixture
def url(serve: Callable[[Any], str]) -> str:
    return serve(create_app())


def post(url: str, key: str | None, body: Any) -> httpx.Response:
    return plain_http.post(f"{url}/messages", json=body, headers={"Idempotency-Key": key} if key else {})


def stats(url: str) -> dict[str, int]:
    answer: dict[str, int] = plain_http.get(f"{url}/stats").json()
    return answer


def test_takes_a_message_once_and_counts_what_is_offered_again(url: str) -> None:
    answers = [post(url, key, MESSAGE) for key in ("a", "a", "b", "a")]
    assert [answer.status_code for answer in answers] == [202, 200, 202, 200]
    assert [answer.json()["repeated"] for answer in answers] == [False, True, False, True]
    assert stats(url) == {"delivered": 2, "numbers": 1, "repeated": 2}


def test_a_key_stands_for_one_message(url: str) -> None:
    post(url, "a", MESSAGE)
    answer = post(url, "a", MESSAGE | {"text": "ho"})
    assert answer.status_code == 409
    assert "'a' was used for another message" in answer.json()["error"]
