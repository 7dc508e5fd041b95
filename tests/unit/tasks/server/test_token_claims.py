"""What a token says about itself is read strictly, and whatever is sent, nothing is raised."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from spoke_jobs.tasks.server.auth import Claims, read_claims

GOOD = {"aud": ["spoke-tasks"], "sub": "system:serviceaccount:texting:web", "exp": 5}


def token(body: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.c2ln"


def test_the_claims_of_a_service_account_s_token_are_read() -> None:
    read = read_claims(token(json.dumps(GOOD).encode()))
    assert read == Claims(frozenset(["spoke-tasks"]), "system:serviceaccount:texting:web", 5.0)
    assert read_claims(token(json.dumps(GOOD | {"aud": "spoke-tasks", "exp": 5.0}).encode())) == read


@pytest.mark.parametrize(
    "change",
    [
        *({"aud": wrong} for wrong in (None, 1, [1], {"spoke-tasks": 1})),
        *({"sub": wrong} for wrong in (None, 1, ["a"])),
        *({"exp": wrong} for wrong in (None, "5", True, float("nan"), float("inf"), 10**400)),
    ],
)
def test_claims_of_a_wrong_type_are_none(change: dict[str, Any]) -> None:
    assert read_claims(token(json.dumps(GOOD | change).encode())) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"\xff", b"[" * 5_000, b"{}", b'{"exp":' + b"9" * 5_000 + b"}"])
def test_what_is_no_object_with_claims_is_none(body: bytes) -> None:
    assert read_claims(token(body)) is None
