"""The environment variables that the operator sets for ``spoke-jobs run``.

They hold identifiers, time limits and the trace context. Payloads stay in the ledger. The database's address comes from
the PodTemplate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from spoke_jobs.contract import CONTRACT_VERSION

VERSION = "SPOKE_CONTRACT"
REQUEST_ID = "SPOKE_REQUEST_ID"
UID = "SPOKE_REQUEST_UID"
TYPE = "SPOKE_JOB_TYPE"
RUN = "SPOKE_RUN"
ATTEMPT = "SPOKE_ATTEMPT"
POD = "SPOKE_POD"
NODE = "SPOKE_NODE"
START_TIMEOUT = "SPOKE_START_TIMEOUT"
TIMEOUT = "SPOKE_TIMEOUT"
TRACEPARENT = "TRACEPARENT"
"""The W3C trace context of the dispatch. OpenTelemetry's tools read it; spoke-jobs does not."""
STANDBY = "SPOKE_STANDBY"
"""In place of an attempt, in a standby pod: the verifier of the secret with which the operator assigns one."""
STANDBY_SECONDS = "SPOKE_STANDBY_SECONDS"
"""How long a standby pod waits at most for an attempt."""


class BadEnvironment(Exception):
    """A variable that the operator sets is missing or malformed."""


@dataclass(frozen=True, slots=True)
class PodAssignment:
    """The attempt that the pod runs."""

    request_id: int
    uid: UUID
    attempt: int
    """The attempt's number within the run, from 1."""
    run: int = 1
    """The run's number, from 1. A manual retry starts the next run."""
    start_timeout_seconds: int = 60
    """How long the pod may wait for its database. The default applies to a pod that an older operator created."""
    timeout_seconds: int | None = None
    """How long the function may run, if a SpokeLimit sets that; None if the job's own timeout applies."""
    job_type: str = ""
    """The type for which the operator has checked the PodTemplate. Empty: an older operator created the pod."""
    pod: str = ""
    node: str = ""

    def to_environment(self) -> dict[str, str]:
        """Return the variables with fixed values; pod and node come from Kubernetes' downward API."""
        optional = {} if self.timeout_seconds is None else {TIMEOUT: str(self.timeout_seconds)}
        if self.job_type:
            optional[TYPE] = self.job_type
        return optional | {
            VERSION: str(CONTRACT_VERSION),
            REQUEST_ID: str(self.request_id),
            UID: str(self.uid),
            RUN: str(self.run),
            ATTEMPT: str(self.attempt),
            START_TIMEOUT: str(self.start_timeout_seconds),
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> PodAssignment:
        """Read the variables.

        :raises BadEnvironment: naming the variable.
        """

        def number(name: str, default: str | None = None) -> int:
            text = environment.get(name, default)
            if text is None:
                raise BadEnvironment(f"{name} is not set: `spoke-jobs run` is started by the operator, in a job's pod")
            if not text.isascii() or not text.isdigit() or not 1 <= int(text[:20]) < 2**63:
                raise BadEnvironment(f"{name} is {text!r}, where a positive whole number is expected")
            return int(text)

        try:
            uid = UUID(environment[UID])
        except KeyError:
            raise BadEnvironment(f"{UID} is not set: `spoke-jobs run` is started by the operator") from None
        except ValueError:
            raise BadEnvironment(f"{UID} is {environment[UID]!r}, where a UUID is expected") from None
        return cls(
            request_id=number(REQUEST_ID),
            uid=uid,
            attempt=number(ATTEMPT),
            run=number(RUN, "1"),
            start_timeout_seconds=number(START_TIMEOUT, "60"),
            timeout_seconds=number(TIMEOUT) if TIMEOUT in environment else None,
            job_type=environment.get(TYPE, ""),
            pod=environment.get(POD, ""),
            node=environment.get(NODE, ""),
        )
