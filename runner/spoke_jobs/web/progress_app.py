"""The ASGI application for an application's own users: the progress of one job, for whoever has its token.

``GET /TOKEN`` answers with JSON, ``GET /TOKEN/events`` with server-sent events, and ``GET /progress.js`` with the
element that shows them. There is no sign-in: a token says of which job somebody may see the progress, and until when.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from spoke_jobs.contract.progress_token import ProgressToken, read_token
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import load_settings, usable_progress_keys
from spoke_jobs.shared.secret_file import Secret, value_of
from spoke_jobs.web.dashboard import open_engine
from spoke_jobs.web.progress_reads import ProgressReads, ProgressUnavailableError, ShownProgress, shown_progress

MOST_STREAMS = 200
"""The most streams at a time, unless :func:`progress` is given another number."""
MOST_STREAMS_OF_A_JOB = 20
"""The most streams of one job, so that whoever has one token cannot take all."""
STREAM_SECONDS = 300.0
"""How long a stream lasts. The browser then opens another one."""
ALIVE_SECONDS = 15.0
"""After how long without an event a stream says that it is alive, so that no proxy closes it."""
LOOK_SECONDS = 1.0
"""How often a stream looks for a change."""
BEGIN = b"retry: 5000\n\n"
ALIVE = b"event: alive\ndata: 1\n\n"
GONE = b"event: gone\ndata: 1\n\n"
"""The token has expired, or the job has no row any more."""
_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_SCRIPT_HEADERS = _HEADERS | {
    "Cache-Control": "public, max-age=300",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Vary": "Origin",
}
"""The script says nothing about jobs, so any page may load it."""

logger = logging.getLogger(__name__)


def progress(
    *,
    origins: Collection[str] = (),
    messages: bool = False,
    key: Secret = "",
    database: Secret | None = None,
    most_streams: int = MOST_STREAMS,
) -> ProgressApp:
    """Make the ASGI application that serves the progress of jobs to users with a token.

    :param origins: the origins of pages that may read it from elsewhere, ``https://app.example.com`` for example. Pages
        of the application's own origin need none.
    :param messages: whether it shows the job's own texts: those of ``ctx.progress``, and the reason of ``Discard``.
    :param key: the key of tokens, or two while it changes; by default those of ``SPOKE_PROGRESS_KEY``.
    :param database: the ledger's database; by default that of SPOKE_DATABASE_URL.
    :param most_streams: the most streams of events at a time. Beyond that, browsers ask every few seconds.
    :raises ConfigurationError: if there is no key, or something else is not usable.
    """
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise ConfigurationError(
                f"{origin!r} is no origin: write each as a browser does, https://app.example.com for example"
            )
    settings = load_settings()
    secret = key or settings.progress_keys
    usable_progress_keys(secret)
    engine = open_engine(settings.database if database is None else database)
    return ProgressApp(ProgressReads(engine), secret, origins, messages=messages, most_streams=most_streams)


class ProgressApp:
    """Answers requests with a token."""

    def __init__(
        self, reads: ProgressReads, secret: Secret, origins: Collection[str], *, messages: bool, most_streams: int
    ) -> None:
        self._reads = reads
        self._secret = secret
        self._keys = (value_of(secret), usable_progress_keys(secret))
        self._messages = messages
        self._most_streams = most_streams
        self._ended = False
        self._script = files("spoke_jobs.web").joinpath("static", "progress.js").read_bytes()
        self._app = Starlette(
            routes=[
                Route("/progress.js", self._progress_js, methods=["GET"]),
                Route("/{token}", self._now, methods=["GET"]),
                Route("/{token}/events", self._events, methods=["GET"]),
            ],
            middleware=[Middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["GET"])],
            exception_handlers={HTTPException: _refused, Exception: _broken},
            lifespan=self._lifespan,
        )
        # The redirect would have the token in its address, and http:// behind a proxy that ends TLS.
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self._app(scope, receive, send)

    def end_streams(self) -> None:
        """End all streams within :data:`LOOK_SECONDS`. Safe in a signal handler."""
        self._ended = True

    def close(self) -> None:
        """Close connections, and end threads. A server does so by itself, but not for a mounted application."""
        self.end_streams()
        self._reads.close()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        self.close()

    async def _progress_js(self, _request: Request) -> Response:
        return Response(self._script, headers=_SCRIPT_HEADERS, media_type="text/javascript")

    async def _now(self, request: Request) -> Response:
        token = self._token(request)
        view = await self._view(token) if token is not None else None
        return _json(view.to_json()) if view is not None else _unknown()

    async def _events(self, request: Request) -> Response:
        if request.method != "GET":  # a stream without a body would be one too many
            raise HTTPException(405)
        token = self._token(request)
        if token is None or await self._view(token) is None:
            return _unknown()
        of_job = self._reads.followers_of(token.job_id)
        if self._ended or self._reads.followers >= self._most_streams or of_job >= MOST_STREAMS_OF_A_JOB:
            raise HTTPException(503)
        return _Followed(self._stream(token), self._reads.following(token.job_id))

    async def _stream(self, token: ProgressToken) -> AsyncIterator[bytes]:
        """Yield each change, until the job has ended, the token has expired or the stream has lasted long enough."""
        yield BEGIN
        shown: ShownProgress | None = None
        quiet_since = time.monotonic()
        ends = quiet_since + STREAM_SECONDS
        while not self._ended and time.monotonic() < ends:
            try:
                view = await self._view(token) if time.time() < token.expires_at else None
            except HTTPException:  # the database is away; another look may find it
                view = shown
            else:
                if view is None:
                    yield GONE
                    return
            if view is not None and view != shown:
                yield f"event: progress\ndata: {json.dumps(view.to_json())}\n\n".encode()
                shown, quiet_since = view, time.monotonic()
                if view.ended:
                    return
            elif time.monotonic() - quiet_since >= ALIVE_SECONDS:
                yield ALIVE
                quiet_since = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    async def _view(self, token: ProgressToken) -> ShownProgress | None:
        """Return what the token's holder sees now; None if there is no such job.

        :raises HTTPException: if the database does not answer.
        """
        try:
            reported = await self._reads.progress(token.job_id)
        except ProgressUnavailableError:
            raise HTTPException(503) from None
        if reported is None or reported.run < token.run:
            return None
        return shown_progress(reported, messages=self._messages)

    def _token(self, request: Request) -> ProgressToken | None:
        """Return the token of a request; None if it is not valid, for whatever reason."""
        return read_token(request.path_params["token"], self._current_keys(), time.time())

    def _current_keys(self) -> tuple[str, ...]:
        """Return the keys as they are now. If those in a changed file cannot be used, the last ones stay in use."""
        text, keys = self._keys
        if (now := value_of(self._secret)) != text:
            try:
                keys = usable_progress_keys(now)
            except ConfigurationError as error:
                logger.error("the new keys for progress can't be used; the last ones stay in use: %s", error)  # noqa: TRY400
            self._keys = (now, keys)
        return keys


class _Followed(StreamingResponse):
    """A stream that counts as one from the moment at which it was admitted until it has ended."""

    def __init__(self, events: AsyncIterator[bytes], following: AbstractContextManager[None]) -> None:
        # A proxy must not keep the events until there are more of them.
        super().__init__(events, headers=_HEADERS | {"X-Accel-Buffering": "no"}, media_type="text/event-stream")
        self._following = following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with self._following:
            await super().__call__(scope, receive, send)


def _json(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(content, status, headers=_HEADERS | dict(headers or {}))


def _unknown() -> Response:
    """Answer for any token that shows nothing, so that nobody learns why."""
    return _json({"detail": "There is no such progress, or no longer."}, 404)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 503:
        return _json({"detail": "Ask again in a moment."}, 503, {"Retry-After": "5"})
    return _json({"detail": error.detail}, error.status_code, error.headers)


async def _broken(_request: Request, _error: Exception) -> Response:
    """Answer for an unexpected error. The log has it."""
    return _json({"detail": "Something went wrong."}, 500)
