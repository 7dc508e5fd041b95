"""What holds for every request and response: the names of this host, the headers of answers, the size of forms.

Also errors that no page or endpoint answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spoke_jobs.shared.clean_text import visible_json
from spoke_jobs.web.api_document import NO_ERRORS, PROBLEM, problem

HEALTH = "/healthz"
"""Kubelets call it by a pod's address, so that it has no name of this host."""
FORM_LIMIT_BYTES = 16_384
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses requests for other hosts, and adds the headers to every answer."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], close: Callable[[], None], end_streams: Callable[[], None]
    ) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._close = close
        self.end_streams = end_streams
        """Ends what browsers keep open. Safe in a signal handler."""

    def close(self) -> None:
        """Close connections, and end threads. A server does so by itself, but not for a mounted application."""
        self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        below_root = scope["path"].removeprefix(scope.get("root_path", ""))
        if below_root == HEALTH or self._is_ours(Headers(scope=scope)):
            await self._app(scope, receive, with_headers)
            return
        text = "The dashboard does not serve this host. Its names are given with --host-name, or as `hosts`."
        await refusal_response(scope, 400, text)(scope, receive, with_headers)

    def _is_ours(self, headers: Headers) -> bool:
        given = headers.getlist("host")
        return len(given) == 1 and host_name(given[0]) in self._hosts


def host_name(host: str) -> str:
    """Return the name in a Host header, in lower case, without the port."""
    name, colon, port = host.rpartition(":")
    has_port = bool(colon) and port.isascii() and port.isdigit() and not name.endswith(":")
    return (name if has_port else host).lower()


def is_cross_site(request: Request) -> bool:
    """Whether a browser says that a page of another site sends the request. Old browsers say nothing."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


async def read_form(request: Request) -> dict[str, str] | None:
    """Read the fields of a form. None: it is too large, incomplete, of another type, or has a field twice."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > FORM_LIMIT_BYTES:
                return None
    except ClientDisconnect:  # anybody can cause it, so it is no error of the dashboard
        return None
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return None
    return dict(fields) if len(dict(fields)) == len(fields) else None


def is_api(scope: Scope) -> bool:
    """Whether a program asks, which reads no pages."""
    below_root: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return f"{below_root}/".startswith("/api/")


def problem_response(status: int, detail: str, errors: Mapping[str, str] = NO_ERRORS) -> Response:
    """Return the problem document of an error.

    :param errors: what is wrong with parameters, by their names.
    """
    return Response(visible_json(json.dumps(problem(status, detail, errors))), status, media_type=PROBLEM)


def refusal_response(scope: Scope, status: int, text: str) -> Response:
    """Return an error without a page: a problem document for a program, plain text for all others."""
    return problem_response(status, text) if is_api(scope) else PlainTextResponse(f"{text}\n", status)
