"""The page on which people upload contacts and see how far the import is."""

from __future__ import annotations

import re

import httpx
import pytest
from tests.integration.texting.test_app import CONTACTS, campaign, client

__all__ = ["campaign", "client"]


@pytest.fixture(autouse=True)
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application has a key, unless the test has a parameter."""
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", getattr(request, "param", "k" * 32))


def test_the_sender_of_a_file_follows_its_import_and_nothing_else(client: httpx.Client, campaign: int) -> None:
    answer = client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode()).json()
    address = answer["progress"]
    assert re.fullmatch(rf"/progress/{answer['job']}\.1\.[0-9]+\.[0-9a-f]{{64}}", address)
    shown = client.get(address).json()
    assert shown == {"state": "succeeded", "percent": 100, "message": "3 of 3 rows", "ended": True}
    events = client.get(f"{address}/events").text
    assert '"state": "succeeded"' in events
    assert client.get(address[:-1]).status_code == 404


def test_the_page_works_under_a_strict_policy(client: httpx.Client, campaign: int) -> None:
    page = client.get(f"/campaigns/{campaign}/upload")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; connect-src 'self';")
    assert "unsafe" not in policy
    assert re.findall(r"<style|style=|\son\w+=|<script>", page.text) == []
    scripts = re.findall(r'<script defer src="([^"]+)"', page.text)
    assert len(scripts) == 2
    for script in scripts:
        assert client.get(script).headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("key", [""], indirect=True)
def test_without_a_key_imports_cannot_be_followed(client: httpx.Client, campaign: int) -> None:
    assert client.post(f"/campaigns/{campaign}/uploads", content=CONTACTS.encode()).json()["progress"] is None
    for path in (f"/campaigns/{campaign}/upload", "/progress/progress.js"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "set SPOKE_PROGRESS_KEY" in answer.json()["detail"]
