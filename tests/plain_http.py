"""Requests over plain HTTP, each on a connection of its own.

httpx itself reads the system's certificates for each of them, which takes 24 ms of CPU time, here in loops that wait.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import httpx
from tests.waiting import patient


def get(url: str, **options: Any) -> httpx.Response:
    """A GET."""
    return httpx.get(url, **_plain(options))


def post(url: str, **options: Any) -> httpx.Response:
    """A POST."""
    return httpx.post(url, **_plain(options))


def stream(method: str, url: str, **options: Any) -> AbstractContextManager[httpx.Response]:
    """A request whose answer is read as it comes."""
    return httpx.stream(method, url, **_plain(options))


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {"trust_env": False, "verify": False, "timeout": patient(60), **options}
