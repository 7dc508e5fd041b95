"""Determine why a pod does not run its job yet, by a chain of checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs_operator.core.objects.api_objects import (
    Container,
    ContainerKind,
    Pod,
    Running,
    Terminated,
    Waiting,
    WarningEvent,
)
from spoke_jobs_operator.core.objects.read_objects import MOUNT_WARNINGS, PULL_SECRET_WARNING, SIDECAR_WARNINGS

from .pod_end import CANNOT_RUN, SAID_LIMIT, said_at_end
from .refusals import is_race, is_webhook_away, quota_wait
from .runtime_trouble import is_runtime_trouble
from .scheduler_message import FITS_NOWHERE, no_node, shortage

INIT_PATIENCE = timedelta(seconds=10)
"""An init container that runs for less than this time is not worth a status write."""

_IMAGE_REASONS = {
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
    "SignatureValidationFailed", "InvalidImageName",
}  # fmt: skip
_WAITING_CAUSES: dict[str, str] = {
    **dict.fromkeys(_IMAGE_REASONS, Cause.IMAGE_UNAVAILABLE),
    "CreateContainerConfigError": Cause.CONTAINER_CONFIG_ERROR,
    "CreateContainerError": Cause.CONTAINER_CANNOT_RUN,
    **dict.fromkeys(CANNOT_RUN, Cause.CONTAINER_CANNOT_RUN),
}
_HOPELESS = {"InvalidImageName"}
_REGISTRY_AWAY = re.compile(
    r"connection refused|connection reset|i/o timeout|TLS handshake timeout|deadline exceeded|unexpected EOF"
    r"|no route to host|network is unreachable|\b(429|50[0-4]) [A-Z]"
)
"""What container runtimes say of a registry that does not answer. The text for a host name that is not found is left
out, since such a name is usually mistyped."""
_CONFIG_MISSING = re.compile(r"\b(?:secret|configmap)s? .*not found|non-existent (?:secret|config)", re.IGNORECASE)
_CLAIM_MISSING = re.compile(r'persistentvolumeclaims? "([^"]+)" not found', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a pod does not run its job yet."""

    reason: str
    """A Cause if somebody has to fix something; else a WaitReason."""
    message: str = ""
    """Kubernetes' message."""
    object: str = ""
    """What the obstacle concerns: a container other than the job's, a volume claim, a scheduling gate."""
    since: datetime | None = None
    hopeless: bool = False
    """Whether the obstacle can't go away while the attempt waits."""
    check_at: datetime | None = None
    """When to look again, even if nothing changes."""


def obstacle(pod: Pod | None, events: Sequence[WarningEvent], now: datetime) -> Obstacle:
    """Return the first obstacle that :data:`CHECKS` finds. Without one, the pod is just starting."""
    pull_secret = [item for item in events if item.reason == PULL_SECRET_WARNING]
    newest = _newest([item for item in events if item not in pull_secret])
    if pod is None:
        return _is_not_created(newest.message if newest is not None and newest.kind == "Job" else "")
    warning = newest if newest is not None and newest.about == pod.meta.uid else None
    for check in CHECKS:
        if (found := check(pod, warning, now)) is not None:
            return _with_pull_secret(found, _newest([item for item in pull_secret if item.about == pod.meta.uid]))
    return Obstacle(WaitReason.POD_PENDING)


def _newest(events: Sequence[WarningEvent]) -> WarningEvent | None:
    return max(events, key=lambda item: item.meta.resource_version, default=None)


def _with_pull_secret(found: Obstacle, event: WarningEvent | None) -> Obstacle:
    """Add the pull Secret that the kubelet could not read to what it says of the image."""
    if event is None or found.reason != Cause.IMAGE_UNAVAILABLE:
        return found
    # First, since messages are cut. The rest of the Event's message says that a pull without it may not succeed.
    return replace(found, message=f"{event.message.partition(';')[0]}; {found.message}")


def _is_not_created(message: str) -> Obstacle:
    """Return why there is no pod, from the Job controller's newest message; empty for none."""
    if not message or is_race(message):
        return Obstacle(WaitReason.POD_PENDING)
    if is_webhook_away(message):
        return Obstacle(WaitReason.WEBHOOK_AWAY, message)
    if (wait := quota_wait(message)) is not None:
        return Obstacle(WaitReason.QUOTA_EXCEEDED, message, wait.object)
    return Obstacle(Cause.POD_REJECTED, message)


def _is_gated(pod: Pod, _warning: WarningEvent | None, _now: datetime) -> Obstacle | None:
    if not pod.gates or pod.node:
        return None
    return Obstacle(WaitReason.SCHEDULING_GATED, object=", ".join(pod.gates))


def _has_no_node(pod: Pod, _warning: WarningEvent | None, _now: datetime) -> Obstacle | None:
    if not pod.unschedulable:
        return None
    reason, about = no_node(pod.unschedulable)
    if reason in FITS_NOWHERE and shortage(pod.unschedulable):
        return Obstacle(WaitReason.CLUSTER_FULL, pod.unschedulable)
    return Obstacle(reason, pod.unschedulable, about)


def _container_cannot_start(pod: Pod, _warning: WarningEvent | None, _now: datetime) -> Obstacle | None:
    """Find a container that can't start and that the job needs: an init container, a sidecar, or the job's own."""
    needed = (item for item in pod.containers if item.is_jobs or _comes_first(item))
    return next((found for item in needed if (found := _stuck(item))), None)


def _sidecar_restarts(pod: Pod, warning: WarningEvent | None, _now: datetime) -> Obstacle | None:
    """Find a sidecar that ends again and again, so that the job's container is not started."""
    for item in pod.containers:
        # In a pod that is not restarted, the kubelet may report the last end as the current state.
        end = item.state if isinstance(item.state, Terminated) else item.last_end
        if item.kind is ContainerKind.SIDECAR and end and not (_runs(item) and item.started):
            text = "; ".join(filter(None, (said_at_end(item.name, end), _said_of_start(item, warning))))
            return Obstacle(Cause.INIT_FAILED, f"{text}; the kubelet restarts it", item.name)
    return None


def _is_not_mounted(pod: Pod, warning: WarningEvent | None, _now: datetime) -> Obstacle | None:
    if warning is None or pod.mounted or warning.reason in SIDECAR_WARNINGS:
        return None
    if warning.reason not in MOUNT_WARNINGS:
        return Obstacle(WaitReason.SANDBOX_FAILED, warning.message)
    if claim := _CLAIM_MISSING.search(warning.message):
        return Obstacle(Cause.VOLUME_CLAIM_MISSING, warning.message, claim[1])
    missing = _CONFIG_MISSING.search(warning.message)
    return Obstacle(Cause.CONTAINER_CONFIG_ERROR if missing else Cause.VOLUME_NOT_MOUNTED, warning.message)


def _init_runs(pod: Pod, warning: WarningEvent | None, now: datetime) -> Obstacle | None:
    for item in pod.containers:
        waits_for_it = item.kind is ContainerKind.INIT or (item.kind is ContainerKind.SIDECAR and not item.started)
        if waits_for_it and isinstance(item.state, Running) and (since := item.state.since):
            if now >= since + INIT_PATIENCE:
                is_init = item.kind is ContainerKind.INIT
                reason = WaitReason.INIT_RUNNING if is_init else WaitReason.SIDECAR_STARTING
                return Obstacle(reason, _said_of_start(item, warning), item.name, since)
            return Obstacle(WaitReason.POD_PENDING, check_at=since + INIT_PATIENCE)
    return None


def _other_cannot_start(pod: Pod, _warning: WarningEvent | None, _now: datetime) -> Obstacle | None:
    """Find a container that can't start and that the job's container does not need."""
    others = (item for item in pod.containers if item.kind is ContainerKind.MAIN and not item.is_jobs)
    stuck = next((found for item in others if (found := _stuck(item))), None)
    return Obstacle(stuck.reason, stuck.message, stuck.object) if stuck else None


CHECKS = (
    _is_gated,
    _has_no_node,
    _container_cannot_start,
    _sidecar_restarts,
    _is_not_mounted,
    _init_runs,
    _other_cannot_start,
)


def _comes_first(container: Container) -> bool:
    return container.kind in (ContainerKind.INIT, ContainerKind.SIDECAR)


def _said_of_start(container: Container, warning: WarningEvent | None) -> str:
    """Return what the kubelet says of a sidecar that does not start; empty for nothing.

    The message about a probe ends with a colon if the probe's command has no output.
    """
    if warning is None or warning.reason not in SIDECAR_WARNINGS or warning.container != container.name:
        return ""
    return " ".join(warning.message.split()).rstrip(":")[:SAID_LIMIT]


def _runs(container: Container) -> bool:
    return isinstance(container.state, Running)


def _stuck(container: Container) -> Obstacle | None:
    """Return why a container can't start, if the kubelet says so."""
    state = container.state
    if not isinstance(state, Waiting) or state.reason not in _WAITING_CAUSES:
        return None
    reason, message = _WAITING_CAUSES[state.reason], state.message
    if reason == Cause.IMAGE_UNAVAILABLE and _REGISTRY_AWAY.search(message):
        reason = WaitReason.REGISTRY_AWAY
    if reason == Cause.CONTAINER_CANNOT_RUN and is_runtime_trouble(message):
        reason = Cause.CONTAINER_RUNTIME_FAILED
    if state.reason in _IMAGE_REASONS and container.image not in message:
        message = f'image "{container.image}": {message or state.reason}'
    name = "" if container.is_jobs else container.name
    return Obstacle(reason, message or state.reason, name, hopeless=state.reason in _HOPELESS)
