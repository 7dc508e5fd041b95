"""Which types of jobs may use a PodTemplate: an annotation of the PodTemplate, which operator and sync enforce."""

from __future__ import annotations

from collections.abc import Mapping

from spoke_jobs.contract.names import GROUP

ANNOTATION_TYPES = f"{GROUP}/allowed-types"
"""On a PodTemplate: the types, separated by commas. A type that ends with ``*`` stands for all that begin so."""
LONGEST = 4096
"""The most characters of this annotation, and of the others with which a PodTemplate bounds its jobs."""


def allows_type(annotations: Mapping[str, object], job_type: str) -> bool:
    """Whether jobs of this type may use a PodTemplate with these annotations.

    Without the annotation, all may. If it is no text or too long, none may.
    """
    given = annotations.get(ANNOTATION_TYPES)
    if given is None:
        return True
    readable = isinstance(given, str) and not length_problem(annotations, ANNOTATION_TYPES)
    return readable and any(_matches(entry.strip(), job_type) for entry in str(given).split(","))


def length_problem(annotations: Mapping[str, object], *keys: str) -> str:
    """Say which of these annotations is too long; empty if none is."""
    for key in keys:
        value = annotations.get(key)
        if isinstance(value, str) and len(value) > LONGEST:
            return f"its annotation {key} has {len(value)} characters; the most is {LONGEST}"
    return ""


def _matches(entry: str, job_type: str) -> bool:
    if entry.endswith("*"):
        return job_type.startswith(entry.removesuffix("*"))
    return entry == job_type and entry != ""
