"""Files that settings name: tokens that are no text or that no header can have, and named pipes, are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import load_settings
from spoke_jobs.tasks.client.credentials import ProjectedToken
from spoke_jobs.tasks.client.trust import Trust
from spoke_jobs.tasks.server.certificate import Certificate
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


def _database(path: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPOKE_DATABASE_URL_FILE", path)
        return load_settings()


def _reviews(ca_file: str, token_file: str) -> object:
    return TokenReviews("https://127.0.0.1:1", ca_file, token_file)


READERS: dict[str, Callable[[str, str], object]] = {
    "SPOKE_DATABASE_URL_FILE": lambda pipe, _file: _database(pipe),
    "SPOKE_TASKS_TOKEN_FILE": lambda pipe, _file: ProjectedToken(pipe),
    "SPOKE_TASKS_CA_FILE": lambda pipe, _file: Trust(pipe),
    "SPOKE_TASKS_TLS_CERT_FILE": lambda pipe, file: Certificate(pipe, file),
    "SPOKE_TASKS_TLS_KEY_FILE": lambda pipe, file: Certificate(file, pipe),
    "SPOKE_TASKS_API_TOKEN_FILE": lambda pipe, _file: _reviews("", pipe),
    "SPOKE_TASKS_API_CA_FILE": lambda pipe, file: _reviews(pipe, file),
}


@pytest.mark.parametrize("name", READERS)
def test_a_named_pipe_is_refused_by_name(name: str, tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("x")
    with pytest.raises(ConfigurationError, match="not a regular file") as caught:
        READERS[name](str(pipe), str(file))
    assert name in str(caught.value)
