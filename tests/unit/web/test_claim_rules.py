"""Who may look, by their claims."""

from __future__ import annotations

from typing import Any

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.web.claim_rules import ClaimRules

OPS = frozenset({"ops"})


@pytest.mark.parametrize("rules", [{}, {"anyone": True, "groups": OPS}, {"anyone": True, "read_only_groups": OPS}])
def test_somebody_has_to_decide(rules: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="say who may look"):
        ClaimRules(**rules)


@pytest.mark.parametrize("name", ["", " "])
@pytest.mark.parametrize("option", ["groups", "read_only_groups"])
def test_a_group_without_a_name_is_none(option: str, name: str) -> None:
    """Somebody whose claim is an empty text would be a member."""
    with pytest.raises(ConfigurationError, match="empty name"):
        ClaimRules(**{option: frozenset({"ops", name})})


def test_anyone() -> None:
    rules = ClaimRules(anyone=True)
    assert rules.may_look({})
    assert rules.may_act({})


@pytest.mark.parametrize(
    ("groups", "looks", "acts"),
    [
        (["ops"], True, True),
        ("ops", True, True),
        (["x", "desk", "ops"], True, True),
        (["desk"], True, False),
        (["OPS", "ops "], False, False),
        ([["ops"]], False, False),
        ({"ops": 1}, False, False),
        ("o", False, False),
        ([], False, False),
        (None, False, False),
        (7, False, False),
    ],
)
def test_groups(groups: object, looks: bool, acts: bool) -> None:
    rules = ClaimRules(groups=OPS, read_only_groups=frozenset({"desk"}))
    claims = {"groups": groups}
    assert (rules.may_look(claims), rules.may_act(claims)) == (looks, acts)
    assert not rules.may_look({"roles": groups})


def test_only_read_only_groups() -> None:
    rules = ClaimRules(read_only_groups=OPS)
    assert rules.may_look({"groups": ["ops"]})
    assert not rules.may_act({"groups": ["ops"]})
    assert not rules.may_look({})


@pytest.mark.parametrize(
    ("claim", "claims", "may"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["ops"]}}, True),
        ("realm_access.roles", {"realm_access.roles": ["ops"]}, True),
        ("https://example.com/groups", {"https://example.com/groups": ["ops"]}, True),
        ("realm_access.roles", {"realm_access": ["ops"]}, False),
        ("realm_access", {"realm_access": {"roles": ["ops"]}}, False),
        ("a.b.c", {"a": {"b": {"c": "ops"}}}, True),
    ],
)
def test_a_claim_by_its_name_or_its_path(claim: str, claims: dict[str, Any], may: bool) -> None:
    assert ClaimRules(groups=OPS, group_claim=claim).may_look(claims) == may


@pytest.mark.parametrize(
    ("claim", "claims", "name"),
    [
        ("", {"email": "a@x", "email_verified": True, "preferred_username": "ada", "sub": "7"}, "a@x"),
        ("", {"email": "a@x", "email_verified": False, "preferred_username": "ada", "sub": "7"}, "ada"),
        ("", {"email": "a@x", "email_verified": "true", "preferred_username": "ada", "sub": "7"}, "ada"),
        ("", {"email": "a@x", "preferred_username": "ada", "sub": "7"}, "ada"),
        ("", {"email": " ", "email_verified": True, "preferred_username": 7, "sub": "7"}, "7"),
        ("", {}, ""),
        ("sub", {"email": "a@x", "email_verified": True, "sub": "7"}, "7"),
        ("email", {"email": "a@x", "sub": "7"}, "a@x"),
        ("email", {"email": "a@x", "email_verified": True}, "a@x"),
        ("email", {"email": "a@x", "email_verified": "true"}, "a@x"),
        ("email", {"email": "a@x", "email_verified": False, "sub": "7"}, ""),
        ("email", {"email": "a@x", "email_verified": "false"}, ""),
        ("email", {"email": "a@x", "email_verified": 0}, ""),
        ("email", {"email": "a@x", "email_verified": ["true"]}, ""),
        ("upn", {"sub": "7"}, ""),
        ("who.name", {"who": {"name": " ada "}}, "ada"),
        ("upn", {"upn": ["ada"]}, ""),
    ],
)
def test_names(claim: str, claims: dict[str, Any], name: str) -> None:
    assert ClaimRules(anyone=True, user_claim=claim).name(claims) == name
