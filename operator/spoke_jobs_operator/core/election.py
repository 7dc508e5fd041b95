"""Who leads, decided on a Lease and on when this process first saw it as it is. Pure.

Clocks of machines differ, so another machine's time is never compared with ours: a Lease has lapsed once this process
has seen it unchanged for as long as it lasts. This is client-go's rule (k8s.io/client-go/tools/leaderelection).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How long a lead lasts, in seconds."""

    lasts: float = 15.0
    """How long others wait for a holder that does not renew."""
    renewed_within: float = 10.0
    """How long a holder that can't renew considers itself the leader; shorter, so that it stops before others start."""
    retry: float = 2.0
    """The time between two reads of the Lease."""

    def check(self) -> None:
        """:raises ValueError: if a holder could go on for longer than others leave it its lead."""
        if not 0 < self.retry < self.renewed_within < self.lasts:
            raise ValueError(
                f"a lease of {self.lasts:g} s, renewed within {self.renewed_within:g} s and every {self.retry:g} s: "
                "each of these must be shorter than the one before"
            )


@dataclass(frozen=True, slots=True)
class Record:
    """What an election uses of a Lease."""

    holder: str = ""
    lasts: float = 0.0
    transitions: int = 0
    acquired: str = ""
    version: str = ""
    """The object's resourceVersion: it changes with every renewal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and since when it is so, by the monotonic clock of this process."""

    record: Record
    since: float


def observe(before: Seen | None, record: Record, at: float) -> Seen:
    """Return what is known after this read."""
    if before is not None and before.record.version == record.version:
        return replace(before, record=record)
    return Seen(record, at)


def may_take(seen: Seen, identity: str, at: float) -> bool:
    """Whether this process may lead: nobody does, this process does already, or the Lease has lapsed."""
    record = seen.record
    return record.holder in ("", identity) or at >= seen.since + record.lasts


def read(body: Mapping[str, Any]) -> Record:
    """Read a Lease as the API server sends it."""
    spec = body.get("spec") or {}
    metadata = body.get("metadata") or {}
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        lasts=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
        acquired=str(spec.get("acquireTime") or ""),
        version=str(metadata.get("resourceVersion") or ""),
    )


def held_by(identity: str, times: LeaseTimes, before: Record | None, now: datetime) -> dict[str, Any]:
    """Return the spec that takes or renews the lead."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    renewed = before is not None and before.holder == identity
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, math.ceil(times.lasts)),
        "acquireTime": (before.acquired if before and renewed else "") or stamp,
        "renewTime": stamp,
        "leaseTransitions": (before.transitions + (0 if renewed else 1)) if before else 0,
    }


def released(before: Record, now: datetime) -> dict[str, Any]:
    """Return the spec that releases the lead."""
    return held_by("", LeaseTimes(lasts=1.0), before, now) | {"leaseTransitions": before.transitions}
