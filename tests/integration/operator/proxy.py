"""A proxy in front of the API server: it keeps a record of the calls, and does wrong what it is told to."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from tests.waiting import eventually, patient
from yarl import URL

LINE_LIMIT = 2**22
PASSED_ON = ("Authorization", "Accept", "Content-Type")


class Fault(Enum):
    """What goes wrong with one call."""

    REFUSED = "answered with 500, and not passed on"
    THROTTLED = "answered with 429, and not passed on"
    CUT = "passed on, but the connection is closed instead of an answer"
    LATE = "passed on, and answered when nobody waits any more"


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and what the API server answered; 0 if it wasn't asked."""

    method: str
    path: str
    status: int

    @property
    def write(self) -> str:
        """The kind of write, if it is one to a SpokeJob or a Job."""
        parts = self.path.split("/")
        if self.method == "GET" or not {"jobs", "spokejobs"} & set(parts):
            return ""
        return f"{self.method} {'status' if parts[-1] == 'status' else 'spokejob' if 'spokejobs' in parts else 'job'}"


class Proxy:
    """Plain HTTP at ``port`` for the API server of a kubeconfig. Used from the test's thread, served by its own.

    :param late_seconds: how late :attr:`Fault.LATE` is.
    """

    def __init__(self, kubeconfig: str, folder: Path, *, late_seconds: float = 3.0) -> None:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._late_seconds = late_seconds
        self._watches: set[web.StreamResponse] = set()
        self._loop = asyncio.new_event_loop()
        self.calls: list[Call] = []
        self.choose: Callable[[str, str], Fault | None] = lambda _method, _path: None
        """Asked for each call but the watches and writes of Events, by method and path."""
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        port = self._run(self._serve())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        path = folder / "kubeconfig-of-proxy"
        path.write_text(json.dumps(config))
        self.kubeconfig = str(path)

    def close(self) -> None:
        self._run(self._stop())
        # TLS says goodbye after that; what the loop's end cuts off would be complained of in another test.
        sockets: Mapping[int, Any] = self._loop._selector.get_map()  # type: ignore[attr-defined]
        eventually(lambda: len(sockets) == 1, "none is open but the loop's own")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patient(30))
        self._loop.close()

    @property
    def open_watches(self) -> int:
        return len(self._watches)

    def break_watches(self, code: int) -> None:
        """End each watch that is open by an error of this code."""
        self._run(self._break(code))

    def writes(self, since: int = 0) -> list[str]:
        """The kinds of the writes to SpokeJobs and Jobs that the API server accepted."""
        return [call.write for call in self.calls[since:] if call.write and 200 <= call.status < 300]

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(patient(30))

    async def _serve(self) -> int:
        self._session = ClientSession(
            connector=TCPConnector(ssl=self._tls, limit=0), timeout=ClientTimeout(total=None), read_bufsize=LINE_LIMIT
        )
        app = web.Application(client_max_size=LINE_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _stop(self) -> None:
        await self._runner.cleanup()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def _break(self, code: int) -> None:
        error = {"kind": "Status", "status": "Failure", "code": code, "reason": "Expired", "message": "too old"}
        for watch in list(self._watches):
            await watch.write(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
            await watch.write_eof()
            self._watches.discard(watch)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        url = URL(self._server + request.raw_path, encoded=True)
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request, url, headers)
        body = await request.read()
        fault = None if _writes_event(request) else self.choose(request.method, request.path)
        if fault in (Fault.REFUSED, Fault.THROTTLED):
            self._note(request, 0)
            code, more = (500, {}) if fault is Fault.REFUSED else (429, {"Retry-After": "1"})
            return web.json_response(
                {"kind": "Status", "code": code, "message": fault.value}, status=code, headers=more
            )
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            content = await answer.read()
        self._note(request, answer.status)
        if fault is Fault.LATE:
            await asyncio.sleep(self._late_seconds)
        if fault is Fault.CUT and request.transport:
            request.transport.abort()
        return web.Response(status=answer.status, body=content, content_type="application/json")

    async def _watch(self, request: web.Request, url: URL, headers: dict[str, str]) -> web.StreamResponse:
        async with self._session.get(url, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            await response.prepare(request)
            self._watches.add(response)
            try:
                async for line in answer.content:
                    if response not in self._watches:
                        break
                    await response.write(line)
            except (ClientError, ConnectionError):
                pass
            finally:
                self._watches.discard(response)
        return response

    def _note(self, request: web.Request, status: int) -> None:
        if not _writes_event(request):
            self.calls.append(Call(request.method, request.path, status))


def _writes_event(request: web.Request) -> bool:
    return request.method != "GET" and request.path.startswith("/apis/events.k8s.io/")
