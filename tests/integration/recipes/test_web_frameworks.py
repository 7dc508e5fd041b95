"""examples/recipes/django, flask and fastapi: requests dispatch in the transaction of the framework's own session."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from tests.integration.recipes.stage import GUNICORN, UVICORN, MakeRecipe, Recipe, assert_the_dashboard_needs_a_session
from tests.waiting import eventually

from spoke_jobs.model import JobState

LOOPBACK = ("--host", "127.0.0.1", "--port", "0")


class Framework(NamedTuple):
    """What differs from one recipe to the next."""

    server: tuple[str, ...]
    refused: int = 422
    """The status of a request that is refused."""
    app: str = "jobs"
    prepare: tuple[str, ...] = ()
    cookie: tuple[str, str] = ("", "")
    """The name of the session's cookie, and what prints one of somebody who has signed in."""


DJANGO_COOKIE = """
import asgi
session = asgi.sessions.SessionStore()
session["staff"] = "ada"
session.save()
print(session.session_key)
"""
FLASK_COOKIE = (
    "import asgi; print(asgi.flask.session_interface.get_signing_serializer(asgi.flask).dumps({'staff': 'ada'}))"
)
FRAMEWORKS = {
    "django": Framework(
        server=(*GUNICORN, "wsgi"),
        refused=400,
        app="spoke_app",
        prepare=("manage.py", "migrate", "--run-syncdb"),
        cookie=("sessionid", DJANGO_COOKIE),
    ),
    "flask": Framework(server=("-m", "flask", "run", *LOOPBACK), cookie=("session", FLASK_COOKIE)),
    "fastapi": Framework(server=("-m", "uvicorn", "app:app", *LOOPBACK)),
}
every_recipe = pytest.mark.parametrize("name", FRAMEWORKS)
JSON = {"Content-Type": "application/json"}


def staged(recipe: MakeRecipe, name: str, url: str) -> Recipe:
    stage = recipe(name, url, app=FRAMEWORKS[name].app)
    if FRAMEWORKS[name].prepare:
        stage.python(*FRAMEWORKS[name].prepare)
    return stage


@every_recipe
def test_an_upload_is_imported_and_a_refused_one_leaves_nothing(recipe: MakeRecipe, name: str, ledger_url: str) -> None:
    stage = staged(recipe, name, ledger_url)
    with stage.served(*FRAMEWORKS[name].server) as client:
        for _ in range(2):
            assert client.post("/uploads", content=json.dumps(["Ada", "Grace"]), headers=JSON).status_code == 202
            refused = client.post("/uploads", content=json.dumps(["Edsger", ""]), headers=JSON)
            assert refused.status_code == FRAMEWORKS[name].refused
        assert client.get("/contacts").json() == []
        assert [job.state for job in stage.jobs()] == [JobState.WAITING] * 2
        stage.work()
        assert [(job.state, job.result) for job in stage.jobs()] == [(JobState.SUCCEEDED, {"loaded": 2})] * 2
        assert client.get("/contacts").json() == ["Ada", "Grace"] * 2
        if name == "fastapi":
            eventually(lambda: client.get("/notices").json() == ["2 names came in"] * 2)
        else:
            eventually(lambda: stage.said().count("2 names came in") == 2)


@pytest.mark.parametrize("name", ["django", "flask"])
def test_the_dashboard_is_below_its_path_for_those_whom_the_application_has_signed_in(
    recipe: MakeRecipe, name: str, sqlite_ledger_url: str
) -> None:
    stage, key = staged(recipe, name, sqlite_ledger_url), {"SECRET_KEY": "k" * 40}
    cookie, code = FRAMEWORKS[name].cookie
    value = stage.python("-c", code, **key).stdout.strip()
    with stage.served(*UVICORN, **key) as client:
        assert client.post("/uploads", content='["Ada"]', headers=JSON).status_code == 202
        assert_the_dashboard_needs_a_session(client, cookie, value)
        assert client.get("/contacts").json() == []


@every_recipe
def test_its_own_tests(recipe: MakeRecipe, name: str, ledger_url: str) -> None:
    staged(recipe, name, ledger_url).own_tests()


@pytest.mark.parametrize("name", [*FRAMEWORKS, "gunicorn"])
def test_it_refuses_to_start_where_it_could_not_dispatch(recipe: MakeRecipe, name: str, sqlite_ledger_url: str) -> None:
    framework = FRAMEWORKS.get(name, Framework(GUNICORN))
    server = ("-c", "import wsgi") if name == "django" else framework.server
    ended = recipe(name, sqlite_ledger_url, app=framework.app).python(*server, check=False, JOB_RUNNER="nonsense")
    assert ended.returncode != 0
    assert "JOB_RUNNER='nonsense': there is no such runner" in ended.stderr
