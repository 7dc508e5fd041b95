"""A small model of an API server with its Job controller, kubelet and garbage collector.

It moves only when told to, so that a test can put anything between any two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from spoke_jobs.contract.names import CONTAINER
from spoke_jobs_operator.shell.api.operator_client import Kind

NAMESPACE = "jobs"
NAME = "import-contacts-7-0a1b2c3d"
TEMPLATE = "default"
START = datetime(2026, 1, 1, tzinfo=UTC)
GRACE = 30
PLURALS = {
    Kind.SPOKEJOB: "spokejobs",
    Kind.JOB: "jobs",
    Kind.POD: "pods",
    Kind.TEMPLATE: "podtemplates",
    Kind.SPOKELIMIT: "spokelimits",
    Kind.NAMESPACE: "namespaces",
}
NO_ROOM = (
    "0/2 nodes are available: 1 Insufficient memory, 1 Too many pods. no new claims to deallocate, preemption: "
    "0/2 nodes are available: 2 No preemption victims found for incoming pod."
)
NO_CLAIM = '0/2 nodes are available: persistentvolumeclaim "data" not found.'
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}

Object = dict[str, Any]


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
        self.events: list[Object] = []
        """The Events (events.k8s.io) that were created."""
        self.refuse_jobs: tuple[int, str] | None = None
        self.refused_type: str | None = None
        """The job type whose Jobs are refused; None for all."""
        self.jobs_refused = 0
        """How many Jobs were refused because of that."""
        self.pruned: set[str] = set()
        """Fields of the status that the installed CRD doesn't know."""
        self.silent_nodes = False
        """Nodes don't answer: pods neither end nor go, but for their names in the API."""
        self.sidecars = False
        """Pods hold a second container, which runs on when the job's has ended."""
        self.room: int | None = None
        """How many pods the nodes have room for; None for any number, each scheduled as soon as it is made."""
        self.gated = False
        """Whether pods are made with a scheduling gate that nobody has removed."""
        self.claim_is_missing = False
        """Whether pods are not scheduled, because a PersistentVolumeClaim is missing."""
        self.init: str | int | None = None
        """What the kubelet's next pods' init container does: it "runs", or exits with this code; None without one."""
        self.starts_in_kubelet: int | None = None
        """How many pods the kubelet starts in one step; None for all."""
        self.quota: int | None = None
        """How many pods that have not ended a ResourceQuota allows in each namespace; None for any number."""
        self.job_quota: int | None = None
        """How many Jobs a ResourceQuota allows in each namespace; None for any number."""
        self.keeps_events = True
        """Whether the API server still has the Job controller's Events when somebody lists them."""
        self.refuses_patches: Kind | None = None
        """The kind of objects that the operator may not patch."""
        self.is_idle: Callable[[Object], bool] = lambda _pod: False
        """Whether a pod that runs waits for a job, so that it does not end."""
        self._refusals: dict[str, tuple[int, datetime]] = {}
        """By the Job's uid: how often its pod was refused, and when the Job controller tries again."""
        self._failed_creates: dict[str, Object] = {}
        self.put_template()
        self.put_spokejob(**spec)

    def listed(self) -> list[tuple[str, Object, bool]]:
        """What streams begin with: each object there is."""
        events = list(self._failed_creates.values()) if self.keeps_events else []
        return [
            (plural, deepcopy(body), False) for kind, plural in PLURALS.items() for body in self.objects[kind].values()
        ] + [("events", deepcopy(body), False) for body in events]

    def put_spokejob(self, name: str = NAME, namespace: str = NAMESPACE, **spec: Any) -> None:
        self._store(
            Kind.SPOKEJOB,
            self._new(name, generation=1, namespace=namespace)
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

    def put_limit(self, name: str, namespace: str = NAMESPACE, **spec: Any) -> None:
        """A SpokeLimit, or another version of it."""
        body = self._new(name, generation=1, namespace=namespace) | {"spec": spec}
        if old := self.objects[Kind.SPOKELIMIT].get(name):
            body["metadata"]["uid"] = old["metadata"]["uid"]
        self._store(Kind.SPOKELIMIT, body)

    def put_namespace(self, name: str, paused: str | None) -> None:
        """A Namespace, or another version of it."""
        body = self._new(name)
        body["metadata"]["annotations"] = {} if paused is None else {"jobs.spoke.dev/paused": paused}
        if old := self.objects[Kind.NAMESPACE].get(name):
            body["metadata"]["uid"] = old["metadata"]["uid"]
        self._store(Kind.NAMESPACE, body)

    def put_template(
        self,
        *,
        allowed: bool = True,
        container: str = CONTAINER,
        kueue: str = "",
        image: str = "app:1",
        name: str = TEMPLATE,
        namespace: str = NAMESPACE,
        annotations: Object | None = None,
    ) -> None:
        labels = {"jobs.spoke.dev/template": "true"} if allowed else {}
        labels |= {"kueue.x-k8s.io/queue-name": kueue} if kueue else {}
        template = {"spec": {"containers": [{"name": container, "image": image}]}}
        body = self._new(name, labels=labels, generation=1, namespace=namespace) | {"template": template}
        body["metadata"] |= {"annotations": annotations} if annotations else {}
        if old := self.objects[Kind.TEMPLATE].get(name):
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
                if self._quota_refuses(job):
                    continue
                self._make_pod(job)
                self.change(Kind.JOB, name, {"started": True}, under="status")
            elif job.get("status", {}).get("started"):
                phases = {pod["status"]["phase"] for pod in own}
                if "Succeeded" in phases:
                    self._condition(name, "Complete")
                elif not own or "Failed" in phases:
                    disrupted = "podFailurePolicy" in job["spec"] and any(map(is_disrupted, own))
                    self._condition(name, "Failed", "PodFailurePolicy" if disrupted else "BackoffLimitExceeded")

    def _quota_refuses(self, job: Object) -> bool:
        """Whether a quota refuses the Job's pod, or the Job controller does not try again yet."""
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        tries, again_at = self._refusals.get(uid, (0, self.now))
        if self.now < again_at:
            return True
        used = sum(1 for pod in self.live_pods() if pod["metadata"]["namespace"] == namespace)
        if self.quota is None or used < self.quota:
            return False
        self._refusals[uid] = tries + 1, self.now + timedelta(seconds=min(60, 2**tries))
        amounts = f"requested: pods=1, used: pods={used}, limited: pods={self.quota}"
        self.fails_to_create(job, f'Error creating: pods "x" is forbidden: exceeded quota: few, {amounts}')
        return True

    def fails_to_create(self, job: Object, message: str) -> None:
        """The Job controller reports why it can't create the Job's pod."""
        metadata = job["metadata"]
        about = {"kind": "Job", **{name: metadata[name] for name in ("namespace", "name", "uid")}}
        named = self._new(f"event-{metadata['name']}", namespace=metadata["namespace"])
        event = named | {"reason": "FailedCreate", "message": message}
        self._version += 1
        event["metadata"]["resourceVersion"] = str(self._version)
        self._failed_creates[metadata["uid"]] = event | {"involvedObject": about}
        self.news.append(("events", deepcopy(self._failed_creates[metadata["uid"]]), False))

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

    def scheduler(self) -> None:
        """Give pods a node while there is room, the oldest first; mark the others unschedulable."""
        if self.room is None:
            for pod in self.live_pods():
                self._schedule(pod)
            return
        free = self.room - sum(1 for pod in self.live_pods() if pod["spec"].get("nodeName"))
        for pod in self.live_pods():
            name = pod["metadata"]["name"]
            if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                continue
            if free > 0:
                free -= 1
                self.change(Kind.POD, name, {"nodeName": "node-1"}, under="spec")
                scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(self.now)}
                self.change(Kind.POD, name, {"conditions": [scheduled]}, under="status")
            elif not pod["status"].get("conditions"):
                self.change(Kind.POD, name, {"conditions": [unscheduled("Unschedulable", NO_ROOM)]}, under="status")

    def _schedule(self, pod: Object) -> None:
        """Give a pod a node, unless a gate or a missing claim prevents it."""
        name = pod["metadata"]["name"]
        if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
            return
        if self.gated and pod["spec"].get("schedulingGates"):
            return
        if pod["spec"].get("schedulingGates"):
            self.change(Kind.POD, name, {"schedulingGates": []}, under="spec")
        scheduled = unscheduled("Unschedulable", NO_CLAIM)
        if not self.claim_is_missing:
            scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(self.now)}
            self.change(Kind.POD, name, {"nodeName": "node-1"}, under="spec")
        if self.objects[Kind.POD][name]["status"].get("conditions") != [scheduled]:
            self.change(Kind.POD, name, {"conditions": [scheduled]}, under="status")

    def without_node(self) -> int:
        """How many Jobs or pods wait for a node. A Job whose pod a quota refuses has none that could."""
        pods = [pod for pod in self.live_pods() if not pod["spec"].get("nodeName")]
        jobs = [job for job in self.live_jobs() if not job.get("status", {}).get("started")]
        return len(pods) + sum(1 for job in jobs if job["metadata"]["uid"] not in self._refusals)

    def kubelet(
        self, exit_code: int | None = None, *, reason: str = "", message: str = "", ran: timedelta = timedelta()
    ) -> None:
        """Start pods that wait; end those that run, with the given exit code; end those that are being deleted.

        :param ran: only pods whose container has run for so long end.
        """
        if self.silent_nodes:
            return
        started = 0
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
            elif "terminated" in state or not pod["spec"].get("nodeName"):
                continue
            elif "running" not in state:
                started += 1
                if self.starts_in_kubelet is not None and started > self.starts_in_kubelet:
                    continue
                if self._init_prevents(pod):
                    continue
                self._pod_state(pod, "Running", {"running": {"startedAt": stamp(self.now)}})
            elif (
                exit_code is not None
                and not self.is_idle(pod)
                and datetime.fromisoformat(state["running"]["startedAt"]) + ran <= self.now
            ):
                self._end_pod(pod, exit_code, reason, message)

    def _init_prevents(self, pod: Object) -> bool:
        """Whether the pod's init container still runs or has failed, so that the job's container is not started."""
        if self.init is None:
            return False
        state = {"running": {"startedAt": stamp(self.now)}} if self.init == "runs" else exited(int(self.init))
        known = pod["status"].get("initContainerStatuses", [{}])[0].get("state", {})
        if self.init != "runs" or "running" not in known:
            statuses = [{"name": "setup", "state": state}]
            self.change(Kind.POD, pod["metadata"]["name"], {"initContainerStatuses": statuses}, under="status")
        if self.init not in ("runs", 0):
            self._pod_state(self.objects[Kind.POD][pod["metadata"]["name"]], "Failed", INITIALIZING)
        return self.init != 0

    def container_waits(self, reason: str, message: str = "") -> None:
        """Pods that don't run yet can't, for this reason."""
        for pod in self.pods:
            if pod["status"]["phase"] == "Pending":
                self._pod_state(pod, "Pending", {"waiting": {"reason": reason, "message": message or f"{reason}!"}})

    def _end_pod(self, pod: Object, code: int, reason: str, message: str) -> None:
        phase = "Running" if self.sidecars else "Failed" if code else "Succeeded"
        self._pod_state(pod, phase, exited(code, reason, message))

    def _pod_state(self, pod: Object, phase: str, state: Object) -> None:
        statuses = [{"name": CONTAINER, "state": state}]
        self.change(Kind.POD, pod["metadata"]["name"], {"phase": phase, "containerStatuses": statuses}, under="status")

    def _make_pod(self, job: Object) -> None:
        template = job["spec"]["template"]["metadata"]
        name = f"{job['metadata']['name']}-{self._uids}"
        body = self._new(name, labels=template["labels"], namespace=job["metadata"]["namespace"])
        body["metadata"]["ownerReferences"] = [{"uid": job["metadata"]["uid"], "controller": True}]
        spec: Object = {"initContainers": [{"name": "setup", "image": "setup:1"}]}
        status: Object = {"phase": "Pending", "podIP": f"10.0.{self._uids // 256}.{self._uids % 256}"}
        if self.gated:
            spec |= {"schedulingGates": [{"name": "example.org/quota"}]}
            status |= {"conditions": [unscheduled("SchedulingGated", "Scheduling is blocked due to non-empty gates")]}
        elif self.room is None and not self.claim_is_missing:
            spec |= {"nodeName": "node-1"}
        self._store(Kind.POD, body | {"spec": spec, "status": status})

    def _condition(self, name: str, kind: str, reason: str = "X") -> None:
        condition = {"type": kind, "status": "True", "reason": reason}
        self.change(Kind.JOB, name, {"conditions": [condition]}, under="status")

    def _new(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        generation: int = 0,
        namespace: str = NAMESPACE,
    ) -> Object:
        self._uids += 1
        return {
            "metadata": {
                "name": name,
                "namespace": namespace,
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


def unscheduled(reason: str, message: str) -> Object:
    return {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}


def exited(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def finished(job: Object) -> bool:
    return any(item["type"] in ("Complete", "Failed") for item in job.get("status", {}).get("conditions", ()))


def is_disrupted(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "DisruptionTarget" and item["status"] == "True" for item in conditions)


def ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
