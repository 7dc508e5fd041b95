"""An application that can't be imported: its own traceback, and one line with the place and the way out."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path

import pytest

from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import Settings


@pytest.mark.parametrize(
    ("text", "line", "error", "way_out"),
    [
        (
            "import json\n\nimport no_such_package_x\n",
            3,
            "ModuleNotFoundError: No module named 'no_such_package_x'",
            "install the package that has 'no_such_package_x', or correct the import",
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError: division by zero", "correct the application"),
        ("raise SystemExit(3)\n", 1, "SystemExit: 3", "correct the application"),
    ],
)
def test_an_application_that_raises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    line: int,
    error: str,
    way_out: str,
) -> None:
    file = tmp_path / "broken_shop.py"
    file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_shop", raising=False)
    with pytest.raises(ConfigurationError) as refusal:
        open_application(Settings(app="broken_shop"), with_traceback=True)
    message = str(refusal.value)
    assert message.startswith(f"SPOKE_APP=broken_shop can't be imported: {error}")
    assert f"({file}, line {line}): {way_out}" in message
    shown = capsys.readouterr().err
    assert f'File "{file}", line {line}' in shown
    assert error in shown
    assert "importlib" not in shown
    assert "/spoke_jobs/" not in shown


def test_an_application_is_imported_without_garbage_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "large_shop.py"
    file.write_text("import gc\n\nwas_on = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "large_shop", raising=False)
    gc.enable()
    # It declares no job, which is an error unless an earlier test of this process has declared one.
    with contextlib.suppress(ConfigurationError):
        open_application(Settings(app="large_shop"))
    assert not sys.modules["large_shop"].was_on
    assert gc.isenabled()
