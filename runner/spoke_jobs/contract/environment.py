"""The environment variables that the operator sets for ``spoke-jobs run``.

They hold only identifiers. Payloads stay in the ledger; the database's address comes from the PodTemplate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from spoke_jobs.contract import CONTRACT_VERSION

VERSION = "SPOKE_CONTRACT"
REQUEST_ID = "SPOKE_REQUEST_ID"
UID = "SPOKE_REQUEST_UID"
RUN = "SPOKE_RUN"
ATTEMPT = "SPOKE_ATTEMPT"
POD = "SPOKE_POD"
NODE = "SPOKE_NODE"


class BadEnvironment(Exception):
    """A variable that the operator sets is missing or malformed."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The attempt that the pod runs."""

    request_id: int
    uid: UUID
    attempt: int
    """The attempt's number within the run, from 1."""
    run: int = 1
    """The run, from 1; a manual retry starts the next."""
    pod: str = ""
    node: str = ""

    def to_environment(self) -> dict[str, str]:
        """Return the variables with fixed values; pod and node come from Kubernetes' downward API."""
        return {
            VERSION: str(CONTRACT_VERSION),
            REQUEST_ID: str(self.request_id),
            UID: str(self.uid),
            RUN: str(self.run),
            ATTEMPT: str(self.attempt),
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Assignment:
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
            pod=environment.get(POD, ""),
            node=environment.get(NODE, ""),
        )
