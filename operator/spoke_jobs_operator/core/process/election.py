"""Leader election by a Lease: pure decisions.

The clocks of two machines differ and are never compared. A Lease has lapsed once this process has seen it unchanged
for the Lease's duration. This is client-go's rule (k8s.io/client-go/tools/leaderelection).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from spoke_jobs.shared.object_fields import mapping, number, text


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The durations of leader election, in seconds."""

    lasts: float = 15.0
    """The Lease's duration: how long other replicas wait for a leader that does not renew."""
    renewed_within: float = 10.0
    """How long a leader that can't renew still leads. It stops before another replica may start."""
    retry: float = 2.0
    """The interval between two reads of the Lease."""

    def check(self) -> None:
        """Check the order of the durations. :raises ValueError: if two replicas could lead at once."""
        if not 0 < self.retry < self.renewed_within < self.lasts:
            raise ValueError(
                f"a lease of {self.lasts:g} s, renewed within {self.renewed_within:g} s and every {self.retry:g} s: "
                "each of these must be shorter than the one before"
            )


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of a Lease that the election uses."""

    holder: str = ""
    lasts: float = 0.0
    transitions: int = 0
    acquired: str = ""
    version: str = ""
    """The Lease's resourceVersion, which changes with every renewal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and when this process first saw its version, by the process's monotonic clock."""

    record: Record
    since: float


def observe(before: Seen | None, record: Record, at: float) -> Seen:
    """Return the record of a new read, with the time at which this version was first seen."""
    if before is not None and before.record.version == record.version:
        return replace(before, record=record)
    return Seen(record, at)


def may_take(seen: Seen, identity: str, at: float) -> bool:
    """Whether this process may take the Lease: the Lease is free, held by this process, or has lapsed."""
    record = seen.record
    return record.holder in ("", identity) or at >= seen.since + record.lasts


def read(body: Mapping[str, Any]) -> Record:
    """Read a Lease object."""
    spec = mapping(body, "spec")
    return Record(
        holder=text(spec, "holderIdentity"),
        lasts=float(number(spec, "leaseDurationSeconds")),
        transitions=number(spec, "leaseTransitions"),
        acquired=text(spec, "acquireTime"),
        version=text(mapping(body, "metadata"), "resourceVersion"),
    )


def held_by(identity: str, times: LeaseTimes, before: Record | None, now: datetime) -> dict[str, Any]:
    """Return the spec that acquires or renews the Lease."""
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
    """Return the spec that releases the Lease."""
    return held_by("", LeaseTimes(lasts=1.0), before, now) | {"leaseTransitions": before.transitions}
