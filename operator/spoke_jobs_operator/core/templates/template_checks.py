"""Decide whether a SpokeJob may use its PodTemplate, by a chain of checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spoke_jobs.contract import names
from spoke_jobs.contract.allowed_types import allows_type
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.objects.api_objects import PodTemplate
from spoke_jobs_operator.core.objects.template_annotations import violation


def check_template(spokejob: SpokeJob, template: PodTemplate | None) -> PodTemplate | Wait:
    """Return the template if a Job can be built from it; else what has to be fixed first.

    That is the result of the first check in :data:`CHECKS` that fails.
    """
    if template is None:
        return _wait(Cause.TEMPLATE_MISSING, spokejob)
    for check in CHECKS:
        if (wait := check(spokejob, template)) is not None:
            return wait
    return template


def _lacks_label(spokejob: SpokeJob, template: PodTemplate) -> Wait | None:
    return None if template.allowed else _wait(Cause.TEMPLATE_NOT_ALLOWED, spokejob)


def _lacks_container(spokejob: SpokeJob, template: PodTemplate) -> Wait | None:
    containers = spec_of(template).get("containers")
    if isinstance(containers, list) and any(is_the_jobs(container) for container in containers):
        return None
    return _wait(Cause.TEMPLATE_INVALID, spokejob)


def _has_unreadable_rules(spokejob: SpokeJob, template: PodTemplate) -> Wait | None:
    problem = template.rules.problem
    return _wait(Cause.TEMPLATE_INVALID, spokejob, problem) if problem else None


def _forbids_type(spokejob: SpokeJob, template: PodTemplate) -> Wait | None:
    if allows_type(template.rules.given, spokejob.spec.job_type):
        return None
    return _wait(Cause.TYPE_NOT_ALLOWED, spokejob)


def _forbids_resources(spokejob: SpokeJob, template: PodTemplate) -> Wait | None:
    wrong = violation(template.rules.caps, spokejob.spec.resources)
    return _wait(Cause.RESOURCES_NOT_ALLOWED, spokejob, wrong) if wrong else None


CHECKS = (_lacks_label, _has_unreadable_rules, _lacks_container, _forbids_type, _forbids_resources)


def spec_of(template: PodTemplate) -> Mapping[str, Any]:
    """Return the spec of the template's pod; empty if there is none."""
    spec = template.template.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def is_the_jobs(container: object) -> bool:
    """Whether a container of the template is the one that runs the job."""
    return isinstance(container, Mapping) and container.get("name") == names.CONTAINER


def _wait(cause: Cause, spokejob: SpokeJob, wrong: str = "") -> Wait:
    name = spokejob.spec.pod_template
    return Wait(cause, object=name, detail=f"PodTemplate {name!r}: {wrong}" if wrong else "")
