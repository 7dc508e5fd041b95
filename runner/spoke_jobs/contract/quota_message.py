"""Read the API server's refusal of a pod or a Job because a ResourceQuota is used up, and describe it in a few words.

The API server writes, for example: 'pods "x" is forbidden: exceeded quota: compute, requested: cpu=1,pods=1, used:
cpu=4,pods=5, limited: cpu=4,pods=5'. It names the resources that are short, and only those. For a quota that it has not
counted yet it writes 'status unknown for quota: compute, resources: pods' (kube-apiserver, admission plugin
`resourcequota`).

Reading is lenient: from a message that is cut or only partly understood, the readable fields are returned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from spoke_jobs.contract.quantities import in_one_unit

_REFUSED = re.compile(r"(?:exceeded quota|status unknown for quota)(?:: *([a-z0-9](?:[-.a-z0-9]*[a-z0-9])?))?")
_PART = re.compile(r"\b(requested|used|limited): *")
_MOST = 10
"""The most resources of one refusal that are kept."""
_LONGEST_RESOURCE, _LONGEST_AMOUNT = 100, 40


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """A resource of a ResourceQuota that is short. Amounts are quantities as the API server writes them, or empty."""

    resource: str
    """For example ``requests.cpu`` or ``count/jobs.batch``."""
    requested: str = ""
    """What the refused object requests."""
    used: str = ""
    """What the objects that exist request."""
    hard: str = ""
    """The quota's limit."""

    def in_one_unit(self) -> QuotaUse:
        """Return the same with all amounts in one unit: the API server mixes them, as in ``32256Mi`` of ``32Gi``."""
        names = [name for name in ("hard", "requested", "used") if getattr(self, name)]
        amounts = in_one_unit([getattr(self, name) for name in names])
        return replace(self, **dict(zip(names, amounts, strict=True)))

    @property
    def allows_nothing(self) -> bool:
        """Whether the quota is zero, so that no pod that ends makes room."""
        return re.fullmatch(r"0+(\.0+)?[A-Za-z]*", self.hard) is not None


@dataclass(frozen=True, slots=True)
class QuotaRefusal:
    """A refusal because of a ResourceQuota."""

    quota: str
    """The ResourceQuota's name; empty if the message does not say it."""
    uses: tuple[QuotaUse, ...] = ()


def read_quota_refusal(message: str) -> QuotaRefusal | None:
    """Return what a message says of a ResourceQuota that is used up; None if the message is about something else."""
    found = _REFUSED.search(message)
    if found is None:
        return None
    _, *parts = _PART.split(message[found.end() :])
    amounts = {name: _amounts(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    requested, used, hard = (amounts.get(name, {}) for name in ("requested", "used", "limited"))
    uses = (
        QuotaUse(name[:_LONGEST_RESOURCE], *(part.get(name, "")[:_LONGEST_AMOUNT] for part in (requested, used, hard)))
        for name in dict.fromkeys((*requested, *hard))
    )
    return QuotaRefusal((found[1] or "")[:253], tuple(uses)[:_MOST])


def quota_words(quota: str, uses: tuple[QuotaUse, ...]) -> str:
    """Format ``quota compute: cpu 4 of 4 used, and the pod requests 1``, or ``the quota of cpu is 0``."""
    name = f"quota {quota}" if quota else "a ResourceQuota"
    return f"{name}: {'; '.join(map(_words, uses))}" if uses else f"{name} is used up"


def _words(use: QuotaUse) -> str:
    use = use.in_one_unit()
    who = "Job" if use.resource == "count/jobs.batch" else "pod"
    of = f"{use.resource} {use.used or '0'} of {use.hard} used" if use.hard else f"{use.resource} is used up"
    said = f"the quota of {use.resource} is 0" if use.allows_nothing else of
    return said + (f", and the {who} requests {use.requested}" if use.requested else "")


def _amounts(text: str) -> dict[str, str]:
    """Parse ``requests.cpu=1,pods=2``."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, amount = part.strip().partition("=")
        if equals and name:
            found[name] = amount.strip().rstrip(".")
    return found
