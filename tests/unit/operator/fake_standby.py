"""The standby pods of the model: what their processes answer to the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.unit.operator.world import World, ended

from spoke_jobs.contract.standby import (
    ANNOTATION_VERIFIER,
    LABEL_STANDBY,
    PodState,
    identity_of,
    proves,
    read_assignment,
)
from spoke_jobs_operator.shell.standby.pod_calls import PodCalls, Reply

if TYPE_CHECKING:
    from tests.unit.operator.fake_client import FakeClient


class FakeStandby(PodCalls):
    """The processes of the standby pods."""

    def __init__(self, world: World, *, keeps: bool = True) -> None:
        self.world = world
        world.is_idle = self.is_idle
        self.key = b"k" * 32
        """The operator's key."""
        self.client: FakeClient | None = None
        """Whose faults also concern the calls of pods."""
        self.taken: dict[str, dict[str, str]] = {}
        """The attempts by the UIDs of the pods that accepted them."""
        self.keeps = keeps
        """Whether the operator keeps standby pods."""
        self.silent = False
        """Whether the pods do not answer."""
        self.tells = 0
        """How often a pod was told of an attempt."""

    def is_idle(self, pod: dict[str, Any]) -> bool:
        """Whether a pod is a standby pod without an attempt."""
        metadata = pod["metadata"]
        return metadata["labels"].get(LABEL_STANDBY) == "true" and metadata["uid"] not in self.taken

    async def states(self, ips: Sequence[str]) -> list[PodState | None]:
        return [self._state_at(ip) for ip in ips]

    def _state_at(self, ip: str) -> PodState | None:
        pod = self._pod(ip)
        if pod is None or self.silent:
            return None
        return PodState.FREE if self.is_idle(pod) else PodState.ASSIGNED

    async def assign(self, ip: str, secret: str, body: bytes) -> Reply:
        assert self.client is not None
        fault = self.client._begin()
        self.tells += 1
        pod, variables = self._pod(ip), read_assignment(body)
        assert variables is not None
        if pod is None:
            return Reply.NOT_CONNECTED
        if self.silent:
            return Reply.NONE
        (owner,) = pod["metadata"]["ownerReferences"]
        job = next(item for item in self.world.jobs if item["metadata"]["uid"] == owner["uid"])
        assert proves(secret, job["metadata"]["annotations"][ANNOTATION_VERIFIER])
        if identity_of(self.taken.setdefault(pod["metadata"]["uid"], variables)) != identity_of(variables):
            return Reply.REFUSED
        self.client._end(fault)
        return Reply.ACCEPTED

    def _pod(self, ip: str) -> dict[str, Any] | None:
        """The pod with the address whose process answers."""
        for pod in self.world.pods:
            statuses = pod["status"].get("containerStatuses", [{}])
            if pod["status"]["podIP"] == ip and not ended(pod) and "running" in statuses[0].get("state", {}):
                return pod
        return None
