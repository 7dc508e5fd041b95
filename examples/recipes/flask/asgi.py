"""The application with the dashboard below /jobs, for people whom the application has signed in as staff.

Flask speaks WSGI, and the dashboard ASGI, because its pages follow what happens. So an ASGI server runs both, and
asgiref is the bridge: `uvicorn asgi:application`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app import create_app
from asgiref.sync import ThreadSensitiveContext
from asgiref.wsgi import WsgiToAsgi
from flask import session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from spoke_jobs.web import ALL_ACTIONS, Viewer, app

flask = create_app()
flask.secret_key = os.environ["SECRET_KEY"]
bridge = WsgiToAsgi(flask)


def authorize(request: Request) -> Viewer | None:
    """Admit those whose name the application's sign-in has written into Flask's session."""
    with flask.test_request_context(headers={"Cookie": request.headers.get("cookie", "")}):
        name = session.get("staff")
    return Viewer(name=name, actions=ALL_ACTIONS, organizations=None) if name else None


dashboard = app(authorize=authorize, hosts=["127.0.0.1", "localhost"], secret=flask.secret_key)


async def in_threads(scope: Scope, receive: Receive, send: Send) -> None:
    """Run each request of Flask on a thread of its own: by default, one thread runs all."""
    async with ThreadSensitiveContext():
        await bridge(scope, receive, send)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Close the dashboard's connections at the end."""
    yield
    dashboard.close()


application = Starlette(routes=[Mount("/jobs", dashboard), Mount("/", in_threads)], lifespan=lifespan)
