"""Answer requests of the JSON API: who asks, whether the parameters are valid, and what an error looks like."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spoke_jobs.shared.clean_text import visible_json
from spoke_jobs.web.answers import LATER, OF_ALL_ONLY, ApiReading, Asked, Page
from spoke_jobs.web.api_document import API, JSON, NO_ERRORS, OPENAPI, openapi, phrase
from spoke_jobs.web.guard import problem_response
from spoke_jobs.web.query_values import NO_PARAMETERS, parameter_problems
from spoke_jobs.web.viewer import Viewer

NOT_SIGNED_IN = "You may not look at this dashboard, or you have to sign in."
R = TypeVar("R")


class Reads(Protocol):
    """Runs what blocks on a thread. An error of the database becomes a page that refuses."""

    def __call__(self, read: Callable[[], R], *, too_slow: str) -> Awaitable[R | Page]:
        """Run it."""


class ApiEndpoints:
    """Answers requests.

    :param table: the requests.
    :param viewer: finds who sends a request; None for nobody who may look.
    :param cookie: finds the name of the cookie with which a browser has signed in.
    :param schemes: the ways to sign in, as the OpenAPI document describes them, for a name of the cookie.
    """

    def __init__(
        self,
        table: Iterable[ApiReading],
        viewer: Callable[[Request], Awaitable[Viewer | None]],
        read: Reads,
        cookie: Callable[[Request], str],
        schemes: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._table = tuple(table)
        self._viewer = viewer
        self._read = read
        self._cookie = cookie
        self._schemes = schemes
        self._document = lru_cache(maxsize=4)(self._new_document)

    def routes(self) -> list[Route]:
        """Return the routes."""
        own = Route(f"{API}{OPENAPI}", self._openapi, methods=["GET"])
        return [own, *(Route(f"{API}{each.path}", self._endpoint(each), methods=["GET"]) for each in self._table)]

    def unanswered(self, request: Request, status: int, detail: str) -> Response:
        """Return the problem document of a request that no endpoint answers.

        :param detail: what is wrong; empty if only the status says it.
        """
        root = request.scope.get("root_path", "")
        said = {
            404: f"There is no such address: {root}{API}{OPENAPI} lists them.",
            405: "The API only reads: send GET.",
        }
        return self.refused(status, detail or said.get(status, f"{phrase(status)}."))

    def refused(self, status: int, detail: str, errors: Mapping[str, str] = NO_ERRORS) -> Response:
        """Return the problem document of an error."""
        response = problem_response(status, detail, errors)
        if status == 401 and "bearer" in self._schemes(""):  # RFC 9110 wants a challenge, and there is one for tokens
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _endpoint(self, route: ApiReading) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            viewer = await self._viewer(request)
            if viewer is None:
                return self.refused(401, NOT_SIGNED_IN)
            if route.of_all and not viewer.sees_all:
                return self._page(OF_ALL_ONLY)
            if errors := parameter_problems(route.parameters, request.query_params.multi_items()):
                return self.refused(400, "A parameter is not valid.", errors)
            asked = Asked(request.path_params, request.query_params)
            answer = await self._read(partial(_document, route, viewer, asked), too_slow=route.too_slow)
            if isinstance(answer, Page):
                return self._page(answer)
            text, links = answer
            root = request.scope.get("root_path", "")
            link = ", ".join(f'<{root}{API}{address}>; rel="{rel}"' for rel, address in links.items() if address)
            return Response(text, headers={"Link": link} if link else None, media_type=JSON)

        return endpoint

    async def _openapi(self, request: Request) -> Response:
        if await self._viewer(request) is None:
            return self.refused(401, NOT_SIGNED_IN)
        if errors := parameter_problems(NO_PARAMETERS, request.query_params.multi_items()):
            return self.refused(400, "A parameter is not valid.", errors)
        document = partial(self._document, request.scope.get("root_path", ""), self._cookie(request))
        text = await self._read(document, too_slow=LATER)
        return self._page(text) if isinstance(text, Page) else Response(text, media_type=JSON)

    def _new_document(self, root: str, cookie: str) -> str:
        return json.dumps(openapi(self._table, root, self._schemes(cookie)))

    def _page(self, page: Page) -> Response:
        """Return the problem document that says the same as a page that refuses."""
        return self.refused(page.status, page.values["text"])


def _document(route: ApiReading, viewer: Viewer, asked: Asked) -> tuple[str, Mapping[str, str]] | Page:
    """Read a document, as JSON text, with the addresses of the next parts of its list."""
    found = route.read(viewer, asked)
    if isinstance(found, Page):
        return found
    assert isinstance(found.value, route.shape)
    return visible_json(found.value.model_dump_json()), {"prev": found.newer, "next": found.older}
