"""A dispatcher's options, and the URL that it sends to. The defaults suit a web process."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.job_options import TaskOptions
from spoke_jobs.model import TASK_LOSSES

_TASK = TaskOptions()


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """Limits, and times in seconds."""

    buffer_tasks: int = 10_000
    """Tasks kept until they are acknowledged."""
    buffer_bytes: int = 67_108_864
    """Bytes of the payloads of kept tasks."""
    full_wait_seconds: float = 5.0
    """How long ``submit`` waits for room in a full buffer before it raises."""
    exit_seconds: float = 10.0
    """How long the process's exit waits for kept tasks to be delivered."""
    batch_size: int = 100
    """Tasks in one request."""
    batch_bytes: int = 500_000
    """Bytes of payloads in one request."""
    linger_seconds: float = 0.002
    """How long tasks wait to share a request with others, if requests are in flight. A request costs as much as many
    tasks."""
    max_requests: int = 128
    """Requests in flight; each takes a connection."""
    replica_window: int = 500
    """The most unacknowledged tasks of one replica; fewer after it has answered that it is full."""
    connect_seconds: float = 3.0
    silence_seconds: float = 20.0
    """A server that sends nothing for this long counts as dead. An idle server sends four empty lines in this time."""
    backoff_max_seconds: float = 5.0
    """The longest backoff after failures of a replica."""
    resolve_seconds: float = 5.0
    """How often the host's name is resolved again."""
    retry_seconds: float = _TASK.backoff_seconds
    """The backoff after a task's first failed run, unless the task declares its own. It doubles with each run."""
    retry_max_seconds: float = _TASK.backoff_max_seconds
    losses: int = TASK_LOSSES
    """A task fails for good once this many replicas have died while they had it, or it was refused this often in front
    of them while others got through."""
    ca_file: str = ""
    """The CA certificates that verify the servers of an https URL; empty for the system's."""


def usable_url(url: str) -> SplitResult:
    """Parse SPOKE_TASKS_URL.

    :raises ConfigurationError: if it cannot be used.
    """
    if not url:
        raise ConfigurationError(
            "SPOKE_TASKS_URL is not set: set it to the task deployment's URL, http://texting-tasks:8080 for example"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("SPOKE_TASKS_URL can't be used: write it as http://host:port, without user or query")
    return parts


def port_of(url: SplitResult) -> int:
    """Return the port that a URL names, or its scheme's default."""
    return url.port or (443 if url.scheme == "https" else 80)


def check_ca_file(url: SplitResult, ca_file: str) -> None:
    """Check SPOKE_TASKS_CA_FILE. The module ssl is imported only if it is needed.

    :raises ConfigurationError: if the file cannot be used, or would have no effect.
    """
    if not ca_file:
        return
    if url.scheme != "https":
        raise ConfigurationError(
            "SPOKE_TASKS_CA_FILE is set, but SPOKE_TASKS_URL begins with http:, so that nothing would be verified: "
            "write the URL with https:, or unset the file"
        )
    from spoke_jobs.tasks.client.trust import Trust

    Trust(ca_file)
