"""A small model of an API server with its Job controller, kubelet and garbage collector, and a client of it.

It moves only when told to, so that a test can put anything between any two steps. Its client can be told to fail, or
to end the operator, before or after each call's effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from spoke_jobs.contract.api_errors import api_error
from spoke_jobs.contract.names import CONTAINER, LABEL_SPOKEJOB
from spoke_jobs.contract.spokejob import SpokeJobStatus
from spoke_jobs_operator.core.api_objects import Key
from spoke_jobs_operator.shell.operator_client import Kind, Listing, Page

NAMESPACE = "jobs"
NAME = "import-contacts-7-0a1b2c3d"
TEMPLATE = "default"
START = datetime(2026, 1, 1, tzinfo=UTC)
GRACE = 30
PLURALS = {Kind.SPOKEJOB: "spokejobs", Kind.JOB: "jobs", Kind.POD: "pods", Kind.TEMPLATE: "podtemplates"}

Object = dict[str, Any]


class Fault(Enum):
    """What goes wrong with one call."""

    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"


class Crash(BaseException):
    """The operator's process is gone."""


class World:
    """The cluster: one SpokeJob and what belongs to it."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self._version = 100
        self._uids = 0
        self.objects: dict[Kind, dict[str, Object]] = {kind: {} for kind in Kind}
        self.news: list[tuple[str, Object, bool]] = []
        self.created: list[tuple[str, str]] = []
        """Name and uid of each Job ever made."""
        self.writes: list[str] = []
        self.refuse_jobs: tuple[int, str] | None = None
        self.pruned: set[str] = set()
        """Fields of the status that the installed CRD doesn't know."""
        self.silent_nodes = False
        """Nodes don't answer: pods neither end nor go, but for their names in the API."""
        self.sidecars = False
        """Pods hold a second container, which runs on when the job's has ended."""
        self.put_template()
        self.put_spokejob(**spec)

    def listed(self) -> list[tuple[str, Object, bool]]:
        """What streams begin with: each object there is."""
        return [
            (plural, deepcopy(body), False) for kind, plural in PLURALS.items() for body in self.objects[kind].values()
        ]

    def put_spokejob(self, name: str = NAME, **spec: Any) -> None:
        self._store(
            Kind.SPOKEJOB,
            self._new(name, generation=1)
            | {
                "spec": {
                    "uid": "0a1b2c3d-0000-4000-8000-000000000000",
                    "requestId": 7,
                    "jobType": "import contacts",
                    "podTemplate": TEMPLATE,
                }
                | spec
            },
        )

    def put_template(
        self, *, allowed: bool = True, container: str = CONTAINER, kueue: str = "", image: str = "app:1"
    ) -> None:
        labels = {"jobs.spoke.dev/template": "true"} if allowed else {}
        labels |= {"kueue.x-k8s.io/queue-name": kueue} if kueue else {}
        template = {"spec": {"containers": [{"name": container, "image": image}]}}
        body = self._new(TEMPLATE, labels=labels, generation=1) | {"template": template}
        if old := self.objects[Kind.TEMPLATE].get(TEMPLATE):
            body["metadata"]["uid"] = old["metadata"]["uid"]
            body["metadata"]["generation"] = old["metadata"]["generation"] + (old["template"] != template)
        self._store(Kind.TEMPLATE, body)

    @property
    def spokejob(self) -> Object:
        return self.objects[Kind.SPOKEJOB][NAME]

    @property
    def status(self) -> Object:
        status: Object = self.spokejob.get("status", {})
        return status

    @property
    def jobs(self) -> list[Object]:
        return list(self.objects[Kind.JOB].values())

    @property
    def pods(self) -> list[Object]:
        return list(self.objects[Kind.POD].values())

    def live_jobs(self) -> list[Object]:
        return [job for job in self.jobs if not finished(job) and "deletionTimestamp" not in job["metadata"]]

    def running_jobs(self) -> list[Object]:
        """Live ones of which something runs, or is to come: its controller may not have heard yet that it ended."""
        owned: dict[str, list[Object]] = {}
        for pod in self.pods:
            owned.setdefault(pod["metadata"]["ownerReferences"][0]["uid"], []).append(pod)
        jobs = [(job, owned.get(job["metadata"]["uid"], [])) for job in self.live_jobs()]
        return [job for job, pods in jobs if not pods or not all(map(ended, pods))]

    def live_pods(self) -> list[Object]:
        return [pod for pod in self.pods if not ended(pod)]

    # What people and other programs do

    def change(self, kind: Kind, name: str, change: Mapping[str, Any], *, under: str) -> None:
        body = deepcopy(self.objects[kind][name])
        body[under] = {**body.get(under, {}), **change}
        self._store(kind, body)

    def set_ledger(self, state: str) -> None:
        self.change(Kind.SPOKEJOB, NAME, {"ledger": state}, under="status")

    def delete(self, kind: Kind, name: str, *, graceful: bool = False, foreground: bool = False) -> None:
        body = self.objects[kind].get(name)
        if body is None:
            return
        if graceful or foreground:
            if "deletionTimestamp" in body["metadata"]:
                return
            grace = GRACE if graceful else 0
            mark = {"deletionTimestamp": stamp(self.now + timedelta(seconds=grace))}
            self.change(kind, name, mark | {"deletionGracePeriodSeconds": grace}, under="metadata")
            return
        del self.objects[kind][name]
        self._version += 1
        last = deepcopy(body)
        last["metadata"]["resourceVersion"] = str(self._version)
        self.news.append((PLURALS[kind], last, True))

    # What the cluster does of itself

    def job_controller(self) -> None:
        """Make each Job's pod, and take note of how it ended."""
        for job in self.jobs:
            name = job["metadata"]["name"]
            own = [pod for pod in self.pods if pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]]
            if finished(job):
                continue
            if job["spec"].get("suspend"):
                for pod in own:
                    self.delete(Kind.POD, pod["metadata"]["name"], graceful=True)
                continue
            if "deletionTimestamp" not in job["metadata"] and not own and not job.get("status", {}).get("started"):
                self._make_pod(job)
                self.change(Kind.JOB, name, {"started": True}, under="status")
            elif job.get("status", {}).get("started"):
                phases = {pod["status"]["phase"] for pod in own}
                if "Succeeded" in phases:
                    self._condition(name, "Complete")
                elif not own or "Failed" in phases:
                    self._condition(name, "Failed")

    def garbage_collector(self) -> None:
        """Delete pods whose Job goes or is gone, and Jobs that waited for their pods."""
        uids = {job["metadata"]["uid"]: job for job in self.jobs}
        for pod in self.pods:
            job = uids.get(pod["metadata"]["ownerReferences"][0]["uid"])
            if job is None or "deletionTimestamp" in job["metadata"]:
                if ended(pod):
                    self.delete(Kind.POD, pod["metadata"]["name"])
                else:
                    self.delete(Kind.POD, pod["metadata"]["name"], graceful=True)
        for uid, job in uids.items():
            left = [pod for pod in self.pods if pod["metadata"]["ownerReferences"][0]["uid"] == uid]
            if "deletionTimestamp" in job["metadata"] and not left:
                self.delete(Kind.JOB, job["metadata"]["name"])

    def kubelet(self, exit_code: int | None = None, *, reason: str = "", message: str = "") -> None:
        """Start pods that wait; end those that run, with the given exit code; end those that are being deleted."""
        if self.silent_nodes:
            return
        for pod in self.pods:
            if ended(pod):
                if "deletionTimestamp" in pod["metadata"]:
                    self.delete(Kind.POD, pod["metadata"]["name"])
                continue
            deleted = "deletionTimestamp" in pod["metadata"]
            state = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
            if deleted:
                code = 14 if "running" in state else 137
                self._pod_state(pod, "Failed", state if "terminated" in state else exited(code))
            elif "terminated" in state:
                continue
            elif "running" not in state:
                self._pod_state(pod, "Running", {"running": {"startedAt": stamp(self.now)}})
            elif exit_code is not None:
                self._end_pod(pod, exit_code, reason, message)

    def container_waits(self, reason: str) -> None:
        """Pods that don't run yet can't, for this reason."""
        for pod in self.pods:
            if pod["status"]["phase"] == "Pending":
                self._pod_state(pod, "Pending", {"waiting": {"reason": reason, "message": f"{reason}!"}})

    def _end_pod(self, pod: Object, code: int, reason: str, message: str) -> None:
        phase = "Running" if self.sidecars else "Failed" if code else "Succeeded"
        self._pod_state(pod, phase, exited(code, reason, message))

    def _pod_state(self, pod: Object, phase: str, state: Object) -> None:
        statuses = [{"name": CONTAINER, "state": state}]
        self.change(Kind.POD, pod["metadata"]["name"], {"phase": phase, "containerStatuses": statuses}, under="status")

    def _make_pod(self, job: Object) -> None:
        template = job["spec"]["template"]["metadata"]
        name = f"{job['metadata']['name']}-{self._uids}"
        body = self._new(name, labels=template["labels"])
        body["metadata"]["ownerReferences"] = [{"uid": job["metadata"]["uid"], "controller": True}]
        self._store(Kind.POD, body | {"spec": {"nodeName": "node-1"}, "status": {"phase": "Pending"}})

    def _condition(self, name: str, kind: str) -> None:
        self.change(Kind.JOB, name, {"conditions": [{"type": kind, "status": "True", "reason": "X"}]}, under="status")

    def _new(self, name: str, *, labels: Mapping[str, str] | None = None, generation: int = 0) -> Object:
        self._uids += 1
        return {
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-{self._uids}",
                "generation": generation,
                "creationTimestamp": stamp(self.now),
                "labels": dict(labels or {}),
            }
        }

    def _store(self, kind: Kind, body: Object) -> Object:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[kind][body["metadata"]["name"]] = body
        self.news.append((PLURALS[kind], deepcopy(body), False))
        return body

    @property
    def version(self) -> int:
        return self._version


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
            yield Page(items, self.world.version)

        return Listing(namespace, pages())

    async def create_job(self, namespace: str, body: Mapping[str, Any]) -> Object:
        world, fault = self.world, self._begin()
        name = body["metadata"]["name"]
        if world.refuse_jobs:
            status, message = world.refuse_jobs
            raise api_error(status, "Refused", message)
        if name in world.objects[Kind.JOB]:
            raise api_error(409, "AlreadyExists", name)
        job = world._new(name, labels=body["metadata"]["labels"])
        job["metadata"] |= {key: body["metadata"][key] for key in ("ownerReferences", "annotations")}
        job = world._store(Kind.JOB, job | {"spec": deepcopy(dict(body["spec"]))})
        world.created.append((name, job["metadata"]["uid"]))
        world.writes.append(f"create {name}")
        self._end(fault)
        return deepcopy(job)

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
        kept = {name: value for name, value in body.get("status", {}).items() if name in ("progress", "ledger")}
        ours = {name: value for name, value in ours.items() if name not in world.pruned}
        world.writes.append("status")
        if ours | kept != body.get("status"):
            body = world._store(Kind.SPOKEJOB, {**body, "status": ours | kept})
        self._end(fault)
        return deepcopy(body)


def exited(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def finished(job: Object) -> bool:
    return any(item["type"] in ("Complete", "Failed") for item in job.get("status", {}).get("conditions", ()))


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
