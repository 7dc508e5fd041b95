"""One situation under way: what it makes, what a person sees of it, and when its cause was first named."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes
import urllib3
from sqlalchemy import insert
from tests.e2e import cli
from tests.e2e.conftest import Object, Product
from tests.integration.sync.stage import Cluster as Namespace
from tests.waiting import eventually

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.names import LABEL_TEMPLATE
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner

from . import shop_jobs

Change = Callable[[Object], None]
"""Changes a pod's description."""
PATIENCE_SECONDS = 240.0
"""How long a situation is waited for, whatever its bound."""


class Sightings:
    """When each SpokeJob of the namespace first had a word: an outcome, a cause, a reason."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._first: dict[tuple[str, str], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def at(self, name: str, word: str) -> float | None:
        """When that was, in seconds since the epoch."""
        return self._first.get((name, word))

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            with contextlib.suppress(kubernetes.client.ApiException, urllib3.exceptions.HTTPError):
                for item in self._namespace.all():
                    for word in words_of(item.get("status") or {}):
                        self._first.setdefault((item["metadata"]["name"], word), time.time())


def words_of(status: Object) -> set[str]:
    """The outcome, the cause, the reasons of conditions, and the causes of attempts."""
    words = {status.get("outcome", ""), status.get("cause", "")}
    words |= {item.get("reason", "") for item in status.get("conditions", ())}
    words |= {item.get("cause", "") for item in status.get("attempts", ())}
    return words - {""}


@dataclass
class Shop:
    """What all situations share."""

    product: Product
    runner: KubernetesRunner
    operator: str
    """The operator's namespace."""
    sightings: Sightings
    records: Path


@dataclass
class Play:
    """See the module."""

    shop: Shop
    number: int
    undo: ExitStack
    job: JobRequest = field(init=False)
    """The one that the record is about."""
    name: str = ""
    """Its SpokeJob's."""
    began: float = 0.0
    """When the job was dispatched, or, later, when something happened to it."""
    took: float | None = None
    """Seconds from then until the cause was named."""
    _text: list[str] = field(default_factory=list)

    @property
    def product(self) -> Product:
        return self.shop.product

    @property
    def part(self) -> str:
        """A word of this situation's own, for names and labels."""
        return f"batch-{self.number:02d}"

    @property
    def age(self) -> float:
        """Seconds since the beginning."""
        return time.time() - self.began

    # What it makes

    def create(self, kind: str, name: str, api: str = "v1", **content: Any) -> None:
        """Create an object, which is deleted in the end."""
        metadata = {"name": name} | content.pop("metadata", {})
        body = {"apiVersion": api, "kind": kind, "metadata": metadata} | content
        self.product.kubectl("apply", "--filename=-", stdin=json.dumps(body))
        kinds = f"{kind}.{api.split('/')[0]}" if "/" in api else kind
        self.undo.callback(self.product.kubectl, "delete", kinds, name, "--ignore-not-found", "--wait=false")

    def template(self, change: Change, labels: Object | None = None, name: str = "") -> str:
        """Write a PodTemplate like the default one, changed; also over an earlier one."""
        found = self.product.get("podtemplate", "default")
        assert found
        body: Object = {"apiVersion": "v1", "kind": "PodTemplate", "template": found["template"]}
        body["metadata"] = {"name": name or self.part, "labels": {LABEL_TEMPLATE: "true"} | (labels or {})}
        change(body["template"]["spec"])
        written = ("apply", "--server-side", "--force-conflicts", "--field-manager=helm", "--filename=-")
        self.product.kubectl(*written, stdin=json.dumps(body))
        return name or self.part

    def dispatch(
        self, payload: Any = None, job_type: str = "payouts", runner: KubernetesRunner | None = None, **data: Any
    ) -> JobRequest:
        """Dispatch a job of this situation's template. The record is about the last one."""
        given = shop_jobs.Payouts() if payload is None else payload
        data = {"pod_template": self.part} | data
        self.begins()
        self.job = (runner or self.shop.runner).dispatch_job(JobData(job_type, given, **data))
        self.name = name_of(self.job)
        return self.job

    def begins(self) -> None:
        """Count the time from now: something happens to the job."""
        self.began = time.time()

    def waiting(self) -> shop_jobs.Payouts:
        """The payload of a job that runs until this situation's gate is opened."""
        return shop_jobs.Payouts(waits_for=self.part)

    def open_gate(self) -> None:
        """Let those jobs end."""
        with self.product.engine.begin() as connection:
            connection.execute(insert(shop_jobs.gate).values(name=self.part))

    def runs(self, job: JobRequest) -> str:
        """Wait until the job's function runs; gives its pod."""
        eventually(lambda: self.product.row(job).status > 0, f"job {job.id} runs", within=PATIENCE_SECONDS, every=0.5)
        pod: str = self.product.running_pod(job)["metadata"]["name"]
        return pod

    # What is seen of it

    def named(self, word: str) -> None:
        """Wait until the SpokeJob has that outcome, cause or reason, and take the time."""
        seen = self.shop.sightings
        at = eventually(lambda: seen.at(self.name, word), f"{self.name}: {word}", within=PATIENCE_SECONDS, every=0.25)
        self.took = max(0.0, at - self.began)

    def one_is_named(self, jobs: list[JobRequest], word: str) -> None:
        """Wait until one of the jobs has that word; the record is about the first that has."""
        seen = self.shop.sightings
        found = eventually(
            lambda: next((job for job in jobs if seen.at(name_of(job), word)), None),
            f"one of {[job.id for job in jobs]}: {word}",
            within=PATIENCE_SECONDS,
            every=0.25,
        )
        self.job, self.name = found, name_of(found)
        self.named(word)

    def named_by_why(self, words: str) -> None:
        """Wait until `why` says so, and take the time."""

        def says_so() -> bool:
            done = subprocess.run(
                [*cli.COMMAND, "why", str(self.job.id)],
                env=cli.settings(self.product),
                capture_output=True,
                text=True,
                check=False,
            )
            return words in done.stdout

        eventually(says_so, f"`why` says {words}", within=PATIENCE_SECONDS, every=2)
        self.took = self.age

    def show(self, *more: str, ids: tuple[int, ...] = ()) -> None:
        """Record what a person sees now.

        :param more: other commands to which docs or advice send the person.
        :param ids: other jobs about which the person asks `why`.
        """
        name = self.name
        events = f"kubectl get events --field-selector involvedObject.name={name}"
        commands = [f"spoke-jobs why {number}" for number in (self.job.id, *ids)]
        commands += [f"kubectl get spokejob {name}", f"kubectl describe spokejob {name}", events, *more]
        self.show_only(*commands)

    def show_only(self, *commands: str) -> None:
        """Record what these commands print now."""
        self._text.append(f"\n===== {self.age:.0f} s after the beginning =====\n")
        self._text += [f"\n$ {command}\n{self._output(command)}" for command in commands]

    def say(self, text: str) -> None:
        """Tell the reader what a person on call would know anyway."""
        self._text.append(f"\n{text}\n")

    def ends(self, state: JobState = JobState.SUCCEEDED) -> None:
        """Wait for the job's end, and record what is seen of it."""
        row = self.product.ended(self.job, PATIENCE_SECONDS)
        word, seen = row.state.value.capitalize(), self.shop.sightings
        eventually(lambda: seen.at(self.name, word), f"{self.name}: {word}", within=PATIENCE_SECONDS)
        commands = (f"spoke-jobs why {self.job.id}", f"kubectl get spokejob {self.name}")
        self._text.append("\n===== the end =====\n")
        self._text += [f"\n$ {command}\n{self._output(command)}" for command in commands]
        assert row.state is state, f"{row.state}, {row.cause}"

    def retry(self) -> None:
        """As the advice has it."""
        cli.run(self.product, "retry", self.job.id)
        self.name = name_of(self.product.row(self.job))

    def record(self, heading: str) -> None:
        """Write the file."""
        named = "not named" if self.took is None else f"named after {self.took:.1f} s"
        path = self.shop.records / f"{self.number:02d}.txt"
        path.write_text(f"{heading}\n({named})\n{''.join(self._text)}")

    def _output(self, command: str) -> str:
        program, *arguments = command.split(" ")
        if program == "kubectl":
            if "--namespace" not in arguments:
                arguments = ["--namespace", self.product.namespace, *arguments]
            return bounded(["kubectl", *arguments], self.product.cluster.env)
        settings = cli.settings(self.product)
        _, shown, errors = cli.on_a_terminal([*cli.COMMAND, *arguments], settings)
        return shown + errors


def bounded(command: list[str], env: dict[str, str]) -> str:
    """A command's output and errors, whatever its exit code."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@contextmanager
def sightings_of(product: Product) -> Iterator[Sightings]:
    """See :class:`Sightings`."""
    seen = Sightings(Namespace(product.cluster.env["KUBECONFIG"], product.namespace))
    try:
        yield seen
    finally:
        seen.stop()
