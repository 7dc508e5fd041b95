"""The web application, over HTTP, from the first organization to the downloaded export."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session, sessionmaker
from tests import plain_http
from tests.conftest import given_back
from tests.integration.texting.making import BOTH
from tests.waiting import patient

from spoke_jobs import dispatch
from spoke_jobs.runners.legacy_runner import LegacyRunner
from texting import settings
from texting.app import app
from texting.models import CampaignCache, Upload

CONTACTS = "first,last,cell,Town\nZoë,Lee,212-555-0100,Springfield\nBo,Ng,212-555-0101,\nCy,Day,,\n"


@pytest.fixture
def client(
    sessions: sessionmaker[Session], serve: Callable[[Any], str], carrier_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """The application under the default runner, each job and task done before its request is answered."""
    for name in ("JOBS_SAME_PROCESS", "JOBS_SYNC", "TASKS_SYNC"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setattr(dispatch, "_runner", None)
    with httpx.Client(base_url=serve(app), timeout=patient(30)) as client:
        yield client
    runner = dispatch.current_runner()
    assert isinstance(runner, LegacyRunner)
    engine = runner.ledger.engine
    given_back(engine)
    engine.dispose()


@pytest.fixture
def campaign(client: httpx.Client) -> int:
    organization = client.post("/organizations", json={"name": "Neighbours"}).json()["id"]
    answer = client.post(
        f"/organizations/{organization}/campaigns", json={"title": "Sunday", "script": "Hi {firstName}"}
    )
    assert answer.status_code == 201
    return int(answer.json()["id"])


def started(client: httpx.Client, campaign: int) -> None:
    job = client.post(f"/campaigns/{campaign}/start").json()["job"]
    assert client.get(f"/jobs/{job}").json()["result"]["started"]


@BOTH
def test_from_upload_to_export(client: httpx.Client, campaign: int, carrier_url: str) -> None:
    answer = client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode())
    assert answer.status_code == 202
    job = client.get(f"/jobs/{answer.json()['job']}").json()
    assert (job["state"], job["percent"], job["attempt"]) == ("succeeded", 100, 1)
    assert job["result"] == {"loaded": 2, "repeated": 0, "invalid": 0, "missing": 1, "opted_out": 0}

    page = client.get(f"/campaigns/{campaign}/contacts", params={"limit": 1}).json()
    assert [(each["first_name"], each["cell"], each["custom_fields"]) for each in page] == [
        ("Zoë", "+12125550100", {"Town": "Springfield"})
    ]
    rest = client.get(f"/campaigns/{campaign}/contacts", params={"after": page[0]["id"]}).json()
    assert [each["first_name"] for each in rest] == ["Bo"]

    started(client, campaign)
    answer = client.post(f"/campaigns/{campaign}/sending", json={"texter": "Tess"})
    assert (answer.status_code, answer.json()) == (202, {"messages": 2})
    assert plain_http.get(f"{carrier_url}/stats").json() == {"delivered": 2, "numbers": 2, "repeated": 0}

    job = client.post(f"/campaigns/{campaign}/exports").json()["job"]
    file = client.get(f"/exports/{job}")
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert f"campaign-{campaign}-{job}.csv" in file.headers["content-disposition"]
    rows = csv.DictReader(io.StringIO(file.content.decode("utf-8-sig")))
    assert [(row["first_name"], row["message_state"]) for row in rows] == [("Zoë", "sent"), ("Bo", "sent")]


def test_texters_get_their_contacts_and_write_to_them_once_the_campaign_is_started(
    client: httpx.Client, campaign: int
) -> None:
    client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode())
    body = {"texters": [{"texter": "Tess", "wanted": 1}, {"texter": "Bo Ng"}]}
    job = client.post(f"/campaigns/{campaign}/assignments", json=body).json()["job"]
    assert client.get(f"/jobs/{job}").json()["result"] == {
        "texters": 2,
        "assigned": 2,
        "written": 0,
        "unassigned": 0,
    }

    shown = client.get(f"/campaigns/{campaign}").json()
    assert (shown["assigning"], shown["started_at"], shown["lacks"], shown["counted_at"]) == ("fixed", None, [], None)
    for answer in (
        client.post(f"/campaigns/{campaign}/sending", json={"texter": "Tess"}),
        client.get(f"/campaigns/{campaign}/texters/Tess"),
    ):
        assert (answer.status_code, answer.json()["detail"]) == (409, f"campaign {campaign} isn't started")

    started(client, campaign)
    assert client.get(f"/campaigns/{campaign}/texters/Tess").json() == {
        "title": "Sunday",
        "script": "Hi {firstName}",
        "fields": ["firstName", "lastName", "Town"],
        "contacts": 1,
        "to_write": 1,
        "maximum": None,
        "may_take_more": False,
        "counted_at": client.get(f"/campaigns/{campaign}").json()["counted_at"],
    }
    assert client.post(f"/campaigns/{campaign}/sending", json={"texter": "Tess"}).json() == {"messages": 1}
    shown = client.get(f"/campaigns/{campaign}").json()
    assert shown["started_at"] is not None
    assert shown["counted_at"] is not None
    assert shown["texters"] == [
        {"texter": "Tess", "contacts": 1, "to_write": 0, "maximum": None},
        {"texter": "Bo Ng", "contacts": 1, "to_write": 1, "maximum": None},
    ]


def test_with_dynamic_assignment_a_texters_page_says_whether_there_may_be_more(
    client: httpx.Client, campaign: int
) -> None:
    client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode())
    body = {"dynamic": True, "texters": [{"texter": "Tess", "maximum": 1}, {"texter": "Bo"}]}
    client.post(f"/campaigns/{campaign}/assignments", json=body)
    started(client, campaign)

    def may_take_more(texter: str) -> bool:
        return bool(client.get(f"/campaigns/{campaign}/texters/{texter}").json()["may_take_more"])

    assert may_take_more("Tess")
    assert client.post(f"/campaigns/{campaign}/sending", json={"texter": "Tess"}).json() == {"messages": 1}
    assert not may_take_more("Tess")
    assert may_take_more("Bo")


def test_a_count_that_got_lost_is_made_again_by_the_next_page(
    client: httpx.Client, campaign: int, sessions: sessionmaker[Session]
) -> None:
    client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode())
    started(client, campaign)
    with sessions.begin() as session:
        session.execute(delete(CampaignCache))
    answers = [client.get(f"/campaigns/{campaign}/texters/Tess").json() for _ in range(2)]
    assert [answer.pop("counted_at") is None for answer in answers] == [True, False]
    assert answers[0] == answers[1]


def test_a_file_that_is_no_contacts_list_is_refused_at_once_and_leaves_nothing(
    client: httpx.Client, campaign: int, sessions: sessionmaker[Session]
) -> None:
    for content, says in (
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG picture"),
        (b"first,pet\nA,cat\n", "no column for last name, cell"),
        (b"first,last,cell\n", "no rows"),
    ):
        answer = client.post(f"/campaigns/{campaign}/uploads", content=content)
        assert answer.status_code == 422
        assert says in answer.json()["detail"]
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 0
        assert session.scalar(text("SELECT count(*) FROM job_request")) == 0


def test_a_file_that_is_too_large_is_refused_while_it_comes_in(
    client: httpx.Client, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTING_MAX_UPLOAD_BYTES", "50")
    settings.settings.cache_clear()
    answer = client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode())
    assert answer.status_code == 413
    assert "50 bytes" in answer.json()["detail"]


def test_who_opts_out_is_left_out(client: httpx.Client, campaign: int) -> None:
    for _ in range(2):
        answer = client.post("/organizations/1/opt-outs", json={"cell": "(212) 555-0100"})
        assert answer.status_code == 204
    compressed = gzip.compress(CONTACTS.encode())
    job = client.post(f"/campaigns/{campaign}/uploads", content=compressed).json()["job"]
    assert client.get(f"/jobs/{job}").json()["result"] == {
        "loaded": 1,
        "repeated": 0,
        "invalid": 0,
        "missing": 1,
        "opted_out": 1,
    }


ERRORS: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/organizations", {"name": " "}, 422, "name"),
    ("POST", "/organizations", {"name": "A", "colour": "red"}, 422, "colour"),
    ("POST", "/organizations/99/campaigns", {"title": "A", "script": "B"}, 404, "no organization 99"),
    ("POST", "/organizations/1/campaigns", {"title": "A", "script": "B", "country": "XX"}, 422, "XX"),
    ("POST", "/organizations/99/opt-outs", {"cell": "2125550100"}, 404, "no organization 99"),
    ("POST", "/organizations/1/opt-outs", {"cell": "12"}, 422, "isn't a valid telephone number"),
    ("POST", "/campaigns/99/uploads", None, 404, "no campaign 99"),
    ("POST", "/campaigns/99/exports", None, 404, "no campaign 99"),
    ("POST", "/campaigns/99/sending", {"texter": "T"}, 404, "no campaign 99"),
    ("POST", "/campaigns/1/sending", {"texter": "T", "limit": 0}, 422, "limit"),
    ("POST", "/campaigns/1/sending", {"texter": "T"}, 409, "campaign 1 isn't started"),
    ("POST", "/campaigns/99/assignments", {"texters": []}, 404, "no campaign 99"),
    ("POST", "/campaigns/1/assignments", {"texters": [{"texter": "T"}, {"texter": "T"}]}, 422, "more than once: T"),
    ("POST", "/campaigns/1/assignments", {"texters": [{"texter": "T", "wanted": -1}]}, 422, "wanted"),
    ("POST", "/campaigns/99/start", None, 404, "no campaign 99"),
    ("GET", "/campaigns/99", None, 404, "no campaign 99"),
    ("GET", "/campaigns/99/texters/T", None, 404, "no campaign 99"),
    ("GET", "/campaigns/1/texters/T", None, 409, "campaign 1 isn't started"),
    ("GET", "/campaigns/99/contacts", None, 404, "no campaign 99"),
    ("GET", "/jobs/99", None, 404, "no job 99"),
    ("GET", "/exports/99", None, 404, "no job 99"),
]


@pytest.mark.usefixtures("campaign")
def test_errors_name_the_thing(client: httpx.Client) -> None:
    for method, path, body, status, says in ERRORS:
        answer = client.request(method, path, json=body)
        assert answer.status_code == status, path
        assert says in answer.text
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_job_that_made_no_export_has_none_to_download(client: httpx.Client, campaign: int) -> None:
    job = client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode()).json()["job"]
    answer = client.get(f"/exports/{job}")
    assert answer.status_code == 404
    assert "has made no export (import_contacts, succeeded)" in answer.text
