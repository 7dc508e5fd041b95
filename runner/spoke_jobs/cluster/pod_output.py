"""Read the last lines that each container of a pod has printed. Needs `get` on pods and on pods/log."""

from __future__ import annotations

from collections.abc import Iterator

from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.contract.names import CONTAINER
from spoke_jobs.model import ContainerOutput
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable, NotFound
from spoke_jobs.shared.object_fields import items, mapping, text

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
_SILENT_SECONDS = 10.0
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
            lines = b"\n".join(api.read_lines(f"{path}/log", query, _SILENT_SECONDS))
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
