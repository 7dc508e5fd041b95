"""What the pods of a job print, as far as this process may read it: `get` on pods and on pods/log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.contract.api_errors import ApiError, NotFound
from spoke_jobs.contract.names import CONTAINER
from spoke_jobs.contract.spokejob import SpokeJob

_TIMEOUTS = Timeouts(connect=3.0, read=10.0)
_SILENT_SECONDS = 30.0
"""How long a job may print nothing until the connection is made anew: it may be dead without having said so."""
_USER = re.compile(r'User "([^"]+)"')


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that was printed."""

    at: str
    """When, to the nanosecond, as text that sorts by time."""
    text: str


class PodLogs:
    """Reads from one namespace."""

    def __init__(self, namespace: str) -> None:
        """:raises ConfigurationError: if there are no credentials."""
        self.namespace = namespace
        self._api = SpokeJobClient.connect(namespace, _TIMEOUTS)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def spokejob(self, name: str) -> SpokeJob | None:
        """The SpokeJob, where it is there and may be read."""
        try:
            body = self._api.get(name)
            return SpokeJob.from_object(body) if body else None
        except (ApiError, ValidationError):
            return None

    def has_ended(self, pod: str) -> bool:
        """Whether the job's container prints no more: it has ended, or the pod is gone.

        :raises ApiError:
        """
        try:
            status = self._api.ask(self._path(pod)).get("status") or {}
        except NotFound:
            return True
        states = [
            item.get("state") or {} for item in status.get("containerStatuses") or () if item["name"] == CONTAINER
        ]
        return status.get("phase") in ("Succeeded", "Failed") or any("terminated" in state for state in states)

    def lines(self, pod: str, after: str = "", *, follow: bool) -> Iterator[LogLine]:
        """What the pod has printed, and with ``follow`` what it prints, until it ends or the connection does.

        :param after: leave out what was printed until then.
        :raises ApiError: 404 if the pod is gone, 400 if it has not started, 403; 0 if the connection broke.
        """
        query = {"container": CONTAINER, "timestamps": "true", "follow": "true" if follow else "false"}
        if after:
            query["sinceTime"] = after
        for raw in self._api.read_lines(f"{self._path(pod)}/log", query, _SILENT_SECONDS):
            at, _, text = raw.decode(errors="replace").partition(" ")
            if at > after:  # the kubelet goes by whole seconds
                yield LogLine(at, text)

    def _path(self, pod: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod}"


def user_in(message: str) -> str:
    """Who was refused, by the API server's words."""
    found = _USER.search(message)
    return found[1] if found else "this account"
