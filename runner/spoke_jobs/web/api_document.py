"""The OpenAPI document of the JSON API, from the table of its requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic.json_schema import models_json_schema

from spoke_jobs.web.answers import ApiReading
from spoke_jobs.web.query_values import Parameter, number

API = "/api/v1"
JSON = "application/json"
PROBLEM = "application/problem+json"
OPENAPI = "/openapi.json"
NO_ERRORS: Mapping[str, str] = MappingProxyType({})
_SCHEMAS = "#/components/schemas/"
_RESPONSES = "#/components/responses/"
_REFUSALS = {
    400: "A parameter is not valid; `errors` says which.",
    401: "You are not signed in, or may not look at the dashboard.",
    403: "You may not see this.",
    404: "There is no such thing, it was pruned, or you may not see it.",
    500: "Unexpected error. The dashboard's log has it.",
    503: "The database takes too long, is busy or away, or has more schedules than can be looked through.",
}
_DESCRIPTION = (
    "What the dashboard of spoke-jobs knows, as the documents that `spoke-jobs COMMAND --json` prints. Within a "
    "version of the path, fields are only added. Nothing is said about jobs of organizations that you may not see. "
    "Lists have the addresses of their next parts in the header `Link`: `next` for older entries, `prev` for "
    "newer ones. A part may be empty, and still have a next one."
)


def phrase(status: int) -> str:
    """Return the title of a status, also of one that no standard has."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem(status: int, detail: str, errors: Mapping[str, str] = NO_ERRORS) -> dict[str, Any]:
    """Return the document of an error (RFC 9457).

    :param errors: what is wrong with parameters, by their names.
    """
    found: dict[str, Any] = {"title": phrase(status), "status": status, "detail": detail}
    if errors:
        found["errors"] = [{"parameter": name, "detail": text} for name, text in errors.items()]
    return found


def openapi(routes: Sequence[ApiReading], root: str, schemes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document, as JSON values.

    :param root: the path below which the dashboard is mounted.
    :param schemes: the ways to sign in, by name.
    """
    shapes = list(dict.fromkeys(route.shape for route in routes))
    _, schemas = models_json_schema([(shape, "serialization") for shape in shapes], ref_template=f"{_SCHEMAS}{{model}}")
    refused = {
        _name(status): {"description": said, "content": {PROBLEM: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}}
        for status, said in _REFUSALS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "spoke-jobs dashboard", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": f"{root}{API}"}],
        # Without a scheme, a proxy or the application decides. An empty list would say that anybody may ask.
        **({"security": [{name: []} for name in schemes]} if schemes else {}),
        "paths": {route.path: {"get": _operation(route)} for route in routes} | {OPENAPI: {"get": _own()}},
        "components": {
            "securitySchemes": dict(schemes),
            "responses": refused,
            "schemas": schemas["$defs"] | {"Problem": _PROBLEM},
        },
    }


def _operation(route: ApiReading) -> dict[str, Any]:
    parts = [part for part in route.path.split("/") if part and not part.startswith("{")]
    ids = [{"name": name, "in": "path", "required": True, "schema": number(1).schema} for name in route.ids]
    answers = [400, 401, *([403] if route.refuses else []), *([404] if ids else []), 500, 503]
    answer: dict[str, Any] = {
        "description": f"As `spoke-jobs {route.command} --json` prints it.",
        "content": {JSON: {"schema": {"$ref": f"{_SCHEMAS}{route.shape.__name__}"}}},
    }
    if any(parameter.name == "limit" for parameter in route.parameters):
        link = {"description": "The addresses of the next parts of the list (RFC 8288).", "schema": {"type": "string"}}
        answer["headers"] = {"Link": link}
    return {
        "summary": route.summary,
        "operationId": "_".join([*(["one"] if route.path.endswith("}") else []), *parts]),
        "parameters": [*ids, *map(_parameter, route.parameters)],
        "responses": {"200": answer} | _refused(answers),
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    default = {} if parameter.default is None else {"default": parameter.default}
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.meaning,
        "schema": {**parameter.kind.schema, **default},
    }


def _own() -> dict[str, Any]:
    answer = {"description": "The document.", "content": {JSON: {"schema": {"type": "object"}}}}
    return {
        "summary": "This document.",
        "operationId": "openapi",
        "responses": {"200": answer} | _refused([400, 401, 500]),
    }


def _refused(statuses: Sequence[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"{_RESPONSES}{_name(status)}"} for status in statuses}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


_PROBLEM = {
    "type": "object",
    "description": "What is wrong with a request (RFC 9457).",
    "required": ["title", "status", "detail"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for people. It may change between releases."},
        "errors": {
            "type": "array",
            "description": "The parameters that are not valid.",
            "items": {
                "type": "object",
                "required": ["parameter", "detail"],
                "properties": {"parameter": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
