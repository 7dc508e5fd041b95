"""Whatever somebody asks the dashboard who may do everything: no answer is a server's error, and all are inert.

Pages have no OpenAPI document, so the test describes their requests: each route, with all fields and parameters that
the pages have. The JSON API serves its own document.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi import checks
from tests.asgi_server import serving
from tests.conftest import open_ledger
from tests.contract.dashboard_scene import API_ROUTES, EVERYBODY, HOSTILE, ROUTES
from tests.contract.dashboard_schedules import APPLICATION
from tests.contract.filled_ledger import PAGES, Filled, fill_with_hostile_texts

from spoke_jobs.web import app

EXAMPLES = 12
"""For each route and each way to generate values."""
LIKELY = (
    *("0", "1", "3", "-1", "2147483648", "9223372036854775808", "10000000000000000000000", "1e3", "on", "yes", "none"),
    *("failed", "waiting", "JobError", "queue:mail", "type:sync_*", "each-queue", "all", "100/min", "24", "mail"),
    *("2026-03-08T02:30", "2026-03-01T00:00:00+00:00", "0001-01-01T00:00", "9999-12-31T23:59", "nightly%20report"),
    *(HOSTILE, "%00", "\x00", "../../etc/passwd", "*", "%", "'", "\\"),
)
"""Values that some of the fields expect, and others that may lead somewhere."""
API = "/api/v1"
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)
UNHURRIED: Mapping[str, Any] = {
    "max_examples": EXAMPLES,
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}
NAMES = re.compile(r'<(?:input|select)[^>]* name="([^"]+)"')
ADDRESSES = re.compile(r'(?:href|action)="([^"]+)"')


@dataclasses.dataclass
class Site:
    """The dashboard, and somebody who looks at it."""

    url: str
    filled: Filled
    session: requests.Session

    def page(self, path: str) -> str:
        answer = self.session.get(self.url + path.format_map(dataclasses.asdict(self.filled)))
        assert answer.status_code == 200, answer.text
        return answer.text

    def token(self) -> str:
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.page("/queues"))
        assert found is not None
        return found[1]


@pytest.fixture
def site(sqlite_ledger_url: str) -> Iterator[Site]:
    for ledger in open_ledger(sqlite_ledger_url):
        filled = fill_with_hostile_texts(ledger)
    options: dict[str, Any] = {"database": sqlite_ledger_url, "application": APPLICATION, "secure_cookies": False}
    shown = app(authorize=lambda _request: EVERYBODY, hosts=["127.0.0.1"], **options)
    with serving(shown) as url, requests.Session() as session:
        session.trust_env = False
        yield Site(url, filled, session)
        shown.end_streams()
    shown.close()


def names(site: Site) -> list[str]:
    """The fields and the parameters of all pages, except the token."""
    pages = [site.page(path) for path in PAGES]
    found = {name for page in pages for name in NAMES.findall(page)}
    links = [unescape(each) for page in pages for each in ADDRESSES.findall(page)]
    found |= {name for each in (*links, *PAGES) for name in parse_qs(urlsplit(each).query)}
    return sorted(found - {"token", "v"})


def document(fields: list[str]) -> Mapping[str, Any]:
    """Describe the requests, except the stream of changes, which has no end."""
    text = {"anyOf": [{"enum": list(LIKELY)}, {"type": "string", "maxLength": 300}]}
    paths: dict[str, dict[str, Any]] = {}
    for method, path in ROUTES:
        if path == "/changes":
            continue
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"anyOf": [{"type": "integer"}, text]}}
            for name in re.findall(r"\{(\w+)\}", path)
        ]
        operation: dict[str, Any] = {"parameters": parameters, "responses": {"default": {"description": "a page"}}}
        if method == "GET":
            parameters += [{"name": name, "in": "query", "schema": text} for name in fields]
        else:
            form = {"type": "object", "properties": dict.fromkeys(fields, text), "additionalProperties": False}
            operation["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": form}}}
        paths.setdefault(path, {})[method.lower()] = operation
    return {"openapi": "3.0.3", "info": {"title": "dashboard", "version": "1"}, "paths": paths}


def test_no_request_is_answered_by_a_server_error(site: Site) -> None:
    fields = names(site)
    assert {"state", "known_scope", "hours", "up_to", "within", "from", "before", "priority", "schedule"} <= set(fields)
    token, routes = site.token(), set()
    for result in schemathesis.openapi.from_dict(document(fields)).get_all_operations():
        operation = result.ok()

        def exercise(case: Any) -> None:
            if isinstance(case.body, dict):
                case.body["token"] = token
            answer = case.call(base_url=site.url, session=site.session, allow_redirects=False, timeout=60)
            sent = (case.method, case.path, case.path_parameters, case.query, case.body)
            assert answer.status_code in (200, 303, 400, 404, 409), sent
            assert "There is no such page." not in answer.text, "the routes are those that there are"
            assert "\x1b" not in answer.text
            assert "\u202e" not in answer.text
            routes.add((case.method, case.path))

        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
        settings(**UNHURRIED)(given(case=strategy)(exercise))()
    assert routes == {*ROUTES} - {("GET", "/changes")}
    assert site.session.get(f"{site.url}/").status_code == 200, "it still works"


def test_each_answer_of_the_api_is_as_it_says(site: Site) -> None:
    """To parameters that are valid by its document, to others, and about jobs with texts of attackers."""
    found = site.session.get(f"{site.url}{API}/openapi.json")
    schema, statuses = schemathesis.openapi.from_dict(found.json()), Counter[tuple[str, int]]()

    def ask(case: Any) -> None:
        answer = case.call(base_url=site.url + API, session=site.session, allow_redirects=False, timeout=60)
        case.validate_response(answer, checks=list(CHECKS), additional_checks=[])
        assert "\x1b" not in answer.text
        assert "\u202e" not in answer.text
        statuses[case.path, answer.status_code] += 1

    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in MODES if operation.query or operation.path_parameters else MODES[:1]:
            settings(**UNHURRIED)(given(case=operation.as_strategy(generation_mode=mode))(ask))()
    assert {path for path, _ in statuses} == {path.removeprefix(API) for _, path in API_ROUTES}
    assert statuses["/jobs", 200] > 0
    assert statuses["/jobs", 400] > 0
    ids = [*dataclasses.asdict(site.filled).values()]
    for path in ("/jobs/{job_id}", "/jobs/{job_id}/why"):
        for job_id in ids[:6]:
            before = statuses[path, 200]
            ask(schema[path]["GET"].Case(path_parameters={"job_id": job_id}))
            assert statuses[path, 200] == before + 1
