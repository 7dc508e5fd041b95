"""Build the Job of a standby pod from a PodTemplate."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from spoke_jobs.contract import environment, names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.standby import ANNOTATION_DIGEST, ANNOTATION_VERIFIER, LABEL_STANDBY
from spoke_jobs_operator.core.objects.api_objects import STANDBY_POOL, PodTemplate
from spoke_jobs_operator.core.templates.build_job import job_of_template

_NAME_LIMIT = 40


def standby_name(template: PodTemplate, nonce: str) -> str:
    """Return the name of a standby pod's Job.

    :param nonce: 12 to 16 characters that no other Job has had: the pod's secret is derived from the name.
    """
    return f"{names.dns_label(template.meta.key.name, _NAME_LIMIT)}-standby-{nonce}"


def build_standby_job(template: PodTemplate, name: str, verifier: str, seconds: int) -> dict[str, Any]:
    """Return the body of the Job. Its pod waits for an attempt.

    :param seconds: how long the pod waits at most. The operator replaces it earlier.
    """
    body = _body(template, name, verifier, seconds)
    body["metadata"]["annotations"][ANNOTATION_DIGEST] = digest_of(template, seconds)
    return body


def digest_of(template: PodTemplate, seconds: int) -> str:
    """Return a hash of what a standby pod is made from now. A pod with another one is replaced.

    It covers the labels and annotations of the PodTemplate, which its generation does not count, and what this release
    of the operator makes of them.
    """
    text = json.dumps(_body(template, "", "", seconds), sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _body(template: PodTemplate, name: str, verifier: str, seconds: int) -> dict[str, Any]:
    # The owner lets the garbage collector delete the Job with the PodTemplate. It controls nothing.
    owner = {
        "apiVersion": Kind.TEMPLATE.api_version,
        "kind": Kind.TEMPLATE.kind,
        "name": template.meta.key.name,
        "uid": template.meta.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    ours = {
        names.LABEL_MANAGED_BY: names.MANAGER_OPERATOR,
        names.LABEL_SPOKEJOB: STANDBY_POOL,
        LABEL_STANDBY: "true",
    }
    variables = {environment.STANDBY: verifier, environment.STANDBY_SECONDS: str(seconds)}
    annotations = {ANNOTATION_VERIFIER: verifier}
    return job_of_template(template, name, ours, owner, variables, annotations=annotations, safe_to_evict=True)
