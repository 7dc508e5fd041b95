"""The ASGI application: who sends a request, which page answers it, and what an error looks like."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolBusy
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.limits_and_pauses.limit_rows import limits_of
from spoke_jobs.ledger.notify import TASKS_CHANNEL, Notifier
from spoke_jobs.ledger.outbox.outbox_queries import OutboxQueries
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.sql.lock_patience import LockPatience
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.settings import load_settings
from spoke_jobs.shared.secret_file import Secret, value_of
from spoke_jobs.web.answers import (
    NARROWER,
    OF_ALL_ONLY,
    Acting,
    Answer,
    Asked,
    Elsewhere,
    Page,
    Reading,
    Redirect,
    Room,
    database_problem,
    not_allowed,
    refusal,
)
from spoke_jobs.web.api_document import phrase
from spoke_jobs.web.api_endpoints import NOT_SIGNED_IN, ApiEndpoints
from spoke_jobs.web.api_reads import ApiReads
from spoke_jobs.web.audit_pages import AuditPages
from spoke_jobs.web.authorizers import Authorize, Authorizer, Hook
from spoke_jobs.web.batch_pages import BatchPages
from spoke_jobs.web.bulk_pages import BulkPages
from spoke_jobs.web.change_stream import ChangeStream
from spoke_jobs.web.cluster_pages import ClusterPages
from spoke_jobs.web.cluster_reads import ClusterReads
from spoke_jobs.web.failure_pages import FailurePages
from spoke_jobs.web.guard import HEALTH, LOOPBACK_HOSTS, Guard, host_name, is_api, is_cross_site, read_form
from spoke_jobs.web.job_search import address
from spoke_jobs.web.page_rendering import page_rendering, reader_zone
from spoke_jobs.web.pages import Pages
from spoke_jobs.web.queue_pages import QueuePages
from spoke_jobs.web.schedule_pages import SchedulePages
from spoke_jobs.web.signed_sessions import LASTING_SECONDS, Session, Signer
from spoke_jobs.web.start_pages import StartPages
from spoke_jobs.web.suggested_names import SuggestedNames
from spoke_jobs.web.task_pages import TaskPages
from spoke_jobs.web.viewer import Viewer
from spoke_jobs.web.wanted_page import (
    CALLBACK,
    FIELD,
    OVERVIEW,
    SIGN_IN,
    SIGNED_OUT,
    START,
    local_page,
    sign_in_address,
    wanted_page,
)

STATEMENT_SECONDS = 3.0
"""How long a statement of a page may take (PostgreSQL)."""
_LOCK_SECONDS = 2.0
_THREADS = 8
_POOL_SECONDS = 3.0
COOKIE = "spoke_jobs_session"
_EVENTS = "text/event-stream"

UNEXPECTED = "The dashboard's log has the error."
R = TypeVar("R")
logger = logging.getLogger(__name__)


def app(
    *,
    authorize: Authorizer | Authorize,
    hosts: Collection[str],
    database: Secret | None = None,
    namespace: str | None = None,
    application: str | None = None,
    secret: Secret = "",
    secure_cookies: bool = True,
) -> Guard:
    """Make the dashboard's ASGI application.

    :param authorize: who may look: an :class:`Authorizer`, or a function, also a coroutine function, from a request to
        a :class:`Viewer`, or to None for nobody.
    :param hosts: the names under which browsers reach it. Requests for other hosts are refused.
    :param database: the ledger's database; by default that of SPOKE_DATABASE_URL.
    :param namespace: the namespace of the SpokeJobs; by default that of SPOKE_NAMESPACE, or the pod's own.
    :param application: the module that declares the jobs, so that a schedule's job can be run now; by default that of
        SPOKE_APP. It is imported when somebody does that first. Empty: nobody can.
    :param secret: what sessions are signed with if ``authorize`` is a function. Replicas need the same one.
    :param secure_cookies: whether browsers send the cookie only over TLS, or to this machine.
    :raises ConfigurationError: if no host is named, or the database's URL is not usable.
    """
    if not hosts or "*" in hosts:
        raise ConfigurationError("name the hosts under which browsers reach the dashboard, each by itself")
    settings = load_settings()
    engine = open_engine(settings.database if database is None else database)
    authorizer = authorize if isinstance(authorize, Authorizer) else Hook(authorize, secret)
    cluster = ClusterReads(settings.namespace if namespace is None else namespace)
    dashboard = Dashboard(
        engine,
        authorizer,
        cluster,
        runner=settings.job_runner.strip(),
        application=settings.app if application is None else application,
        secure_cookies=secure_cookies,
    )
    pages = Starlette(
        routes=dashboard.routes(),
        exception_handlers={HTTPException: dashboard.on_http_error, Exception: dashboard.on_error},
        lifespan=dashboard.lifespan,
    )
    # The redirect would lead to http:// behind a proxy that ends TLS, and programs may send their token there, too.
    pages.router.redirect_slashes = False
    # Around Starlette's own middleware, so that its answers have the headers, too.
    return Guard(pages, hosts, dashboard.close, dashboard.end_streams)


def open_engine(database: Secret) -> Engine:
    """Make an engine whose statements end after :data:`STATEMENT_SECONDS` (PostgreSQL).

    PostgreSQL does not compile them to machine code: that would take longer than they do.
    """
    sqlite = value_of(database).startswith("sqlite")
    pool: dict[str, Any] = {} if sqlite else {"pool_size": _THREADS, "max_overflow": 0, "pool_timeout": _POOL_SECONDS}
    engine = create_engine(database, **pool)
    if engine.dialect.name == "postgresql":

        @event.listens_for(engine, "begin")
        def on_begin(connection: Connection) -> None:
            milliseconds = round(STATEMENT_SECONDS * 1000)
            timeout = f"set_config('statement_timeout', '{milliseconds}ms', true)"
            connection.exec_driver_sql(f"SELECT {timeout}, set_config('jit', 'off', true)")

    return engine


class Dashboard:
    """Answers requests."""

    def __init__(
        self,
        engine: Engine,
        authorizer: Authorizer,
        cluster: ClusterReads,
        *,
        runner: str,
        application: str = "",
        secure_cookies: bool = True,
    ) -> None:
        self._engine = engine
        self._ledger = SqlLedger(engine, patience=LockPatience(_LOCK_SECONDS))
        self._task_notifier = Notifier(engine, TASKS_CHANNEL)
        queries = DashboardQueries(engine)
        suggested = SuggestedNames(queries.recent_names)
        self._rooms: tuple[Room, ...] = (
            Pages(self._ledger, queries, cluster, suggested),
            StartPages(self._ledger, queries),
            BulkPages(self._ledger, queries),
            FailurePages(engine, queries),
            QueuePages(queries, limits_of(engine, runner), self._notify, suggested),
            SchedulePages(engine, queries, application, self._notify),
            BatchPages(self._ledger, queries),
            ClusterPages(engine, queries, cluster),
            TaskPages(queries, OutboxQueries(engine), self._task_notifier.notify),
            AuditPages(queries),
        )
        self._authorizer = authorizer
        self._cluster = cluster
        self._secure = secure_cookies
        self._threads = ThreadPoolExecutor(_THREADS, "spoke-web")
        self._rendering = page_rendering()
        self._stream = ChangeStream(engine)
        table = ApiReads(queries, cluster).routes()
        self._api = ApiEndpoints(table, self._viewer, self._read, self._cookie, self._schemes)

    def _notify(self) -> None:
        self._ledger.notifier.notify()

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Close connections at the end."""
        yield
        self.close()

    def end_streams(self) -> None:
        """End what browsers keep open. Safe in a signal handler."""
        self._stream.end()

    def close(self) -> None:
        """Close connections, and end threads."""
        self._stream.close()
        self._cluster.close()
        self._threads.shutdown()
        self._ledger.close_notifier()
        self._task_notifier.close()
        self._engine.dispose()

    def routes(self) -> list[Route]:
        """Return the routes. An unknown address gets the same answer whoever asks."""
        get, post = ["GET"], ["POST"]
        return [
            *(self._route(each) for room in self._rooms for each in room.routes()),
            *self._api.routes(),
            Route("/changes", self._changes, methods=get),
            Route(SIGN_IN, self._sign_in_page, methods=get),
            Route(SIGN_IN, self._sign_in, methods=post),
            Route(START, self._to_provider, methods=get),
            Route(CALLBACK, self._from_provider, methods=get),
            Route(SIGNED_OUT, self._signed_out, methods=get),
            Route("/sign-out", self._sign_out, methods=post),
            Route("/static/{name}", self._static_file, methods=get),
            Route(HEALTH, _healthy, methods=get),
        ]

    async def on_http_error(self, request: Request, error: Exception) -> Response:
        """Answer for an unknown address or method, or for what `authorize` refuses with an exception."""
        assert isinstance(error, HTTPException)
        said = str(error.detail) if error.detail != phrase(error.status_code) else ""  # FastAPI's is any JSON value
        if is_api(request.scope):
            refused = self._api.unanswered(request, error.status_code, said)
            refused.headers.update(error.headers or {})
            return refused
        text = {404: "There is no such page.", 405: "This address does not answer to this method."}
        title = "Not found" if error.status_code == 404 else "Refused"
        page = refusal(title, said or text.get(error.status_code, f"{phrase(error.status_code)}."), 400)
        response = self._render(request, page, None, None)
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    async def on_error(self, request: Request, error: Exception) -> Response:
        """Answer for an unexpected error. The log has it."""
        if is_api(request.scope):
            return self._api.refused(500, UNEXPECTED)
        page = refusal("Something went wrong", UNEXPECTED, 500)
        return self._render(request, page, None, None)

    def _route(self, each: Reading | Acting) -> Route:
        async def endpoint(request: Request) -> Response:
            session = self._session(request)
            viewer = await self._authorizer.viewer(request, session)
            if viewer is None:
                return self._unknown(request, session)
            given: Mapping[str, str] | Page = request.query_params
            if isinstance(each, Acting):
                given = await self._form(request, session, viewer.name)
            if isinstance(given, Page):
                return self._answered(request, given, viewer, session)
            if each.needs is not None and each.needs not in viewer.actions:
                return self._answered(request, not_allowed(each.needs), viewer, session)
            if each.of_all and not viewer.sees_all:
                return self._answered(request, OF_ALL_ONLY, viewer, session)
            asked = Asked(request.path_params, given, reader_zone(request.cookies))
            if isinstance(each, Acting):
                answer = await self._read(partial(each.act, viewer, asked), changes=True)
            else:
                answer = await self._read(partial(each.read, viewer, asked), too_slow=each.too_slow)
            return self._answered(request, answer, viewer, session)

        return Route(each.path, endpoint, methods=["POST" if isinstance(each, Acting) else "GET"])

    async def _read(self, read: Callable[[], R], *, too_slow: str = NARROWER, changes: bool = False) -> R | Page:
        """Run what blocks on a thread. An error of the database becomes a page.

        :param too_slow: what to do if the database takes too long.
        :param changes: whether it is an action.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except PoolBusy:
            return refusal("Busy", "All connections to the database are in use. Try again in a moment.", 503)
        except DBAPIError as error:
            page = database_problem(error, STATEMENT_SECONDS, too_slow=too_slow, changes=changes)
            if page is None:
                raise
            return page

    async def _form(self, request: Request, session: Session, name: str) -> dict[str, str] | Page:
        """Read a form that the dashboard itself made for this viewer and this session."""
        if is_cross_site(request):
            return refusal("Refused", "Another site sent this form.", 403)
        form = await read_form(request)
        if form is None:
            return refusal("Refused", "This is not a form of the dashboard.", 400)
        if not self._signer().is_form_token(form.get("token", ""), session, name):
            return refusal("The form is out of date", "Go back, reload the page, and try again.", 403)
        return form

    async def _changes(self, request: Request) -> Response:
        """Tell a browser when something may have changed."""
        session = self._session(request)
        viewer = await self._authorizer.viewer(request, session)
        if viewer is None:
            return self._unknown(request, session)
        if request.method != "GET":  # a stream without a body would be one too many
            raise HTTPException(405)
        if self._stream.is_full:
            return PlainTextResponse("Too many browsers get live updates.\n", 503)
        events = self._stream.events(notified=viewer.sees_all)
        # A proxy must not keep the events until there are more of them.
        return StreamingResponse(events, headers={"X-Accel-Buffering": "no"}, media_type=_EVENTS)

    async def _sign_in_page(self, request: Request) -> Response:
        session = self._session(request)
        if not self._authorizer.signs_in:
            return self._render(request, refusal("Not found", "There is no such page.", 404), None, None)
        wanted = local_page(request.query_params.get(FIELD, OVERVIEW))
        if await self._authorizer.viewer(request, session) is not None:
            return self._answered(request, Redirect(wanted), None, session)
        return self._answered(request, self._sign_in_form(wanted), None, session)

    async def _to_provider(self, request: Request) -> Response:
        """Send a browser to the identity provider."""
        if self._authorizer.provider is None:
            raise HTTPException(404)
        wanted = local_page(request.query_params.get(FIELD, OVERVIEW))
        answer, session = await self._authorizer.provider.start(self._session(request), wanted, time.time())
        return self._answered(request, answer, None, session)

    async def _from_provider(self, request: Request) -> Response:
        """Take a browser back from the identity provider."""
        if self._authorizer.provider is None:
            raise HTTPException(404)
        if request.method != "GET":  # whoever looks at a link must not use up its code
            raise HTTPException(405)
        answer, session = await self._authorizer.provider.finish(
            self._session(request), request.query_params, time.time()
        )
        return self._answered(request, answer, None, session)

    async def _signed_out(self, request: Request) -> Response:
        """Tell somebody that the identity provider may still know them."""
        if self._authorizer.provider is None:
            raise HTTPException(404)
        session = self._session(request)
        if await self._authorizer.viewer(request, session) is not None:
            return self._answered(request, Redirect(OVERVIEW), None, session)
        end = await self._authorizer.provider.sign_out_address()
        values = {"title": "Signed out", "provider": self._authorizer.provider.name, "end": end}
        return self._answered(request, Page("signed_out.html", values), None, session)

    async def _sign_in(self, request: Request) -> Response:
        session = self._session(request)
        form = await self._form(request, session, "")
        if isinstance(form, Page):
            return self._answered(request, form, None, session)
        wanted = local_page(form.get(FIELD, OVERVIEW))
        if not self._authorizer.signs_in or not self._authorizer.is_token(form.get("secret", "").strip()):
            logger.warning("a sign-in was refused, from %s", request.client.host if request.client else "?")
            page = self._sign_in_form(wanted, "This is not the token.", 403)
            return self._answered(request, page, None, session)
        return self._answered(request, Redirect(wanted), None, Session.begin(time.time(), signed_in=True))

    async def _sign_out(self, request: Request) -> Response:
        session = self._session(request)
        viewer = await self._authorizer.viewer(request, session)
        form = await self._form(request, session, viewer.name if viewer else "")
        if isinstance(form, Page):
            return self._answered(request, form, viewer, session)
        signed_out = SIGN_IN if self._authorizer.provider is None else SIGNED_OUT
        return self._answered(request, Redirect(signed_out), None, Session.begin(time.time()))

    def _sign_in_form(self, wanted: str, problem: str = "", status: int = 200) -> Page:
        provider = self._authorizer.provider
        if provider is not None:
            start = address(START, **{FIELD: "" if wanted == OVERVIEW else wanted})
            return Page("sign_in_elsewhere.html", {"title": "Sign in", "provider": provider.name, "start": start}, 200)
        values = {"title": "Sign in", "problem": problem, "field": FIELD, "wanted": wanted}
        return Page("sign_in.html", values, status)

    async def _static_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = self._rendering.static_file(name)
        if found is None:
            raise HTTPException(404)
        content, media_type = found
        lasts = self._rendering.is_version(name, request.query_params.get("v"))
        headers = {"Cache-Control": "public, max-age=31536000, immutable"} if lasts else {}
        return Response(content, headers=headers, media_type=media_type)

    def _unknown(self, request: Request, session: Session) -> Response:
        """Answer somebody who may not look."""
        reads_page = request.method == "GET" and _EVENTS not in request.headers.get("accept", "")
        if self._authorizer.signs_in and reads_page and "authorization" not in request.headers:
            path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
            wanted = wanted_page(path, request.scope["query_string"])
            return self._answered(request, Redirect(sign_in_address(wanted)), None, session)
        page = refusal("Not allowed", NOT_SIGNED_IN, 401)
        return self._render(request, page, None, None)

    async def _viewer(self, request: Request) -> Viewer | None:
        return await self._authorizer.viewer(request, self._session(request))

    def _schemes(self, cookie: str) -> dict[str, Any]:
        """Describe the ways to sign in for the OpenAPI document. A proxy or an application has its own."""
        session = {"type": "apiKey", "in": "cookie", "name": cookie, "description": "Who has signed in."}
        bearer = {"type": "http", "scheme": "bearer", "description": "The dashboard's token."}
        if not self._authorizer.signs_in:
            return {}
        return {"session": session} | ({} if self._authorizer.provider is not None else {"bearer": bearer})

    def _session(self, request: Request) -> Session:
        """Return the browser's session, or a new one."""
        found = self._signer().session(request.cookies.get(self._cookie(request), ""), time.time())
        return found if found is not None else Session.begin(time.time())

    def _cookie(self, request: Request) -> str:
        """Return the name of the session's cookie.

        With the prefix, browsers take it only from this host, over TLS and for all its paths. Otherwise a page of a
        neighboring host could set it, and sign people in as somebody else. On the same machine there are no
        neighbors, and some browsers refuse the prefix without TLS.
        """
        local = host_name(request.headers.get("host", "")) in LOOPBACK_HOSTS
        return COOKIE if local or not self._secure or request.scope.get("root_path") else f"__Host-{COOKIE}"

    def _signer(self) -> Signer:
        return Signer(self._authorizer.signing_key())

    def _answered(self, request: Request, answer: Answer, viewer: Viewer | None, session: Session) -> Response:
        root = request.scope.get("root_path", "")
        response: Response
        if isinstance(answer, Redirect):
            response = RedirectResponse(root + answer.path, 303)
        elif isinstance(answer, Elsewhere):
            response = RedirectResponse(answer.address, 303)
        else:
            response = self._render(request, answer, viewer, session)
        name, value = self._cookie(request), self._signer().cookie(session)
        if request.cookies.get(name) != value:
            response.set_cookie(
                name,
                value,
                max_age=LASTING_SECONDS,
                path=root or "/",
                secure=self._secure,
                httponly=True,
                # With "strict", a browser that follows a link from another site would not send it, and the answer would
                # replace it: a link in an alert would sign people out. Forms have tokens of their own.
                samesite="lax",
            )
        return response

    def _render(self, request: Request, page: Page, viewer: Viewer | None, session: Session | None) -> Response:
        name = viewer.name if viewer is not None else ""
        text = self._rendering.text(
            page,
            viewer,
            root=request.scope.get("root_path", ""),
            here=request.url.path,
            signs_in=self._authorizer.signs_in,
            token=self._signer().form_token(session, name) if session is not None else "",
            zone=str(reader_zone(request.cookies)),
        )
        return HTMLResponse(text, page.status)


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("ok\n")
