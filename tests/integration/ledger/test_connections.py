"""The database's URL is in a file, and changes while processes run; and a server may refuse a connection."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from spoke_jobs.errors import DatabaseRefused
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.shared.secret_file import SecretFile

Urls = dict[Process, str]
USER = text("SELECT session_user")


@pytest.fixture
def file(role_urls: Urls, tmp_path: Path) -> Path:
    (tmp_path / "url").write_text(role_urls[Process.APPLICATION])
    return tmp_path / "url"


@pytest.fixture
def engine(file: Path) -> Iterator[Engine]:
    made = create_engine(SecretFile(str(file)), connect_args={"application_name": "rotating"})
    yield made
    made.dispose()


def user(engine: Engine) -> str:
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "rotating", "other options stay"
        return str(connection.scalar(USER))


def test_the_next_use_of_a_connection_has_the_new_url(
    engine: Engine, file: Path, role_urls: Urls, ledger_roles: dict[Process, str]
) -> None:
    with engine.connect() as in_use:
        assert user(engine) == ledger_roles[Process.APPLICATION]  # its connection stays in the pool
        file.write_text(role_urls[Process.JOBS])
        assert user(engine) == ledger_roles[Process.JOBS]
        assert in_use.scalar(USER) == ledger_roles[Process.APPLICATION], "what runs goes on"
    with engine.connect() as one, engine.connect() as other:  # all that the pool has
        assert [one.scalar(USER), other.scalar(USER)] == [ledger_roles[Process.JOBS]] * 2


def test_an_unusable_file_changes_nothing(
    engine: Engine, file: Path, role_urls: Urls, ledger_roles: dict[Process, str], caplog: pytest.LogCaptureFixture
) -> None:
    for content in ("", "nonsense", "sqlite:///jobs.sqlite3", None):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            assert [user(engine), user(engine)] == [ledger_roles[Process.APPLICATION]] * 2
        assert len(caplog.records) == bool(content), "said once"
    file.write_text(role_urls[Process.JOBS])
    assert user(engine) == ledger_roles[Process.JOBS]


@pytest.mark.parametrize("change", [{"username": "nobody_here", "password": "hunter2"}, {"database": "no_such_one"}])
def test_a_refusal_of_the_server_is_recognized(postgres_url: str, change: dict[str, str]) -> None:
    engine = create_engine(make_url(postgres_url).set(**change))  # type: ignore[arg-type]
    with pytest.raises(DatabaseRefused, match="refuses the connection") as caught:
        check_schema(engine)
    engine.dispose()
    assert "hunter2" not in str(caught.value)
