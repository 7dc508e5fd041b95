"""examples/recipes/django: requests dispatch in Django's own transaction."""

from __future__ import annotations

from tests.integration.recipes.stage import GUNICORN, UVICORN, MakeRecipe, assert_the_dashboard_needs_a_session
from tests.waiting import eventually

from spoke_jobs.model import JobState

SERVER = (*GUNICORN, "wsgi")


def test_an_upload_is_imported_and_a_refused_one_leaves_nothing(recipe: MakeRecipe, ledger_url: str) -> None:
    stage = recipe("django", ledger_url, app="spoke_app")
    stage.python("manage.py", "migrate", "--run-syncdb")
    with stage.served(*SERVER) as client:
        for _ in range(2):
            assert client.post("/uploads", content='["Ada", "Grace"]').status_code == 202
            assert client.post("/uploads", content='["Edsger", ""]').status_code == 400
        assert client.get("/contacts").json() == []
        assert [job.state for job in stage.jobs()] == [JobState.WAITING] * 2
        stage.work()
        assert [(job.state, job.result) for job in stage.jobs()] == [(JobState.SUCCEEDED, {"loaded": 2})] * 2
        assert client.get("/contacts").json() == ["Ada", "Grace"] * 2
        eventually(lambda: stage.said().count("2 names came in") == 2)


COOKIE = """
import asgi
session = asgi.sessions.SessionStore()
session["staff"] = "ada"
session.save()
print(session.session_key)
"""


def test_the_dashboard_is_below_its_path_for_those_whom_the_application_has_signed_in(
    recipe: MakeRecipe, sqlite_ledger_url: str
) -> None:
    stage = recipe("django", sqlite_ledger_url, app="spoke_app")
    stage.python("manage.py", "migrate", "--run-syncdb")
    cookie = stage.python("-c", COOKIE).stdout.strip()
    with stage.served(*UVICORN) as client:
        assert client.post("/uploads", content='["Ada"]').status_code == 202
        assert_the_dashboard_needs_a_session(client, "sessionid", cookie)
        assert client.get("/contacts").json() == []


def test_its_own_tests(recipe: MakeRecipe, ledger_url: str) -> None:
    stage = recipe("django", ledger_url, app="spoke_app")
    stage.python("manage.py", "migrate", "--run-syncdb")
    stage.own_tests()


def test_a_server_that_could_not_dispatch_refuses_to_start(recipe: MakeRecipe, ledger_url: str) -> None:
    done = recipe("django", ledger_url, app="spoke_app").python("-c", "import wsgi", check=False, JOB_RUNNER="legcay")
    assert done.returncode == 1
    assert "there is no such runner" in done.stderr
