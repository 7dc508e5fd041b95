"""Django with the dashboard below /jobs, for people whom the application has signed in as staff.

`uvicorn asgi:application` runs both. Django's own pages may stay under WSGI, in other processes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from django.conf import settings
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from spoke_jobs import configure
from spoke_jobs.web import ALL_ACTIONS, Viewer, app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django = get_asgi_application()
import jobs  # noqa: E402, F401 (after Django is set up)

configure()
sessions = import_module(settings.SESSION_ENGINE)


async def authorize(request: Request) -> Viewer | None:
    """Admit those whose name the application's sign-in has written into Django's session."""
    session = sessions.SessionStore(request.cookies.get(settings.SESSION_COOKIE_NAME))
    name = await session.aget("staff")
    return Viewer(name=name, actions=ALL_ACTIONS, organizations=None) if name else None


dashboard = app(authorize=authorize, hosts=settings.ALLOWED_HOSTS, secret=settings.SECRET_KEY)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Close the dashboard's connections at the end."""
    yield
    dashboard.close()


application = Starlette(routes=[Mount("/jobs", dashboard), Mount("/", django)], lifespan=lifespan)
