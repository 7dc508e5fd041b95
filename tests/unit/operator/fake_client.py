"""A client of the modelled API server.

It can be told to fail, or to end the operator, before or after each call's effect.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from enum import Enum
from typing import Any

from tests.unit.operator.world import (
    Object,
    World,
)

from spoke_jobs.contract.custom_resources.spokejob import SpokeJobStatus
from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.shared.clean_text import is_storable
from spoke_jobs.shared.object_fields import Page
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind, Listing


class Fault(Enum):
    """What goes wrong with one call."""

    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"


class Crash(BaseException):
    """The operator's process is gone."""


class FakeClient:
    """The calls that the controller and the comparison make of :class:`Client`, on the model."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults: list[Fault | None] = []
        """What goes wrong with the next calls, in order."""
        self.read_names: list[str] = []

    def _begin(self) -> Fault | None:
        fault = self.faults.pop(0) if self.faults else None
        if fault is Fault.ERROR_BEFORE:
            raise api_error(500, "InternalError", "before")
        if fault is Fault.CRASH_BEFORE:
            raise Crash
        return fault

    @staticmethod
    def _end(fault: Fault | None) -> None:
        if fault is Fault.ERROR_AFTER:
            raise api_error(0, "NoAnswer", "after")
        if fault is Fault.CRASH_AFTER:
            raise Crash

    async def read(self, kind: Kind, key: Key) -> Object | None:
        self._end(self._begin())
        self.read_names.append(key.name)
        return deepcopy(self.world.objects[kind].get(key.name))

    def listing(self, kind: Kind, namespace: str | None, *, labels: str = "", fields: str = "") -> Listing:
        async def pages() -> AsyncIterator[Page]:
            self._end(self._begin())
            items = [deepcopy(item) for item in self.world.objects[kind].values()]
            if labels.startswith(f"{LABEL_SPOKEJOB}="):
                wanted = labels.partition("=")[2]
                items = [item for item in items if item["metadata"]["labels"].get(LABEL_SPOKEJOB) == wanted]
            if fields:
                items = [i for i in items if i.get("status", {}).get("outcome") not in ("Succeeded", "Failed")]
            yield Page(items, str(self.world.version))

        return Listing(namespace, pages())

    async def create_job(self, namespace: str, body: Mapping[str, Any]) -> Object:
        world, fault = self.world, self._begin()
        name = body["metadata"]["name"]
        labels = body["metadata"]["labels"]
        if world.refuse_jobs and world.refused_type in (None, labels.get("jobs.spoke.dev/type", "none yet")):
            status, message = world.refuse_jobs
            world.jobs_refused += 1
            raise api_error(status, "Refused", message)
        if name in world.objects[Kind.JOB]:
            raise api_error(409, "AlreadyExists", name)
        used = sum(1 for item in world.jobs if item["metadata"]["namespace"] == namespace)
        if world.job_quota is not None and used >= world.job_quota:
            what = "count/jobs.batch"
            amounts = f"requested: {what}=1, used: {what}={used}, limited: {what}={world.job_quota}"
            message = f'jobs.batch "{name}" is forbidden: exceeded quota: few-jobs, {amounts}'
            raise api_error(403, "Forbidden", message)
        job = world._new(name, labels=body["metadata"]["labels"], namespace=namespace)
        job["metadata"] |= {key: body["metadata"][key] for key in ("ownerReferences", "annotations")}
        job = world._store(Kind.JOB, job | {"spec": deepcopy(dict(body["spec"]))})
        world.created.append((name, job["metadata"]["uid"]))
        world.writes.append(f"create {name}")
        self._end(fault)
        return deepcopy(job)

    async def patch_metadata(self, kind: Kind, key: Key, metadata: Mapping[str, Any]) -> Object:
        world, fault = self.world, self._begin()
        body = world.objects[kind].get(key.name)
        if body is None:
            raise api_error(404, "NotFound", key.name)
        known = body["metadata"]
        if metadata["uid"] != known["uid"] or metadata.get("resourceVersion") not in (None, known["resourceVersion"]):
            raise api_error(409, "Conflict", "stale")
        if world.refuses_patches is kind:
            raise api_error(403, "Forbidden", "no right to patch")
        merged = {
            name: {**known.get(name, {}), **metadata[name]} for name in ("labels", "annotations") if name in metadata
        }
        merged |= {name: metadata[name] for name in ("ownerReferences",) if name in metadata}
        world.change(kind, key.name, merged, under="metadata")
        world.writes.append(f"patch {key.name}")
        self._end(fault)
        return deepcopy(world.objects[kind][key.name])

    def may_write(self) -> bool:
        """Whether the operator leads."""
        return True

    async def delete_job(self, key: Key, uid: str, resource_version: str, *, wait_for_pods: bool) -> Object | None:
        world, fault = self.world, self._begin()
        job = world.objects[Kind.JOB].get(key.name)
        if job is None:
            return None
        if (job["metadata"]["uid"], job["metadata"]["resourceVersion"]) != (uid, resource_version):
            raise api_error(409, "Conflict", "stale")
        world.delete(Kind.JOB, key.name, foreground=wait_for_pods)
        world.writes.append(f"delete {key.name}")
        self._end(fault)
        job = world.objects[Kind.JOB].get(key.name)
        return {"kind": "Job"} | deepcopy(job) if job else {"kind": "Status"}

    async def delete_spokejob(self, key: Key, uid: str, resource_version: str) -> None:
        fault = self._begin()
        self.world.delete(Kind.SPOKEJOB, key.name)
        self.world.writes.append("delete spokejob")
        self._end(fault)

    async def apply_status(self, key: Key, uid: str, resource_version: str, status: SpokeJobStatus) -> Object:
        world, fault = self.world, self._begin()
        body = deepcopy(world.objects[Kind.SPOKEJOB].get(key.name))
        if body is None:
            raise api_error(404, "NotFound", key.name)
        if (body["metadata"]["uid"], body["metadata"]["resourceVersion"]) != (uid, resource_version):
            raise api_error(409, "Conflict", "stale")
        ours = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"progress", "ledger"})
        if not is_storable(json.dumps(ours, ensure_ascii=False)):
            raise api_error(400, "BadRequest", "the body can't be read")  # as the real one does
        kept = {name: value for name, value in body.get("status", {}).items() if name in ("progress", "ledger")}
        ours = {name: value for name, value in ours.items() if name not in world.pruned}
        world.writes.append("status")
        if ours | kept != body.get("status"):
            body = world._store(Kind.SPOKEJOB, {**body, "status": ours | kept})
        self._end(fault)
        return deepcopy(body)

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        self.world.events.append(dict(body))

    async def count_event(self, key: Key, series: Mapping[str, Any]) -> None:
        raise AssertionError("nothing in the model is repeated within an hour")
