"""Whether this process is in a pod, which namespace and credentials it has, and whose they can be.

This module does not import the Kubernetes client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Account(StrEnum):
    """An account that has rights in the cluster. Its value is a `Role` of the table of kinds."""

    RUNNER = "runner"
    """A process that dispatches jobs."""
    SYNC = "sync"
    """`spoke-jobs sync`."""
    READER = "reader"
    """A person who uses `why`, `show` and `logs`; also the dashboard."""


def namespace(configured: str, folder: Path = _SERVICE_ACCOUNT) -> str:
    """Return the namespace of the SpokeJobs: the configured one, else the pod's own; empty if neither is known."""
    if configured:
        return configured
    try:
        return (folder / "namespace").read_text().strip()
    except OSError:
        return ""


def has_credentials(environment: Mapping[str, str] = os.environ, folder: Path = _SERVICE_ACCOUNT) -> bool:
    """Whether there are credentials: a kubeconfig, or a pod's service-account token."""
    if environment.get("KUBECONFIG"):
        return True
    if in_cluster(environment):
        return (folder / "token").exists()
    return (Path.home() / ".kube" / "config").exists()


def in_cluster(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to use the pod's service account: in a pod, unless KUBECONFIG is set."""
    return bool(environment.get("KUBERNETES_SERVICE_HOST")) and not environment.get("KUBECONFIG")
