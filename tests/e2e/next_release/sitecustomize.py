"""What the next release adds to the contract: a version, a variable, a field of the termination message, a cause."""

from __future__ import annotations

import json

from spoke_jobs import contract

contract.CONTRACT_VERSION += 1

from spoke_jobs.contract import environment, termination  # noqa: E402

_to_environment = environment.PodAssignment.to_environment
_encode = termination.TerminationMessage.encode


def to_environment(assignment: environment.PodAssignment) -> dict[str, str]:
    """The variables of today, and another."""
    return _to_environment(assignment) | {"SPOKE_OF_NEXT_RELEASE": "1"}


def encode(message: termination.TerminationMessage) -> bytes:
    """The message of today, with another field, and a cause that today's operator doesn't know."""
    fields = json.loads(_encode(message)) | {"ofNextRelease": {"nested": True}}
    if fields["cause"] == "JobError":
        fields["cause"] = "JobErrorOfNextRelease"
    return json.dumps(fields).encode()


environment.PodAssignment.to_environment = to_environment  # type: ignore[method-assign]
termination.TerminationMessage.encode = encode  # type: ignore[method-assign]
