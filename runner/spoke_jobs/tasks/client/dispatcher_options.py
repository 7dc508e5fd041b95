"""How a dispatcher behaves, and where it sends to. The defaults suit a web process."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import TASK_LOSSES


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """Bounds and times, in seconds."""

    buffer_tasks: int = 10_000
    """Tasks held until acknowledged."""
    buffer_bytes: int = 67_108_864
    """Of their payloads."""
    full_wait_seconds: float = 5.0
    """How long ``submit`` waits for room before it raises."""
    exit_seconds: float = 10.0
    """How long the process's exit waits for what is still held."""
    batch_size: int = 100
    """Tasks in one request."""
    batch_bytes: int = 500_000
    """Of their payloads, in one request."""
    linger_seconds: float = 0.002
    """How long tasks wait for company while other requests are in flight; a request costs as much as many tasks."""
    max_requests: int = 128
    """Requests in flight; each is a connection."""
    replica_window: int = 500
    """Tasks sent to one replica and not acknowledged; less while it says that it is full."""
    connect_seconds: float = 3.0
    silence_seconds: float = 20.0
    """A server that says nothing for so long is taken for dead: four times the interval of its signs of life."""
    backoff_max_seconds: float = 5.0
    """A replica that fails is tried again after at most so long."""
    resolve_seconds: float = 5.0
    """How often the host's name is resolved anew."""
    retry_seconds: float = 0.5
    """A task that failed is tried again after about so long, twice that, ..."""
    retry_max_seconds: float = 30.0
    losses: int = TASK_LOSSES
    """A task that was in the hands of so many replicas that died has failed for good."""


def usable_url(url: str) -> SplitResult:
    """Take a URL apart.

    :raises ConfigurationError: if it can't be used.
    """
    if not url:
        raise ConfigurationError(
            "SPOKE_TASKS_URL is not set: it names the task deployment, http://texting-tasks:8080 say"
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
    """The port that a URL names, or its scheme's own."""
    return url.port or (443 if url.scheme == "https" else 80)
