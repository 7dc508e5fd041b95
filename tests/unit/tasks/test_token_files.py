"""Files of tokens that are no text, or that no header can have: refused at the start, and left unread later."""

from __future__ import annotations

from pathlib import Path

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.client.credentials import ProjectedToken
from spoke_jobs.tasks.server.token_review import TokenReviews

JUNK = pytest.mark.parametrize("junk", [b"abc\xff\xfe", b"abc\ndef", "abc\u00e9".encode(), b" "])


@JUNK
def test_a_token_must_be_usable(tmp_path: Path, junk: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(junk)
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_TOKEN_FILE=.*it ") as of_sender:
        ProjectedToken(str(file))
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_API_TOKEN_FILE") as of_server:
        TokenReviews("http://127.0.0.1:9", "", str(file))
    assert "abc" not in f"{of_sender.value}{of_server.value}"


@JUNK
def test_a_renewed_token_is_shown_and_junk_is_not(tmp_path: Path, junk: bytes) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    credentials = ProjectedToken(str(file))
    file.write_text("another\n")
    assert credentials.show() == "Bearer another"
    file.write_bytes(junk)
    assert credentials.show() == "Bearer another"
    file.unlink()
    assert credentials.show() == "Bearer another"
