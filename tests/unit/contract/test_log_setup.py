from __future__ import annotations

import json
import logging

from spoke_jobs.contract.log_setup import JsonFormatter, PlainFormatter


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
    known = record()
    known.created, known.msecs = 0.25, 250.0
    assert PlainFormatter().format(known) == "1970-01-01T00:00:00.250Z INFO    x: attempt 2"
    assert (
        PlainFormatter(with_extra=True).format(known) == "1970-01-01T00:00:00.250Z INFO    x: attempt 2  request_id=7"
    )
