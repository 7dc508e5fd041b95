"""Decide whether an attempt may use a standby pod, by a chain of checks.

A standby pod was made without knowing the job. So it fits only jobs whose own pod would be the same, but for the
attempt's identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.executors import Lane
from spoke_jobs_operator.core.objects.api_objects import Job, PodTemplate

from .pool import Member, is_free
from .standby_job import bounds_of


class Miss(StrEnum):
    """Why an attempt of the lane `standby` gets a pod of its own."""

    NO_POOL = "no_pool"
    """Its PodTemplate keeps no standby pods."""
    RESOURCES = "resources"
    """The job sets resources, or gets what earlier jobs or attempts used."""
    LABELS = "labels"
    """The PodTemplate copies labels of the job to its pod. They may give a pod rights from its start on."""
    MEMORY = "memory"
    """It follows an attempt that ran out of memory, and gets more."""
    LOST = "lost"
    """It follows an attempt that was assigned to a standby pod in vain."""
    NONE_FREE = "none_free"
    """No standby pod is free."""


def offer(spokejob: SpokeJob, template: PodTemplate, members: Iterable[Member], digest: str) -> Job | Miss | None:
    """Return the Job of the standby pod that waits longest, or why there is none; None for a SpokeJob of another lane.

    :param members: the standby pods of the PodTemplate.
    :param digest: what a standby pod is made from now.
    """
    if spokejob.spec.lane != Lane.STANDBY:
        return None
    if (miss := _of_template(spokejob, template) or _of_job(spokejob)) is not None:
        return miss
    free = [member for member in members if is_free(member) and member.is_of(digest)]
    if not free:
        return Miss.NONE_FREE
    return min(free, key=lambda member: member.age_key).job


def may_take_one(spokejob: SpokeJob) -> bool:
    """Whether the next attempt may use a standby pod, as far as the SpokeJob alone shows."""
    return spokejob.spec.lane == Lane.STANDBY and _of_job(spokejob) is None


def may_copy_labels(template: PodTemplate) -> bool:
    """Whether the PodTemplate copies labels of jobs to their pods, so that some jobs can use no standby pod."""
    return any(template.rules.copied_labels)


def _of_template(spokejob: SpokeJob, template: PodTemplate) -> Miss | None:
    if bounds_of(template).maximum == 0:
        return Miss.NO_POOL
    return Miss.LABELS if spokejob.labels.keys() & template.rules.copied_labels else None


def _of_job(spokejob: SpokeJob) -> Miss | None:
    return next((miss for check in CHECKS if (miss := check(spokejob)) is not None), None)


def _sets_resources(spokejob: SpokeJob) -> Miss | None:
    spec = spokejob.spec
    return Miss.RESOURCES if spec.resources is not None or spec.auto_requests or spec.measured_memory_bytes else None


def _needs_more_memory(spokejob: SpokeJob) -> Miss | None:
    return Miss.MEMORY if spokejob.status.charged.get(CauseClass.OOM) else None


def _lost_one(spokejob: SpokeJob) -> Miss | None:
    last = spokejob.status.newest
    return Miss.LOST if last is not None and last.cause == Cause.STANDBY_LOST else None


CHECKS = (_sets_resources, _needs_more_memory, _lost_one)
