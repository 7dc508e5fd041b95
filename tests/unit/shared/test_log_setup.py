from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import log_setup
from spoke_jobs.shared.log_setup import JsonFormatter, LogFields, PlainFormatter


def record() -> logging.LogRecord:
    logger = logging.getLogger("x")
    return logger.makeRecord("x", logging.INFO, "f", 1, "attempt %d", (2,), None, extra={"request_id": 7})


def test_a_line_in_each_format() -> None:
    line = json.loads(JsonFormatter().format(record()))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "logger": "x", "message": "attempt 2", "request_id": 7}
    known = record()
    known.created, known.msecs = 0.25, 250.0
    plain = "1970-01-01T00:00:00.250Z INFO    x: attempt 2"
    assert PlainFormatter().format(known) == plain
    assert PlainFormatter(with_extra=True).format(known) == f"{plain}  request_id=7"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def circular() -> dict[str, object]:
    value: dict[str, object] = {}
    value["itself"] = value
    return value


def deep() -> object:
    value: object = "the end"
    for _ in range(5_000):
        value = [value]
    return value


STRANGE = {
    "NaN": float("nan"),
    "infinite": {"ratio": float("inf")},
    "tuple as key": {(1, 2): "pair"},
    "circular": circular(),
    "large number": 10**5_000,
    "large number within": [10**5_000],
    "unspeakable": Unspeakable(),
    "deep": deep(),
    "lone surrogate": "\ud800",
}


def strictly(text: str) -> dict[str, object]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert "\n" not in text
    read: dict[str, object] = json.loads(text, parse_constant=refuse)
    return read


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
def test_no_value_costs_a_line_or_makes_it_no_json(value: object) -> None:
    made = logging.makeLogRecord({"name": "x", "msg": "m", "extra_value": value, "request_id": 7, "ratio": 0.5})
    line = strictly(JsonFormatter().format(made))
    assert (line["message"], line["request_id"], line["ratio"]) == ("m", 7, 0.5)
    assert "extra_value" in line
    with LogFields(of_context=value):
        assert strictly(JsonFormatter().format(record()))["request_id"] == 7


@pytest.mark.parametrize("arguments", [("no number",), (Unspeakable(),), (1, 2, 3)])
def test_no_arguments_cost_a_line(arguments: tuple[object, ...]) -> None:
    made = logging.LogRecord("x", logging.INFO, "f", 1, "attempt %d of %s", arguments, None)
    assert "attempt %d of %s" in str(strictly(JsonFormatter().format(made))["message"])


def test_no_exception_costs_a_line() -> None:
    error = Unspeakable()
    made = logging.LogRecord("x", logging.INFO, "f", 1, "m", (), (Unspeakable, error, None))
    assert "Unspeakable" in str(strictly(JsonFormatter().format(made))["exception"])


def test_a_name_in_a_message_begins_no_line_of_its_own() -> None:
    forged = "a\n2026-01-01T00:00:00.000Z ERROR   spoke_jobs: forged"
    made = logging.makeLogRecord({"msg": "task %s failed", "args": (forged,), "levelname": "INFO", "job_type": forged})
    _, *further = PlainFormatter(with_extra=True).format(made).splitlines()
    assert len(further) == 2
    assert all(line.startswith("    ") for line in further)


def fields(record: logging.LogRecord) -> dict[str, object]:
    line: dict[str, object] = json.loads(JsonFormatter().format(record))
    return {name: value for name, value in line.items() if name not in {"time", "level", "logger", "message"}}


def test_a_line_within_an_attempt_has_its_fields_and_its_own_count_most() -> None:
    with LogFields(request_id=1, job_type="import"):
        with LogFields(attempt=2):
            assert fields(record()) == {"request_id": 7, "job_type": "import", "attempt": 2}
        assert fields(record()) == {"request_id": 7, "job_type": "import"}
    assert fields(record()) == {"request_id": 7}


async def test_asyncio_tasks_do_not_mix_their_fields() -> None:
    async def one(attempt: int) -> object:
        with LogFields(attempt=attempt):
            await asyncio.sleep(0)
            return fields(record())["attempt"]

    assert await asyncio.gather(*map(one, range(5))) == list(range(5))


def test_the_fields_of_a_pod_are_in_the_lines_of_all_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_setup, "_process_fields", {})
    log_setup.set_process_fields(run=1)
    found: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: found.append(fields(record())))
    thread.start()
    thread.join()
    assert found == [{"run": 1, "request_id": 7}]


@pytest.mark.parametrize(
    ("environment", "level", "kind"),
    [
        ({}, logging.INFO, PlainFormatter),
        ({"SPOKE_LOG_LEVEL": "warning", "SPOKE_LOG_FORMAT": "json"}, logging.WARNING, JsonFormatter),
        ({"SPOKE_LOG_LEVEL": "LOUD", "SPOKE_LOG_FORMAT": "xml"}, logging.INFO, PlainFormatter),
    ],
)
def test_level_and_format_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], level: int, kind: type[logging.Formatter]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    for name in ("SPOKE_LOG_LEVEL", "SPOKE_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        log_setup.configure_logging()
        assert root.level == level
        assert isinstance(root.handlers[0].formatter, kind)
    finally:
        root.setLevel(before)


def test_settings_name_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_LOG_LEVEL", "LOUD")
    monkeypatch.setenv("SPOKE_LOG_FORMAT", "xml")
    with pytest.raises(ConfigurationError, match=r"SPOKE_LOG_LEVEL.*SPOKE_LOG_FORMAT"):
        load_settings()
    monkeypatch.setenv("SPOKE_LOG_LEVEL", "debug")
    monkeypatch.setenv("SPOKE_LOG_FORMAT", "json")
    assert load_settings().log_level == "DEBUG"
