"""What the API server tells of a namespace, and when it tells it: an observer beside the operator."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from tests.integration.operator.conftest import GROUP, PLURAL, ROOT, VERSION, Cluster, Object
from tests.waiting import WITHIN_SECONDS, eventually, patient

T = TypeVar("T")
SPOKEJOBS, JOBS, PODS, EVENTS = "spokejobs", "jobs", "pods", "events"


@dataclass(frozen=True)
class Sighting:
    """One version of an object."""

    at: float
    """When it was told; seconds since the epoch."""
    kind: str
    body: Object
    gone: bool

    @property
    def name(self) -> str:
        name: str = self.body["metadata"]["name"]
        return name

    @property
    def status(self) -> Object:
        status: Object = self.body.get("status", {})
        return status

    @property
    def spokejob(self) -> str:
        """The SpokeJob that it belongs to; of an Event, by the name of the Job or pod, which begins with it."""
        if self.kind == SPOKEJOBS:
            return self.name
        if self.kind == EVENTS:
            involved: str = self.body["involvedObject"].get("name", "")
            return "-".join(involved.split("-")[:3])
        label: str = self.body["metadata"].get("labels", {}).get("jobs.spoke.dev/spokejob", "")
        return label


class Sightings:
    """All that was told since :meth:`start`, by SpokeJob, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._of: defaultdict[str, list[Sighting]] = defaultdict(list)
        self._news = threading.Condition()
        self._watches: list[subprocess.Popen[str]] = []
        self._listeners: list[threading.Thread] = []

    def start(self) -> None:
        """Listen to all kinds."""
        within = f"namespaces/{self._cluster.namespace}"
        paths = {
            SPOKEJOBS: f"/apis/{GROUP}/{VERSION}/{within}/{PLURAL}",
            JOBS: f"/apis/batch/v1/{within}/jobs",
            PODS: f"/api/v1/{within}/pods",
            EVENTS: f"/api/v1/{within}/events",
        }
        for kind, path in paths.items():
            command = ["kubectl", "get", "--raw", f"{path}?watch=true"]
            watch = subprocess.Popen(command, cwd=ROOT, env=self._cluster.env, stdout=subprocess.PIPE, text=True)
            self._watches.append(watch)
            listener = threading.Thread(target=self._listen, args=(kind, watch), daemon=True)
            listener.start()
            self._listeners.append(listener)

    def stop(self) -> None:
        """Listen no more."""
        for watch in self._watches:
            watch.terminate()
            watch.wait(patient(30))
        for listener in self._listeners:
            listener.join(patient(30))

    def of(self, spokejob: str) -> list[Sighting]:
        """All of what belongs to a SpokeJob."""
        with self._news:
            return list(self._of[spokejob])

    def until(
        self, spokejob: str, what: str, wanted: Callable[[Sighting], object], within: float = WITHIN_SECONDS
    ) -> Sighting:
        """The first that is as wanted, whether it came already or is yet to come."""
        looked_at = 0

        def look() -> Sighting | None:
            nonlocal looked_at
            new = self.of(spokejob)[looked_at:]
            looked_at += len(new)
            return next((sighting for sighting in new if wanted(sighting)), None)

        return eventually(look, f"{what} of {spokejob}", within, state=lambda: self._last_words(self.of(spokejob)))

    def _listen(self, kind: str, watch: subprocess.Popen[str]) -> None:
        assert watch.stdout is not None
        with watch.stdout as lines:
            for line in lines:
                event = json.loads(line)
                sighting = Sighting(time.time(), kind, event["object"], event["type"] == "DELETED")
                with self._news:
                    self._of[sighting.spokejob].append(sighting)
                    self._news.notify_all()

    @staticmethod
    def _last_words(told: list[Sighting]) -> str:
        newest = {(sighting.kind, sighting.name): sighting for sighting in told}
        shown = [(item.kind, item.name, item.gone, item.body.get("status") or item.body.get("message"))
                 for item in newest.values()]  # fmt: skip
        return f"it is {json.dumps(shown, indent=1)}"


def seconds_of(stamp: str) -> float:
    """An object's time, in seconds since the epoch."""
    moment = datetime.fromisoformat(stamp)
    assert moment.tzinfo == UTC
    return moment.timestamp()
