"""What a job can lack in its pod template: shared by those that never get it and those that get it late."""

from __future__ import annotations

from tests.integration.operator.conftest import Object


def secret_variable(secret: str) -> Object:
    return {"envFrom": [{"secretRef": {"name": secret}}]}


def secret_volume(secret: str) -> tuple[Object, Object]:
    """Of the pod, and of the container."""
    volume = {"name": "keys", "secret": {"secretName": secret}}
    return {"volumes": [volume]}, {"volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}


PRIVILEGED = {"securityContext": {"privileged": True, "allowPrivilegeEscalation": True}}
MUCH_CPU = {"resources": {"requests": {"cpu": "600m"}}}
NO_IMAGE = "registry.invalid/nobody/nothing:1"
