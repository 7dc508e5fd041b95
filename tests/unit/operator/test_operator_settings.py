from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from spoke_jobs_operator import __main__
from spoke_jobs_operator.operator_settings import Settings, old_names_warnings


@pytest.mark.parametrize(("text", "namespaces"), [("", ()), ("a", ("a",)), (" a, b ,", ("a", "b"))])
def test_namespaces(monkeypatch: pytest.MonkeyPatch, text: str, namespaces: tuple[str, ...]) -> None:
    monkeypatch.setenv("SPOKE_OPERATOR_NAMESPACES", text)
    assert Settings().namespaces == namespaces


def what_is_said_as_it_does_not_start(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(ValidationError):  # seen first: or the operator would start here
        Settings()
    with pytest.raises(SystemExit) as exit_:
        __main__.main()
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_a_bad_setting_is_named_and_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPOKE_OPERATOR_WORKERS", "many")
    monkeypatch.setenv("SPOKE_OPERATOR_LOG_FORMAT", "xml")
    told = what_is_said_as_it_does_not_start(capsys)
    assert "SPOKE_OPERATOR_WORKERS is 'many', where a whole number from 1 to 256 is expected\n" in told
    assert "SPOKE_OPERATOR_LOG_FORMAT is 'xml', where 'json' or 'plain' is expected\n" in told


def test_a_quiet_operator_is_not_taken_for_an_unhealthy_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be restarted for ever: between two comparisons nothing need be heard."""
    monkeypatch.setenv("SPOKE_OPERATOR_COMPARE_SECONDS", "60")
    assert Settings().unhealthy_after_seconds == 120
    monkeypatch.setenv("SPOKE_OPERATOR_COMPARE_SECONDS", "60.5")
    told = what_is_said_as_it_does_not_start(capsys)
    assert "SPOKE_OPERATOR_UNHEALTHY_AFTER_SECONDS (120)" in told
    assert "SPOKE_OPERATOR_COMPARE_SECONDS (60.5)" in told


OLD_NAMES = {
    "NEWS_PER_SECOND": "status_writes_per_second",
    "NEWS_AT_ONCE": "status_writes_at_once",
    "NEWS_WITHIN_SECONDS": "status_writes_within_seconds",
    "DEAF_AFTER_SECONDS": "unhealthy_after_seconds",
}


@pytest.mark.parametrize(("old", "field"), OLD_NAMES.items())
def test_an_old_name_applies_and_a_warning_gives_the_new_one(
    monkeypatch: pytest.MonkeyPatch, old: str, field: str
) -> None:
    monkeypatch.setenv(f"SPOKE_OPERATOR_{old}", "301.5")
    assert getattr(Settings(), field) == 301.5
    (warning,) = old_names_warnings(os.environ)
    assert warning.startswith(f"SPOKE_OPERATOR_{old} is now SPOKE_OPERATOR_{field.upper()}: rename it")


def test_the_new_name_applies_where_both_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_OPERATOR_NEWS_AT_ONCE", "7")
    monkeypatch.setenv("SPOKE_OPERATOR_STATUS_WRITES_AT_ONCE", "8")
    assert Settings().status_writes_at_once == 8
    (warning,) = old_names_warnings(os.environ)
    assert warning.endswith("Now SPOKE_OPERATOR_STATUS_WRITES_AT_ONCE is set, too, and applies")


def test_nothing_is_said_about_present_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_OPERATOR_STATUS_WRITES_AT_ONCE", "8")
    assert old_names_warnings(os.environ) == []


def test_a_bad_value_of_an_old_name_is_told_with_both_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPOKE_OPERATOR_NEWS_AT_ONCE", "many")
    told = what_is_said_as_it_does_not_start(capsys)
    assert "SPOKE_OPERATOR_STATUS_WRITES_AT_ONCE is 'many'" in told
    assert "SPOKE_OPERATOR_NEWS_AT_ONCE is now SPOKE_OPERATOR_STATUS_WRITES_AT_ONCE" in told
