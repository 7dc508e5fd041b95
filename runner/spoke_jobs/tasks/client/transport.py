"""The HTTP under a delivery: the client, and what an answer's headers say."""

from __future__ import annotations

import math
import ssl
from urllib.parse import SplitResult

import httpx

from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions, port_of
from spoke_jobs.tasks.protocol.messages import PATH

_WAIT_MAX_SECONDS = 60.0


def make_client(url: SplitResult, options: DispatcherOptions) -> httpx.AsyncClient:
    """A client with kept-alive connections, as many as requests may be in flight."""
    return httpx.AsyncClient(
        # The environment's proxies are for the world outside; the deployment is a neighbour.
        trust_env=False,
        verify=ssl.create_default_context() if url.scheme == "https" else False,
        timeout=httpx.Timeout(
            options.silence_seconds, connect=options.connect_seconds, write=options.silence_seconds, pool=None
        ),
        limits=httpx.Limits(
            max_connections=options.max_requests, max_keepalive_connections=options.max_requests, keepalive_expiry=30.0
        ),
    )


def retry_after(response: httpx.Response) -> float | None:
    """The seconds that an answer asks us to wait, bounded; None if it doesn't say."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), _WAIT_MAX_SECONDS) if math.isfinite(seconds) else None


def address_url(url: SplitResult, address: str) -> str:
    """Where tasks go at one address of the URL's host."""
    host = f"[{address}]" if ":" in address else address
    return f"{url.scheme}://{host}:{port_of(url)}{url.path.rstrip('/')}{PATH}"
