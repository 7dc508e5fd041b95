"""Labels of SpokeJobs, and of their Jobs and pods.

All three carry the labels of :func:`job_labels`. Only spoke-jobs can set these. Policies, cost tools and ``kubectl``
select objects by them. A dispatch may give a SpokeJob further labels, which :func:`problem_of_labels` checks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from spoke_jobs.contract.names import GROUP, LABEL_MANAGED_BY

LABEL_TYPE = f"{GROUP}/type"
LABEL_QUEUE = f"{GROUP}/queue"
LABEL_ORGANIZATION = f"{GROUP}/organization"

DEFAULT_LABELS: Mapping[str, str] = {
    "app.kubernetes.io/name": "spoke-job",
    "app.kubernetes.io/component": "job",
    "app.kubernetes.io/part-of": "spoke-jobs",
}
"""Kubernetes' recommended labels of SpokeJobs, Jobs and pods. A dispatch or a PodTemplate may set others."""
MANAGED_BY = "spoke-jobs"
"""The value of ``app.kubernetes.io/managed-by`` on a SpokeJob."""

LABELS_LIMIT = 16
"""The most labels that a dispatch may give."""
_VALUE_LIMIT = 63
_PREFIX_LIMIT = 253
_DIGEST = 8
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def label_value(text: str) -> str:
    """Return ``text`` as the value of a label.

    A text that is a valid value is returned unchanged. In others, characters that a label cannot have become dashes,
    and a long text is cut; a hash of the text is then appended, so that different texts have different values.
    """
    if is_label_value(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    safe = re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-_.")
    return f"{safe[: _VALUE_LIMIT - _DIGEST - 1].rstrip('-_.')}-{digest}".lstrip("-")


def is_label_value(value: object) -> bool:
    """Whether Kubernetes accepts the value in a label."""
    return isinstance(value, str) and len(value) <= _VALUE_LIMIT and _VALUE.fullmatch(value) is not None


def is_label_key(key: object) -> bool:
    """Whether Kubernetes accepts the key of a label: ``name``, or ``prefix/name``."""
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= _PREFIX_LIMIT and _PREFIX.fullmatch(prefix)):
        return False
    return len(name) <= _VALUE_LIMIT and _NAME.fullmatch(name) is not None


def job_labels(job_type: str, queue: str, organization: int | None) -> dict[str, str]:
    """Return the labels that say which job it is. A job without a queue or an organization has no label for it."""
    labels = {LABEL_TYPE: label_value(job_type)}
    if queue:
        labels[LABEL_QUEUE] = label_value(queue)
    if organization is not None:
        labels[LABEL_ORGANIZATION] = str(organization)
    return labels


def is_reserved(key: str) -> bool:
    """Whether only spoke-jobs sets a label of this key."""
    return key.startswith(f"{GROUP}/") or key == LABEL_MANAGED_BY


def given_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that the dispatch gave, from all labels of a SpokeJob."""
    return {key: value for key, value in labels.items() if not is_reserved(key) and DEFAULT_LABELS.get(key) != value}


def problem_of_labels(labels: Any) -> str:
    """Return what is wrong with the labels of a dispatch, as text that follows the option's name; else empty."""
    if not isinstance(labels, Mapping):
        return f' is {labels!r:.100}, where a mapping is expected, for example {{"team": "payments"}}'
    if len(labels) > LABELS_LIMIT:
        return f" has {len(labels)} entries, where at most {LABELS_LIMIT} are allowed"
    for key, value in labels.items():
        if not is_label_key(key):
            return (
                f" has the key {key!r:.100}, which Kubernetes does not accept: use at most 63 letters, digits, '-', "
                "'_' and '.', if need be after a domain and '/', for example example.com/team"
            )
        if is_reserved(key):
            return f" has the key {key!r}, which spoke-jobs sets itself: choose another key"
        if not is_label_value(value):
            return (
                f": {key} is {value!r:.100}, which Kubernetes does not accept as a label's value: use a string of at "
                f"most {_VALUE_LIMIT} letters, digits, '-', '_' and '.' that begins and ends with a letter or a digit, "
                "or convert the text with spoke_jobs.label_value"
            )
    return ""
