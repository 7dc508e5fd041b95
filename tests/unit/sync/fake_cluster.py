"""The SpokeJobs of a namespace, as sync's client shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spoke_jobs.cluster.cluster_client import Body
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.names import ANNOTATION_SUSPENDED_BY, MANAGER_SYNC
from spoke_jobs.shared.api_errors import NotFound
from spoke_jobs.shared.object_fields import Page


class FakeCluster:
    """Holds the SpokeJobs by name. There are no pods and no PodTemplates. SpokeLimits are accepted, and not kept."""

    namespace = "jobs"

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.version = 1

    def pages(self) -> Iterator[Page]:
        yield Page(list(self.objects.values()), str(self.version))

    def list_objects(self, kind: Kind, labels: Mapping[str, str]) -> Iterator[Body]:
        return iter(())

    def create_object(self, kind: Kind, name: str, labels: Mapping[str, str], spec: Body) -> Body:
        return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": dict(labels)}, "spec": spec}

    def get(self, name: str) -> Body | None:
        return self.objects.get(name)

    def pod_template(self, name: str) -> Body | None:
        return None

    def create(self, body: Body) -> Body:
        name = body["metadata"]["name"]
        self.put(body | {"metadata": body["metadata"] | {"uid": f"uid-{name}"}})
        return self.objects[name]

    def put(self, body: Body, **status: Any) -> None:
        self.version += 1
        metadata = body["metadata"] | {"resourceVersion": str(self.version)}
        self.objects[metadata["name"]] = body | {"metadata": metadata, "status": body.get("status", {}) | status}

    def apply_status(self, name: str, uid: str, resource_version: str, status: Body) -> Body:
        self.put(self.objects[name], **status)
        return self.objects[name]

    def cancel(self, name: str, uid: str) -> Body:
        raise NotFound(404, "NotFound", name, name)

    def change_start(self, name: str, uid: str, priority: int | None, suspend: bool | None) -> Body:
        body = self.objects[name]
        given = {"priority": priority, "suspend": suspend}
        metadata = body["metadata"]
        if suspend is not None:
            metadata = metadata | {"annotations": {ANNOTATION_SUSPENDED_BY: MANAGER_SYNC} if suspend else {}}
        spec = body["spec"] | {field: value for field, value in given.items() if value is not None}
        self.put(body | {"metadata": metadata, "spec": spec})
        return self.objects[name]

    def ask(self, path: str) -> Body:
        raise NotFound(404, "NotFound", path)
