"""examples/recipes/flask: requests dispatch in the transaction of Flask-SQLAlchemy's scoped session."""

from __future__ import annotations

from tests.integration.recipes.stage import UVICORN, MakeRecipe, assert_the_dashboard_needs_a_session
from tests.waiting import eventually

from spoke_jobs.model import JobState

SERVER = ("-m", "flask", "run", "--host", "127.0.0.1", "--port", "0")


def test_an_upload_is_imported_and_a_refused_one_leaves_nothing(recipe: MakeRecipe, ledger_url: str) -> None:
    stage = recipe("flask", ledger_url)
    with stage.served(*SERVER) as client:
        assert client.post("/uploads", json=["Ada", "Grace"]).status_code == 202
        assert client.post("/uploads", json=["Edsger", ""]).status_code == 422
        assert client.get("/contacts").json() == []
        assert [job.state for job in stage.jobs()] == [JobState.WAITING]
        stage.work()
        assert [(job.state, job.result) for job in stage.jobs()] == [(JobState.SUCCEEDED, {"loaded": 2})]
        assert client.get("/contacts").json() == ["Ada", "Grace"]
        eventually(lambda: stage.said().count("2 names came in") == 1)


COOKIE = "import asgi; print(asgi.flask.session_interface.get_signing_serializer(asgi.flask).dumps({'staff': 'ada'}))"


def test_the_dashboard_is_below_its_path_for_those_whom_the_application_has_signed_in(
    recipe: MakeRecipe, sqlite_ledger_url: str
) -> None:
    stage, key = recipe("flask", sqlite_ledger_url), "k" * 40
    cookie = stage.python("-c", COOKIE, SECRET_KEY=key).stdout.strip()
    with stage.served(*UVICORN, SECRET_KEY=key) as client:
        assert client.post("/uploads", json=["Ada"]).status_code == 202
        assert_the_dashboard_needs_a_session(client, "session", cookie)
        assert client.get("/contacts").json() == []


def test_its_own_tests(recipe: MakeRecipe, ledger_url: str) -> None:
    recipe("flask", ledger_url).own_tests()


def test_it_refuses_to_start_where_it_could_not_dispatch(recipe: MakeRecipe, sqlite_ledger_url: str) -> None:
    ended = recipe("flask", sqlite_ledger_url).python(*SERVER, check=False, JOB_RUNNER="nonsense")
    assert ended.returncode != 0
    assert "JOB_RUNNER='nonsense': there is no such runner" in ended.stderr
