"""Who may look at the dashboard, by the claims about them in an ID token. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spoke_jobs.errors import ConfigurationError

EMAIL = "email"
_VERIFIED = "email_verified"
_NAMES = ("preferred_username", "sub")
"""Without a verified address and another choice, the first of these claims that there is names somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """Which people may look, and under which name.

    :raises ConfigurationError: if nobody has decided who may look, or if a group has no name.
    """

    groups: frozenset[str] = frozenset()
    """Their members may look and act."""
    read_only_groups: frozenset[str] = frozenset()
    """Their members may look."""
    anyone: bool = False
    """Whether everybody whom the provider knows may look and act."""
    group_claim: str = "groups"
    """The claim with somebody's groups: its name, or a path of names such as ``realm_access.roles``."""
    user_claim: str = ""
    """The claim with somebody's name. Empty: the verified address, else the user name, else the subject."""

    def __post_init__(self) -> None:
        """Check that somebody has decided who may look, and that a group has a name."""
        if self.anyone == bool(self.groups or self.read_only_groups):
            raise ConfigurationError("say who may look: the members of some groups, or anyone whom the provider knows")
        if any(not group.strip() for group in self.groups | self.read_only_groups):
            raise ConfigurationError("a group has an empty name, which some providers give to those without a group")

    def name(self, claims: Mapping[str, Any]) -> str:
        """Return the name of whom the claims are about; empty if they have none."""
        if self.user_claim:
            # Some providers write it as a text. Nothing but these forms says that the address is verified.
            unverified = self.user_claim == EMAIL and claims.get(_VERIFIED) not in (None, True, "true")
            return "" if unverified else _text(claim_at(claims, self.user_claim))
        names = [claims.get(EMAIL) if claims.get(_VERIFIED) is True else "", *(claims.get(each) for each in _NAMES)]
        return next(filter(None, map(_text, names)), "")

    def may_look(self, claims: Mapping[str, Any]) -> bool:
        """Whether the person may look at the dashboard."""
        return self.may_act(claims) or not self.read_only_groups.isdisjoint(self._groups(claims))

    def may_act(self, claims: Mapping[str, Any]) -> bool:
        """Whether the person may also change something."""
        return self.anyone or not self.groups.isdisjoint(self._groups(claims))

    def _groups(self, claims: Mapping[str, Any]) -> frozenset[str]:
        found = claim_at(claims, self.group_claim)
        groups = found if isinstance(found, list) else [found]
        return frozenset(group for group in groups if isinstance(group, str))


def claim_at(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim of this name, else that at the end of the path of names; None if there is none.

    The name itself comes first, because names such as ``https://example.com/groups`` have dots.
    """
    if name in claims:
        return claims[name]
    first, dot, rest = name.partition(".")
    inner = claims.get(first)
    return claim_at(inner, rest) if dot and isinstance(inner, Mapping) else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
