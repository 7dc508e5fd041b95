"""The application's own tests: requests and jobs in one transaction, which is rolled back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from app import create_app
from database import db
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from spoke_jobs.testing.dispatched import SpokeJobs


@pytest.fixture
def app() -> Iterator[Flask]:
    """Create the application."""
    made = create_app()
    yield made
    with made.app_context():
        db.engine.dispose()


@pytest.fixture
def connection(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """Yield the test's connection, with `db.session` on it. Nothing on it is ever committed."""
    with app.app_context():
        engine = db.engine
    with engine.connect() as connection:
        outer = connection.begin()
        sessions = scoped_session(sessionmaker(connection, join_transaction_mode="create_savepoint"))
        monkeypatch.setattr(db, "session", sessions)
        yield connection
        outer.rollback()


@pytest.fixture
def spoke_jobs_sessions(connection: Connection) -> Callable[[], Session]:
    """Give jobs sessions on the test's connection."""
    return sessionmaker(connection, join_transaction_mode="create_savepoint")


@pytest.fixture
def client(app: Flask, connection: Connection) -> FlaskClient:
    """Create a client of the application."""
    return app.test_client()


@pytest.mark.parametrize("names", [["Ada", "Grace"], ["Edsger"]])
def test_an_upload_is_imported(client: FlaskClient, spoke_jobs: SpokeJobs, names: list[str]) -> None:
    """The second case finds no rows of the first."""
    assert client.post("/uploads", json=names).status_code == 202
    assert spoke_jobs.task("notify").payload == f"{len(names)} names came in"
    spoke_jobs.drain()
    assert spoke_jobs.job("import_contacts").result == {"loaded": len(names)}
    assert client.get("/contacts").json == names


def test_a_refused_upload_dispatches_nothing(client: FlaskClient, spoke_jobs: SpokeJobs) -> None:
    """The upload is refused after the dispatch."""
    assert client.post("/uploads", json=["Ada", ""]).status_code == 422
    assert spoke_jobs.jobs() == spoke_jobs.tasks() == []
