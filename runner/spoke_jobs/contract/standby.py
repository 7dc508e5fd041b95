"""How the operator assigns an attempt to a standby pod: names, the request, and the proof that it is the operator's.

A standby pod waits without a job. Its environment has a verifier: a hash of a secret. Only the operator can make the
secret, from its own key and the name of the pod's Job. The operator shows the secret once, with the assignment. So
whoever reads the pod, the Job, or all Secrets of the namespace can assign nothing, and the secret of one pod does not
help with another.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from enum import StrEnum

from spoke_jobs.contract import environment
from spoke_jobs.contract.names import GROUP
from spoke_jobs.shared.strict_json import NotJson, read_json_object

LABEL_STANDBY = f"{GROUP}/standby"
"""On a standby pod and its Job, "true". It stays when the pod has a job."""
ANNOTATION_STANDBY = f"{GROUP}/standby"
"""On a PodTemplate: how many standby pods to keep, as MIN-MAX."""
ANNOTATION_VERIFIER = f"{GROUP}/standby-verifier"
"""On the Job of a standby pod: the verifier that its pod has."""
ANNOTATION_DIGEST = f"{GROUP}/standby-digest"
"""On the Job of a standby pod: what it was made from, as a hash."""

PORT = 8711
"""Where a standby pod listens."""
PATH = "/assignment"
"""GET returns the state of the pod; POST assigns an attempt."""
LIMIT_BYTES = 4096
"""The longest request and the longest answer."""
NO_ANSWER = "NoAnswer"
"""What keeps a standby pod that runs from being ready: the operator gets no answer from it."""
KEY_BYTES = 32
"""The fewest bytes of the operator's key."""
_NAMES = frozenset(
    {
        environment.VERSION,
        environment.REQUEST_ID,
        environment.UID,
        environment.TYPE,
        environment.RUN,
        environment.ATTEMPT,
        environment.START_TIMEOUT,
        environment.TIMEOUT,
        environment.TRACEPARENT,
    }
)
_IDENTITY = (environment.REQUEST_ID, environment.UID, environment.RUN, environment.ATTEMPT)
_SECRET = re.compile(r"[0-9a-f]{64}")


class PodState(StrEnum):
    """What a standby pod answers."""

    FREE = "free"
    """It has imported the application, is connected to the database, and has no job."""
    ASSIGNED = "assigned"
    """It has taken a job, which it runs or has run."""


def secret_of(key: bytes, namespace: str, job: str) -> str:
    """Return the secret of a standby pod.

    :param key: the operator's key.
    :param job: the name of the pod's Job, which no other Job ever has.
    """
    return hmac.new(key, f"standby\0{namespace}\0{job}".encode(), hashlib.sha256).hexdigest()


def verifier_of(secret: str) -> str:
    """Return the verifier of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def proves(secret: str, verifier: str) -> bool:
    """Whether a secret belongs to a verifier."""
    return _SECRET.fullmatch(secret) is not None and hmac.compare_digest(verifier_of(secret), verifier)


def assignment_body(variables: Mapping[str, str]) -> bytes:
    """Return the body of the request that assigns an attempt."""
    return json.dumps(dict(variables)).encode()


def read_assignment(data: bytes) -> dict[str, str] | None:
    """Read the variables of an assigned attempt; None for anything else.

    They are those of a cold pod's environment that identify the attempt: no payload, no address and no command. Others,
    which a later operator may send, are left out, as a cold pod does not use them either.
    """
    value = read_json_object(data, LIMIT_BYTES)
    if isinstance(value, NotJson):
        return None
    known = {name: text for name, text in value.items() if name in _NAMES}
    variables = {name: text for name, text in known.items() if isinstance(text, str) and "\0" not in text}
    return variables if len(variables) == len(known) else None


def identity_of(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return what tells one attempt from all others. An operator of another version may word the rest otherwise."""
    return tuple(variables.get(name, "") for name in _IDENTITY)


def read_state(data: bytes) -> PodState | None:
    """Read the answer of a standby pod; None for anything else."""
    value = read_json_object(data, LIMIT_BYTES)
    state = value.get("state") if isinstance(value, Mapping) else None
    return PodState(state) if state in tuple(PodState) else None
