"""A setting that names a file names a regular one. A named pipe would hang the process until somebody writes to it."""

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
