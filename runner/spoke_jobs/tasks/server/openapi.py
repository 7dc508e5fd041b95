"""The OpenAPI document of the task server."""

from __future__ import annotations

from typing import Any

from spoke_jobs.tasks.protocol.messages import (
    ATTEMPT_LIMIT,
    BATCH_LIMIT,
    BODY_LIMIT_BYTES,
    ID_LIMIT,
    JSON,
    NAME_LIMIT,
    NDJSON,
    PATH,
    TaskOutcome,
)


def document() -> dict[str, Any]:
    """Return the document, as JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "spoke-jobs tasks",
            "version": "1",
            "description": "Runs an application's tasks. Within a version of the path, fields are only added.",
        },
        "paths": {
            PATH: {"post": _accept()},
            "/healthz": {"get": _page("health", "Liveness probe.", {"200": "The process is alive."})},
            "/readyz": {
                "get": _page(
                    "readiness",
                    "Readiness probe.",
                    {"200": "The replica takes tasks.", "503": "The replica is stopping: send to another."},
                )
            },
            "/metrics": {"get": _page("metrics", "Metrics.", {"200": "Prometheus's text format, or OpenMetrics."})},
            "/openapi.json": {
                "get": {
                    "summary": "This document.",
                    "operationId": "openapi",
                    "responses": {
                        "200": {"description": "The document.", "content": {JSON: {"schema": {"type": "object"}}}}
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A service account's token of audience `spoke-tasks`, or the shared key.",
                }
            },
            "schemas": {"Task": _task(), "Acknowledgement": _acknowledgement()},
        },
    }


def _accept() -> dict[str, Any]:
    refusals = {
        "400": "The body is not a batch.",
        "401": "The credentials are missing or not valid.",
        "403": "The service account may not send tasks.",
        "408": "The body took too long.",
        "413": f"The body is over {BODY_LIMIT_BYTES:,} bytes, or holds over {BATCH_LIMIT:,} tasks.",
        "415": f"The content type is neither {NDJSON} nor {JSON}.",
    }
    later = {
        "429": "The queue is full, or too many bodies are being received: no task was accepted.",
        "503": "The replica is stopping, or cannot check the credentials now: no task was accepted.",
    }
    return {
        "summary": "Run tasks.",
        "operationId": "accept",
        "description": (
            "One acknowledgement a line, each as soon as its task has ended. Empty lines show that the server is "
            "alive. A task that was delivered before under the same id is not run again: its first outcome is sent."
        ),
        "security": [{"bearer": []}],
        "requestBody": {
            "required": True,
            "content": {
                NDJSON: {"schema": {"type": "string", "description": "One Task a line."}},
                JSON: {
                    "schema": {
                        "type": "object",
                        "required": ["tasks"],
                        "properties": {
                            "tasks": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": BATCH_LIMIT,
                                "items": {"$ref": "#/components/schemas/Task"},
                            }
                        },
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "Acknowledgements, one a line.",
                "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/Acknowledgement"}}},
            },
            **{status: _text(text) for status, text in refusals.items()},
            **{
                status: _text(text)
                | {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}
                for status, text in later.items()
            },
        },
    }


def _page(name: str, summary: str, answers: dict[str, str]) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": name,
        "responses": {status: _text(text) for status, text in answers.items()},
    }


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _task() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "name", "payload"],
        "properties": {
            "id": {
                "type": "string",
                "pattern": f"^[A-Za-z0-9._:-]{{1,{ID_LIMIT}}}$",
                "description": "The same at every delivery.",
            },
            "name": {"type": "string", "minLength": 1, "maxLength": NAME_LIMIT},
            "payload": {"description": "JSON text in a string, or any other JSON value; at most 100 kB."},
            "attempt": {"type": "integer", "minimum": 1, "maximum": ATTEMPT_LIMIT, "default": 1},
            "waited": {
                "type": "number",
                "minimum": 0,
                "description": "Seconds from the task's dispatch until it was sent.",
            },
            "traceparent": {
                "type": "string",
                "description": "The W3C trace context of the dispatch. One that is not valid is ignored.",
            },
        },
    }


def _acknowledgement() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "outcome"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "outcome": {"type": "string", "enum": [outcome.value for outcome in TaskOutcome]},
            "cause": {"type": "string"},
            "detail": {"type": "string"},
            "retry_seconds": {"type": "number", "description": "For `failed`: seconds until the next attempt."},
        },
    }
