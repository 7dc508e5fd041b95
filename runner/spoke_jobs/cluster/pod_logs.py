"""Read what the pods of a job print, or have printed last. Needs `get` on pods and on pods/log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from pydantic import ValidationError

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.cluster_view import PodTail
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import CONTAINER
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import ContainerOutput
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable, Forbidden, NotFound
from spoke_jobs.shared.object_fields import Body, items, mapping, text

_TIMEOUTS = Timeouts(connect=3.0, read=10.0)
_SILENT_SECONDS = 30.0
"""After this silence the connection is opened again, because it may be dead."""
_USER = re.compile(r'User "([^"]+)"')


@dataclass(frozen=True, slots=True)
class LogLine:
    """A printed line."""

    at: str
    """The time, to the nanosecond, as text that sorts by time."""
    text: str


class PodLogs:
    """The logs of pods in one namespace."""

    def __init__(self, namespace: str) -> None:
        """:raises ConfigurationError: if there are no credentials."""
        self.namespace = namespace
        self._api = SpokeJobClient.connect(namespace, _TIMEOUTS)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def spokejob(self, name: str) -> SpokeJob | None:
        """Read a SpokeJob; None if it doesn't exist or this account has no right to read it."""
        try:
            body = self._api.get(name)
            return SpokeJob.from_object(body) if body else None
        except (ApiError, ValidationError):
            return None

    def has_ended(self, pod: str) -> bool:
        """Whether the job's container has ended, or the pod is gone.

        :raises ApiError: if the call fails.
        """
        try:
            return job_has_ended(self._api.ask(self._path(pod)))
        except NotFound:
            return True

    def lines(self, pod: str, after: str = "", *, follow: bool) -> Iterator[LogLine]:
        """Read what the pod has printed; with ``follow`` go on until it ends or the connection breaks.

        :param after: skip the lines printed up to this time.
        :raises ApiError: :class:`NotFound` if the pod is gone, status 400 if it has not started.
        """
        query = {"container": CONTAINER, "timestamps": "true", "follow": "true" if follow else "false"}
        if after:
            query["sinceTime"] = after
        for raw in self._api.read_lines(f"{self._path(pod)}/log", query, _SILENT_SECONDS):
            at, _, printed = raw.decode(errors="replace").partition(" ")
            if at > after:  # the kubelet's filter has a resolution of a second
                yield LogLine(at, printed)

    def _path(self, pod: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod}"


def read_pod_tail(pod: str, namespace: str) -> PodTail:
    """Read what a pod's job has printed last, or say why that is not possible."""
    try:
        with closing(SpokeJobClient.connect(namespace, _TIMEOUTS)) as api:
            return PodTail(read_tail(api, pod))
    except NotFound:
        return PodTail(problem="the pod is gone")
    except Forbidden as error:
        return PodTail(problem=f"{user_in(str(error))} may not get pods/log in namespace {namespace}")
    except (ConfigurationError, ApiError) as error:
        return PodTail(problem=str(error))


def job_has_ended(pod: Body) -> bool:
    """Whether a pod's status says that the job's container has ended."""
    status = mapping(pod, "status")
    states = [mapping(item, "state") for item in items(status, "containerStatuses") if text(item, "name") == CONTAINER]
    return text(status, "phase") in ("Succeeded", "Failed") or any("terminated" in state for state in states)


def user_in(message: str) -> str:
    """Return the refused account, from the API server's message."""
    found = _USER.search(message)
    return found[1] if found else "this account"


LINES = 100
_LIMIT_BYTES = 200_000
"""The most that is read of one container, in case a few lines are endless. The ledger keeps less."""
TAIL_LINES = 200
"""How many lines of a running job are read."""
_TAIL_BYTES = 4 * 2**20
"""The most that is read of them. The API server cuts the last lines and not the first, so it is more than they have:
container runtimes keep a longer line as lines of 16 KiB."""
_LINE_BYTES = 8_192
"""How many of a line's last bytes are kept of them."""
_OUTPUT_SECONDS = 10.0
_TAIL_SECONDS = 5.0
_KINDS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def read_outputs(api: SpokeJobClient, pod: str) -> tuple[ContainerOutput, ...]:
    """Read the output of every container that has started; empty if the pod is gone.

    :raises ApiError: if the pod or its output can't be read.
    """
    path = f"/api/v1/namespaces/{api.namespace}/pods/{pod}"
    try:
        body = api.ask(path)
    except NotFound:
        return ()
    found = []
    for name in started(body):
        query = {"container": name, "tailLines": str(LINES), "limitBytes": str(_LIMIT_BYTES)}
        try:
            lines = b"\n".join(api.read_lines(f"{path}/log", query, _OUTPUT_SECONDS))
        except ApiUnavailable:
            raise
        except ApiError as error:
            if error.status == 403:
                raise
            continue  # its output is gone, or its node has none of it
        if lines.strip():
            found.append(ContainerOutput(name, lines.decode(errors="replace")))
    return tuple(found)


def read_tail(api: SpokeJobClient, pod: str) -> tuple[str, ...]:
    """Read the last lines that the job has printed, also while it runs; of long ones the end.

    :raises ApiError: if they can't be read.
    """
    query = {"container": CONTAINER, "tailLines": str(TAIL_LINES), "limitBytes": str(_TAIL_BYTES)}
    path = f"/api/v1/namespaces/{api.namespace}/pods/{pod}/log"
    return tuple(raw[-_LINE_BYTES:].decode(errors="replace") for raw in api.read_lines(path, query, _TAIL_SECONDS))


def started(pod: Body) -> Iterator[str]:
    """Return the names of the containers that have run, in the order in which the pod starts them."""
    status = mapping(pod, "status")
    for kind in _KINDS:
        for item in items(status, kind):
            state = mapping(item, "state")
            if "running" in state or "terminated" in state or mapping(item, "lastState"):
                yield text(item, "name")
