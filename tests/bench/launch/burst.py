"""Many at once on nodes that only pretend: until the last Job is there, and until the last one has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from dataclasses import dataclass

from tests.bench.launch import usage
from tests.bench.launch.api import Api, Object, Submission, all_of, connected
from tests.bench.launch.textbook import GROUP, PLURAL, VERSION

PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Burst:
    """Seconds from the first submission, and what they were spent on."""

    submitted: float
    created: float
    finished: float
    seconds: dict[str, float]
    """Of processors, by process."""
    calls: dict[str, float]
    """Of the API server, by kind."""


def template() -> Object:
    """The PodTemplate of all three."""
    return {
        "metadata": {"name": "kwok", "labels": {"jobs.spoke.dev/template": "true"}},
        "template": {
            "spec": {
                "nodeSelector": {"type": "fake"},
                "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        "name": "job",
                        "image": "none",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            }
        },
    }


def measure(kind: str, namespace: str, count: int, operator: int | None = None) -> Burst:
    """Submit so many of that kind (`spoke-jobs`, `plain`, `textbook`) and watch them.

    :param operator: its process, if there is one.
    """
    return asyncio.run(_measure(kind, namespace, count, operator))


async def _measure(kind: str, namespace: str, count: int, operator: int | None) -> Burst:
    named = {os.getpid(): usage.CALLERS} | ({operator: usage.OPERATOR} if operator else {})
    async with connected() as api:
        await api.call("POST", f"/api/v1/namespaces/{namespace}/podtemplates", template())
        seen = _Seen(kind)
        jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        own = {"spoke-jobs": _spokejobs(namespace), "textbook": _textbook(namespace), "plain": jobs}[kind]
        watches = [asyncio.create_task(seen.watch(api, path)) for path in {jobs, own}]
        await asyncio.sleep(1)  # both have begun by then: what comes after is what is measured
        calls, seconds = usage.calls(await api.text("/metrics")), usage.processor_seconds(named)
        began = time.time()
        await all_of([_submission(api, own, kind, number) for number in range(count)])
        submitted = time.time()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(seen.finished) < count or len(seen.created) < count:
            if time.monotonic() > deadline or any(task.done() for task in watches):
                raise TimeoutError(f"{kind}: of {count} {len(seen.created)} are created, {len(seen.finished)} finished")
            await asyncio.sleep(0.1)
        seconds = usage.since(seconds, usage.processor_seconds(named))
        calls = usage.since(calls, usage.calls(await api.text("/metrics")))
        for task in watches:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        created, finished = max(seen.created.values()), max(seen.finished.values())
        return Burst(submitted - began, created - began, finished - began, seconds, calls)


class _Seen:
    """When each was first seen, and first seen to have ended."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.created: dict[str, float] = {}
        self.finished: dict[str, float] = {}

    async def watch(self, api: Api, path: str) -> None:
        """Until cancelled."""
        async for at, _, body in api.watch(path):
            name, status = body["metadata"]["name"], body.get("status", {})
            if body["kind"] == "Job":
                self.created.setdefault(name, at)
                done = self._kind == "plain" and "Complete" in [item["type"] for item in status.get("conditions", ())]
            else:
                done = status.get("outcome") == "Succeeded"
            if done:
                self.finished.setdefault(name, at)


def _spokejobs(namespace: str) -> str:
    return f"/apis/jobs.spoke.dev/v1/namespaces/{namespace}/spokejobs"


def _textbook(namespace: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"


def _submission(api: Api, path: str, kind: str, number: int) -> Submission:
    name = f"burst-{number}"
    if kind == "plain":
        spec = template()["template"]["spec"] | {"restartPolicy": "Never"}
        body: Object = {"spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 60, "template": {"spec": spec}}}
    elif kind == "textbook":
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TextbookJob", "spec": {}}
    else:
        uid = str(uuid.uuid4())
        spec = {"uid": uid, "requestId": number + 1, "jobType": "burst", "podTemplate": "kwok"}
        body = {"apiVersion": "jobs.spoke.dev/v1", "kind": "SpokeJob", "spec": spec}
    body["metadata"] = {"name": name}

    async def submit() -> None:
        await api.call("POST", path, body)

    return submit


def textbook_definition() -> Object:
    """The peer's CustomResourceDefinition."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "TextbookJob", "plural": PLURAL, "singular": "textbookjob"},
            "versions": [{"name": VERSION, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
