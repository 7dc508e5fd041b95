from __future__ import annotations

import json
import logging

from spoke_jobs_operator.shell.json_logs import JsonFormatter, PlainFormatter, Repeats


def record() -> logging.LogRecord:
    logger = logging.getLogger("x")
    return logger.makeRecord("x", logging.INFO, "f", 1, "attempt %d", (2,), None, extra={"request_id": 7})


def test_json() -> None:
    line = json.loads(JsonFormatter().format(record()))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "logger": "x", "message": "attempt 2", "request_id": 7}


def test_an_exception_is_within_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        failed = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "m", (), (ValueError, error, error.__traceback__)
        )
    text = JsonFormatter().format(failed)
    assert "\n" not in text
    assert "ValueError: no" in json.loads(text)["exception"]


def test_plain() -> None:
    assert PlainFormatter().format(record()).endswith("INFO    attempt 2  request_id=7")


def test_a_request_that_kopf_tries_for_ever_is_told_of_once_in_a_while() -> None:
    clock = [0.0]
    repeats = Repeats(every_seconds=600, clock=lambda: clock[0])

    def passes(attempt: int, path: str, name: str = "kopf._cogs.clients.api") -> bool:
        text = f"Request attempt #{attempt} failed; will retry: GET https://k/{path} -> APIForbiddenError()"
        return repeats.filter(logging.getLogger(name).makeRecord(name, logging.ERROR, "f", 1, text, (), None))

    assert passes(1, "a?watch=true&resourceVersion=1")
    assert not passes(2, "a?watch=true&resourceVersion=2")
    assert passes(1, "b")
    assert passes(2, "b", name="spoke_jobs_operator")
    clock[0] = 601
    assert passes(99, "a")
