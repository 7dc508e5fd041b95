"""Calls of the API server, many at once, by the transport that the operator has."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]
Submission = Callable[[], Awaitable[None]]
"""A call that is still to be made."""
AT_ONCE = 20


class Api:
    """The API server, as its administrator."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def call(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """One call. :raises RuntimeError: naming what the server said."""
        headers = {"Content-Type": kind, "Accept": "application/json"}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, self._server + path, data=data, headers=headers) as answer:
            found: Object = await answer.json(content_type=None)
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {found.get('message')}")
            return found

    async def text(self, path: str) -> str:
        """What is there, as it comes."""
        async with self._session.get(self._server + path) as answer:
            return await answer.text()

    async def watch(self, path: str) -> AsyncIterator[tuple[float, str, Object]]:
        """What happens to the objects there from now on: when, type and object."""
        listed = await self.call("GET", f"{path}?limit=1")
        version = listed["metadata"]["resourceVersion"]
        url = f"{self._server}{path}?watch=1&resourceVersion={version}"
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            async for line in answer.content:
                event = json.loads(line)
                yield time.time(), event["type"], event["object"]


@asynccontextmanager
async def connected() -> AsyncIterator[Api]:
    """By KUBECONFIG, whose current context has a client's certificate."""
    with open(os.environ["KUBECONFIG"]) as file:  # noqa: ASYNC230, PTH123 (before anything is measured)
        config = yaml.safe_load(file)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile("w") as pem:
        for name in ("client-certificate-data", "client-key-data"):
            pem.write(base64.b64decode(user[name]).decode())
        pem.flush()
        context.load_cert_chain(pem.name)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**22) as session:
        yield Api(session, cluster["server"])


async def all_of(calls: Iterable[Submission]) -> None:
    """Make the calls, so many at a time."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
