"""Names of the objects in the cluster. They are deterministic, so that a repeated creation finds the first object."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

GROUP = "jobs.spoke.dev"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_TEMPLATE = f"{GROUP}/template"
"""On a PodTemplate, "true": jobs may use it, and therefore its service account."""
LABEL_SPOKEJOB = f"{GROUP}/spokejob"
"""On a Job and its pod: the SpokeJob's name. The operator's watches select by it."""
LABEL_UID = f"{GROUP}/uid"
"""On a Job and its pod: the job's uid."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER_OPERATOR = "spoke-operator"
"""The operator's field manager, and the value of LABEL_MANAGED_BY on what it creates."""
MANAGER_SYNC = "spoke-sync"
"""Sync's field manager: of `status.progress` and `status.ledger`, and of what it changes in the spec."""
MANAGER_RUNNER = "spoke-runner"
"""The field manager that creates SpokeJobs, in the application's pods or in sync."""
LABEL_LEDGER = f"{GROUP}/ledger"
"""On a SpokeLimit that sync made: the identity of the ledger whose limit it is."""
LABEL_REQUEST = f"{GROUP}/request-id"
LABEL_ATTEMPT = f"{GROUP}/attempt"

ANNOTATION_SUSPENDED_BY = f"{GROUP}/suspended-by"
"""On a SpokeJob: sync has set `spec.suspend`, because the job is suspended in the ledger. It leaves what people set."""
ANNOTATION_PAUSED = f"{GROUP}/paused"
"""On a Namespace: no attempt starts in it; the value is the reason."""

STATE_CONFIGMAP = "spoke-operator-state"
"""The ConfigMap in each namespace with SpokeJobs: the operator's limits, counts and order of turns."""

CONTAINER = "job"
"""The container of the pod that runs the job."""

TEMPLATE_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""The form of a PodTemplate's name (a DNS-1123 subdomain); no other name can exist."""

TEMPLATE_LIMIT = 253
QUEUE_LIMIT = 200
KEY_LIMIT = 200
"""The longest unique key or limit key."""
PRIORITY_LIMIT = 1000
"""The highest priority; the lowest is its negative."""

_TYPE_LIMIT = 30
_LABEL_LIMIT = 63


def dns_label(text: str, limit: int = _TYPE_LIMIT) -> str:
    """Return ``text`` as a DNS label or the beginning of one: lower case, digits and dashes, starting with a letter."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not label or not label[0].isalpha():
        label = f"job-{label}".rstrip("-")
    return label[:limit].rstrip("-")


def spokejob_name(job_type: str, request_id: int, uid: UUID, run: int = 1) -> str:
    """Return the name of the SpokeJob of a job's run: at most 63 characters, the same at each try to create it."""
    name = f"{dns_label(job_type)}-{request_id}-{uid.hex[:8]}"
    return name if run == 1 else f"{name}-r{run}"


def job_name(spokejob: str, attempt: int) -> str:
    """Return the name of an attempt's Kubernetes Job: at most 63 characters, since it is also a label's value.

    A SpokeJob's name that is too long is shortened, and a hash keeps it unique.
    """
    suffix = f"-{attempt}"
    if len(spokejob) + len(suffix) <= _LABEL_LIMIT:
        return f"{spokejob}{suffix}"
    digest = hashlib.sha256(spokejob.encode()).hexdigest()[:8]
    return f"{spokejob[: _LABEL_LIMIT - len(suffix) - 9].rstrip('-.')}-{digest}{suffix}"


def is_object_name(value: object) -> bool:
    """Whether a PodTemplate or a pod can have this name. If not, a request for it is pointless."""
    return isinstance(value, str) and len(value) <= TEMPLATE_LIMIT and re.fullmatch(TEMPLATE_NAME, value) is not None
