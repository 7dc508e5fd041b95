from __future__ import annotations

import pytest

from spoke_jobs.shared.api_errors import (
    AlreadyExists,
    ApiError,
    ApiUnavailable,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NoAnswer,
    NotFound,
    ServerError,
    StreamSilent,
    TooManyRequests,
    Unauthorized,
    api_error,
    error_of_answer,
)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (0, "NoAnswer", NoAnswer),
        (400, "BadRequest", ApiError),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", TooManyRequests),
        (500, "InternalError", ServerError),
        (504, "Timeout", ServerError),
    ],
)
def test_the_class_follows_from_status_and_reason(status: int, reason: str, kind: type[ApiError]) -> None:
    error = api_error(status, reason, "words")
    assert type(error) is kind
    assert (error.status, error.reason) == (status, reason)


def test_only_errors_that_would_befall_any_call_say_that_the_server_is_unavailable() -> None:
    def unavailable(status: int) -> bool:
        return isinstance(api_error(status, "", ""), ApiUnavailable)

    assert [status for status in (0, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503) if unavailable(status)] == [
        0,
        429,
        500,
        503,
    ]
    assert isinstance(StreamSilent("nothing came"), ApiUnavailable)


def test_an_answer_is_read_with_the_object_that_it_is_about() -> None:
    answer = {"reason": "NotFound", "message": 'pods "p" not found', "details": {"name": "p"}}
    error = error_of_answer(404, "Not Found", answer, b"", None)
    assert isinstance(error, NotFound)
    assert error.object_name == "p"
    assert str(error) == '404 NotFound: pods "p" not found'


@pytest.mark.parametrize("answer", [None, [], "text", {"reason": 7, "details": []}])
def test_an_answer_of_another_shape_is_shown_as_it_came(answer: object) -> None:
    error = error_of_answer(502, "Bad Gateway", answer, b"<html>" + b"x" * 1000, "soon")
    assert isinstance(error, ServerError)
    assert str(error).startswith("502 Bad Gateway: <html>x")
    assert len(error.message) == 200
    assert (error.object_name, error.retry_after_seconds) == ("", None)


def test_how_long_to_wait_is_read_from_the_header() -> None:
    assert error_of_answer(429, "", {}, b"", "7").retry_after_seconds == 7


@pytest.mark.parametrize(("header", "seconds"), [(None, 0), ("0", 0), ("7", 7), ("3600", 60), ("soon", 0)])
def test_a_pause_is_as_long_as_the_api_server_asks_within_a_minute(header: str | None, seconds: float) -> None:
    assert error_of_answer(429, "TooManyRequests", {}, b"", header).pause_seconds == seconds
