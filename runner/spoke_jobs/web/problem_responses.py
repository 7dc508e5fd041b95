"""Errors of the JSON API as responses, also of those that no endpoint answers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from spoke_jobs.shared.clean_text import visible_json
from spoke_jobs.web.api_document import NO_ERRORS, PROBLEM, problem


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
