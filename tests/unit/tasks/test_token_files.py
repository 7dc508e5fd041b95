"""Files of tokens that are no text, or that no header can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.client.credentials import TokenFile
from spoke_jobs.tasks.server.token_review import ReviewFailed, TokenReviews

JUNK = [b"abc\xff\xfe", b"abc\ndef", "abc\u00e9".encode()]


def test_a_senders_token_must_be_text(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(JUNK[0])
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_TOKEN_FILE=.*it is no text"):
        TokenFile(str(file))


@pytest.mark.parametrize("junk", JUNK)
def test_a_sender_keeps_its_token_when_the_next_one_is_junk(tmp_path: Path, junk: bytes) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    credentials = TokenFile(str(file))
    file.write_bytes(junk)
    credentials.refused()  # so that it reads the file again
    assert credentials.show() == "Bearer first"


@pytest.mark.parametrize("junk", JUNK)
def test_the_servers_own_token_must_be_usable(tmp_path: Path, junk: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(junk)
    with pytest.raises(ConfigurationError, match="SPOKE_TASKS_API_TOKEN_FILE") as refused:
        TokenReviews("http://127.0.0.1:9", "", str(file))
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize("junk", JUNK)
async def test_no_review_shows_a_token_that_has_become_junk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, junk: bytes
) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    reviews = TokenReviews("http://127.0.0.1:9", "", str(file))
    file.write_bytes(junk)
    monkeypatch.setattr(reviews, "_read_at", float("-inf"))
    with pytest.raises(ReviewFailed, match="token") as failed:
        await reviews("a caller's")
    assert "abc" not in str(failed.value)
