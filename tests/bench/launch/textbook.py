"""An operator as kopf's own tutorial has one: a handler makes the Job, another one follows its end.

The peer: `kopf run tests/bench/launch/textbook.py`. Its resource has the same template and one field of status.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import kopf
import kubernetes

GROUP, VERSION, PLURAL = "bench.spoke.dev", "v1", "textbookjobs"


@kopf.on.startup()
def configure(**_: Any) -> None:
    """The configuration of the cluster at hand."""
    kubernetes.config.load_config()


async def _call(function: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(function, *arguments))


@kopf.on.create(GROUP, VERSION, PLURAL)
async def create(name: str, namespace: str, **_: Any) -> dict[str, str]:
    """Make the Job of a new object."""
    batch, core = kubernetes.client.BatchV1Api(), kubernetes.client.CoreV1Api()
    template = await _call(core.read_namespaced_pod_template, "kwok", namespace)
    spec = template.template.spec
    spec.restart_policy = "Never"
    body: Any = {
        "metadata": {"name": name, "labels": {"textbook": "true"}},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 60, "template": {"spec": spec}},
    }
    kopf.adopt(body)
    await _call(batch.create_namespaced_job, namespace, body)
    return {"job": name}


@kopf.on.field("batch", "v1", "jobs", field="status.succeeded", labels={"textbook": "true"})
async def ended(name: str, namespace: str, new: int | None, **_: Any) -> None:
    """Tell the object that its Job has succeeded."""
    if new:
        custom = kubernetes.client.CustomObjectsApi()
        await _call(
            custom.patch_namespaced_custom_object, GROUP, VERSION, namespace, PLURAL, name,
            {"status": {"outcome": "Succeeded"}},
        )  # fmt: skip
