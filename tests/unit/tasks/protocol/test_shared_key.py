"""The tasks' key in a file, which both sides read again when it changes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import SecretFile
from spoke_jobs.tasks.client.credentials import credentials_of
from spoke_jobs.tasks.server.auth import Callers

OLD, NEW = "old-" * 10, "new-" * 10
PEER = "192.0.2.7"


def write(file: Path, key: str) -> None:
    file.write_text(key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(f"{OLD}\n")
    return tmp_path / "key"


async def test_dispatcher_and_server_use_the_new_key_at_once(file: Path) -> None:
    dispatcher = credentials_of(SecretFile(str(file)), "")
    callers = Callers(SecretFile(str(file)))
    before = dispatcher.show()
    assert before == f"Bearer {OLD}"
    assert await callers.refusal(before, PEER) is None
    write(file, NEW)
    assert dispatcher.show() == f"Bearer {NEW}"
    assert await callers.refusal(dispatcher.show(), PEER) is None
    refused = await callers.refusal(before, PEER)
    assert refused is not None
    assert refused.status == 401


async def test_a_new_key_that_cannot_be_used_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    callers = Callers(SecretFile(str(file)))
    write(file, "short")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert await callers.refusal(f"Bearer {OLD}", PEER) is None
            assert await callers.refusal("Bearer short", PEER) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR"], "said once"
    assert "short" not in caplog.text


def test_at_start_such_a_key_is_refused(file: Path) -> None:
    file.write_text("short")
    with pytest.raises(ConfigurationError, match="at least 32"):
        credentials_of(SecretFile(str(file)), "")
