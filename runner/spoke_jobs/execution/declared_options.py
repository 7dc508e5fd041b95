"""The options of jobs that other code dispatched: the process that claims such a job knows the type's declaration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from spoke_jobs.errors import UnknownName
from spoke_jobs.job_options import JobOptions
from spoke_jobs.model import UNDECLARED, Claim
from spoke_jobs.registry import Registry, with_follower

if TYPE_CHECKING:
    from spoke_jobs.ledger.sql_attempts import SqlAttempts


def with_declared_options(claims: Sequence[Claim], registry: Registry, ledger: SqlAttempts) -> list[Claim]:
    """Give jobs without options those that their types declare, also in their rows, before an attempt starts.

    Every later decision on the job, also by a process that does not know its type, reads them there.
    """
    found = {claim.token: options for claim in claims if (options := _declared(claim, registry)) is not None}
    if not found:
        return list(claims)
    ledger.set_options(found)
    return [
        replace(claim, job=replace(claim.job, options=found[claim.token])) if claim.token in found else claim
        for claim in claims
    ]


def _declared(claim: Claim, registry: Registry) -> JobOptions | None:
    if claim.job.options is not UNDECLARED:
        return None
    try:
        definition = registry.jobs.get(claim.job.job_type)
    except UnknownName:
        return None
    # Other code writes the payload in its first form.
    options = replace(definition.options, payload_version=claim.job.options.payload_version)
    try:
        return with_follower(options, registry)
    except UnknownName:
        return replace(options, on_failure="")
