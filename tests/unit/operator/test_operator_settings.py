from __future__ import annotations

import pytest
from pydantic import ValidationError

from spoke_jobs_operator import __main__
from spoke_jobs_operator.operator_settings import Settings


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


def test_a_quiet_operator_is_not_taken_for_a_deaf_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be restarted for ever: between two comparisons nothing need be heard."""
    monkeypatch.setenv("SPOKE_OPERATOR_COMPARE_SECONDS", "60")
    assert Settings().deaf_after_seconds == 120
    monkeypatch.setenv("SPOKE_OPERATOR_COMPARE_SECONDS", "60.5")
    told = what_is_said_as_it_does_not_start(capsys)
    assert "SPOKE_OPERATOR_DEAF_AFTER_SECONDS (120)" in told
    assert "SPOKE_OPERATOR_COMPARE_SECONDS (60.5)" in told
