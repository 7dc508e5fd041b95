"""One launch at a time: ours, a plain Job of the same image, and a plain Job of a shell; in shuffled order."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import kubernetes
from sqlalchemy.orm import Session
from tests.bench.launch.figures import OURS, PLAIN, SHELL
from tests.bench.launch.place import LAUNCH, until
from tests.e2e.conftest import Product

from spoke_jobs import JobData, Registry
from spoke_jobs.model import JobRequest
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

_CALLERS = 20
PROGRAM = ("python", "-c", "import launch_jobs; launch_jobs.plain(1)")


@dataclass
class Launches:
    """Seconds, launch by launch."""

    to_first_line: dict[str, list[float]] = field(default_factory=lambda: {OURS: [], PLAIN: [], SHELL: []})
    startup: list[float] = field(default_factory=list)
    """From the interpreter's start to the function's first line, of ours."""


def measure(product: Product, count: int, report: Callable[[str], None]) -> Launches:
    """So many of each kind."""
    launches = Launches()
    runner = product.runner(launch_registry())
    jobs = PlainJobs(product)
    order = [kind for kind in launches.to_first_line for _ in range(count)]
    random.Random(7).shuffle(order)
    _ours(product, runner, Launches())  # the first of each finds nothing warm
    jobs.launch(PLAIN)
    try:
        for number, kind in enumerate(order, 1):
            if kind == OURS:
                _ours(product, runner, launches)
            else:
                launches.to_first_line[kind].append(jobs.launch(kind))
            report(f"launch {number} of {len(order)}")
    finally:
        runner.close()
    return launches


def launch_registry() -> Registry:
    """The jobs of the image, for whoever dispatches them."""
    registry = Registry()
    for name in ("launch_first", "launch_short"):
        registry.job(name)(lambda _ctx, _payload: None)
    return registry


def first_line(product: Product, runner: KubernetesRunner, data: JobData) -> tuple[JobRequest, float]:
    """The row of a job that has ended, and the seconds from its commit until its first line."""
    with Session(product.engine) as session:
        job = runner.dispatch_job(data, session=session)
        committing = time.time()
        session.commit()
    row = product.ended(job)
    result: Any = row.result
    return row, result["first"] - committing


def _ours(product: Product, runner: KubernetesRunner, launches: Launches) -> None:
    row, seconds = first_line(product, runner, JobData("launch_first"))
    result: Any = row.result
    launches.to_first_line[OURS].append(seconds)
    launches.startup.append(result["first"] - result["began"])


class PlainJobs:
    """Jobs made by hand from the same PodTemplate, so that all but the command is the same."""

    def __init__(self, product: Product) -> None:
        template = product.get("podtemplate", "default")
        assert template
        self._spec: dict[str, Any] = template["template"]["spec"]
        self._product = product
        self._made = 0
        api = kubernetes.config.new_client_from_config(os.environ["KUBECONFIG"])
        self._batch, self._core = kubernetes.client.BatchV1Api(api), kubernetes.client.CoreV1Api(api)

    def launch(self, kind: str) -> float:
        """Seconds until its first line."""
        command = list(PROGRAM) if kind == PLAIN else ["sh", "-c", "echo FIRST $(date +%s.%N)"]
        name, body = self._body(command, {})
        began = time.time()
        self._batch.create_namespaced_job(LAUNCH, body)
        until(f"{name} has ended", lambda: self._ended(name), 120)
        (pod,) = self._core.list_namespaced_pod(LAUNCH, label_selector=f"job-name={name}").items
        log = self._core.read_namespaced_pod_log(pod.metadata.name, LAUNCH)
        assert "FIRST " in log, log
        first = float(log.rpartition("FIRST ")[2])
        self._batch.delete_namespaced_job(name, LAUNCH, propagation_policy="Background")
        return first - began

    def many(self, count: int, seconds: float, patience: float) -> float:
        """Seconds from the first creation until the last of so many has ended that sleep for some time each."""
        many = {"bench": "short"}
        bodies = [self._body(["sleep", str(seconds)], many)[1] for _ in range(count)]
        began = time.time()
        with ThreadPoolExecutor(_CALLERS) as callers:
            list(callers.map(lambda body: self._batch.create_namespaced_job(LAUNCH, body), bodies))

        def look() -> list[float] | None:
            time.sleep(1)  # a list of hundreds is work for the API server, too
            items = self._batch.list_namespaced_job(LAUNCH, label_selector="bench=short").items
            assert not any(item.status.failed for item in items), "one has failed"
            ends = [item.status.completion_time.timestamp() for item in items if item.status.completion_time]
            return ends if len(ends) == count else None

        last = max(until("the short plain Jobs have ended", look, patience))
        self._batch.delete_collection_namespaced_job(
            LAUNCH, label_selector="bench=short", propagation_policy="Background"
        )
        return float(last - began)

    def _body(self, command: list[str], labels: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """The name and the body of a Job."""
        self._made += 1
        name = f"plain-{self._made}"
        spec = json.loads(json.dumps(self._spec))
        (container,) = [item for item in spec["containers"] if item["name"] == "job"]
        container |= {"command": command}
        container.pop("args", None)
        spec |= {"restartPolicy": "Never"}
        metadata = {"name": name, "labels": labels}
        return name, {"metadata": metadata, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}

    def _ended(self, name: str) -> bool:
        status = self._batch.read_namespaced_job(name, LAUNCH).status
        assert not status.failed, name
        return bool(status.succeeded)
