"""The SpokeLimits by which sync publishes the ledger's limits for the operator. Pure.

Sync publishes a limit of the ledger as one SpokeLimit. Its name follows from the scope and the ledger's identity alone,
so that a repeated creation finds the first object, and two syncs of one ledger can't publish one scope twice. Syncs of
two ledgers in one namespace publish objects of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, NamedTuple

from pydantic import ValidationError

from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.spokelimit import PAUSE_TEXT_LIMIT, PauseSpec, SpokeLimitSpec
from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.limits.job_limit import NO_BOUNDS, JobLimit, LimitPause
from spoke_jobs.limits.operator_limits import fits, ledger_digest
from spoke_jobs.shared.object_fields import is_of_this_era, mapping, text

PREFIX = "ledger-"
_NO_REASON = "-"


def spokelimit_name(scope: Scope, ledger: str) -> str:
    """Return the name of the SpokeLimit of a scope. The hash tells apart what the readable part does not.

    :param ledger: the ledger's identity.
    """
    whole = str(scope)
    digest = ledger_digest(ledger, whole)
    return f"{PREFIX}{names.dns_label(whole)}-{digest}"


class Published(NamedTuple):
    """What sync writes of a SpokeLimit's spec. Other fields are left to people."""

    scope: str
    max_running: int | None
    paused: PauseSpec | None
    rate: str | None = None
    burst: int | None = None
    """None for 1."""

    def to_patch(self) -> dict[str, Any]:
        """Return the spec for a merge patch, in which null removes a field."""
        paused = self.paused and {"reason": self.paused.reason, "by": self.paused.by, "until": _until(self.paused)}
        return {
            "scope": self.scope,
            "maxRunning": self.max_running,
            "rate": self.rate,
            "burst": self.burst,
            "paused": paused,
        }

    def to_spec(self) -> dict[str, Any]:
        """Return the spec of a new object."""
        paused = self.paused
        found = self.to_patch()
        if paused is not None:
            found["paused"] = {name: value for name, value in found["paused"].items() if value}
        return {name: value for name, value in found.items() if value is not None}


def _until(pause: PauseSpec) -> str | None:
    return None if pause.until is None else pause.until.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _pause_spec(pause: LimitPause) -> PauseSpec:
    reason = pause.reason[:PAUSE_TEXT_LIMIT] or _NO_REASON
    # A SpokeLimit's times end with the year 2999. A pause until later is one without an end.
    until = pause.until if pause.until is not None and is_of_this_era(pause.until.astimezone(UTC)) else None
    return PauseSpec(reason=reason, by=pause.by[:PAUSE_TEXT_LIMIT], until=until)


def _rate_fields(rate: StartRate | None) -> tuple[str | None, int | None]:
    if rate is None:
        return None, None
    return rate.text, None if rate.burst == 1 else rate.burst


def to_publish(limits: Iterable[JobLimit], ledger: str) -> dict[str, Published]:
    """Return the SpokeLimits that the ledger's limits need, by name. Scopes that no SpokeLimit can have are left out.

    :param ledger: the ledger's identity.
    """
    found = {}
    for limit in limits:
        pause, most, rate = limit.pause, limit.bounds.max_running, limit.bounds.rate
        if fits(limit.scope) and (pause is not None or limit.bounds != NO_BOUNDS):
            found[spokelimit_name(limit.scope, ledger)] = Published(
                str(limit.scope), most, _pause_spec(pause) if pause is not None else None, *_rate_fields(rate)
            )
    return found


@dataclass(frozen=True, slots=True)
class PublishedView:
    """A SpokeLimit that sync made, as the API server has it."""

    name: str
    uid: str
    spec: Published | None
    """None if it can't be read: somebody has changed it."""


def labels_of(ledger: str) -> dict[str, str]:
    """Return the labels of the SpokeLimits that sync makes for a ledger."""
    return {names.LABEL_MANAGED_BY: names.MANAGER_SYNC, names.LABEL_LEDGER: ledger}


def read_published_limit(body: Mapping[str, Any], ledger: str) -> PublishedView | None:
    """Read a SpokeLimit; None if sync did not make it for this ledger."""
    metadata = mapping(body, "metadata")
    name, labels = text(metadata, "name"), mapping(metadata, "labels")
    own = all(text(labels, key) == value for key, value in labels_of(ledger).items())
    if not own or not name.startswith(PREFIX):
        return None
    try:
        spec = SpokeLimitSpec.model_validate(dict(mapping(body, "spec")))
    except ValidationError:
        found = None
    else:
        found = Published(spec.scope, spec.max_running, spec.paused, *_rate_fields(spec.start_rate))
    return PublishedView(name, text(metadata, "uid"), found)


class Put(NamedTuple):
    """Create a SpokeLimit, or change the present one."""

    name: str
    spec: Published
    present: PublishedView | None


class Remove(NamedTuple):
    """Delete a SpokeLimit that sync made."""

    name: str
    present: PublishedView


Change = Put | Remove


def changes(wanted: Mapping[str, Published], present: Mapping[str, PublishedView]) -> Iterator[Change]:
    """Yield what makes the SpokeLimits agree with the ledger, pauses first."""
    for name, spec in sorted(wanted.items(), key=lambda item: (item[1].paused is None, item[0])):
        found = present.get(name)
        if found is None or found.spec != spec:
            yield Put(name, spec, found)
    for name in sorted(present.keys() - wanted.keys()):
        yield Remove(name, present[name])
