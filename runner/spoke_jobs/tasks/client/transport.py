"""The delivery's HTTP client, the URL of a replica, and the Retry-After header."""

from __future__ import annotations

import math
from urllib.parse import SplitResult

import httpx

from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions, port_of
from spoke_jobs.tasks.client.trust import Trust
from spoke_jobs.tasks.protocol.messages import PATH

_RETRY_AFTER_MAX_SECONDS = 60.0


def make_client(options: DispatcherOptions, trust: Trust | None) -> httpx.AsyncClient:
    """Make a client that keeps enough connections alive for all requests that may be in flight.

    :param trust: verifies the servers; None for plain HTTP.
    """
    return httpx.AsyncClient(
        # Proxies in the environment are for the Internet; the task deployment is in the same cluster.
        trust_env=False,
        verify=trust.context if trust is not None else False,
        timeout=httpx.Timeout(
            options.silence_seconds, connect=options.connect_seconds, write=options.silence_seconds, pool=None
        ),
        limits=httpx.Limits(
            max_connections=options.max_requests, max_keepalive_connections=options.max_requests, keepalive_expiry=30.0
        ),
    )


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds of the Retry-After header, at most 60; None if there is none."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), _RETRY_AFTER_MAX_SECONDS) if math.isfinite(seconds) else None


def address_url(url: SplitResult, address: str) -> str:
    """Return the URL of one address of the host."""
    host = f"[{address}]" if ":" in address else address
    return f"{url.scheme}://{host}:{port_of(url)}{url.path.rstrip('/')}{PATH}"
