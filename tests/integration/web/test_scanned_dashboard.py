"""A scanner from outside attacks the dashboard: Wapiti follows all links, and attacks all parameters and fields.

It is signed in as somebody who may do everything, and the ledger has texts of attackers everywhere.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import open_ledger
from tests.contract.filled_ledger import fill_with_hostile_texts
from tests.integration.web.browser.browsing import printed_by
from tests.integration.web.dashboard_process import Served, serving
from tests.waiting import patient

MODULES = (
    *("backup", "blindsql", "cookieflags", "crlf", "csp", "csrf", "exec", "file", "http_headers", "methods"),
    *("permanentxss", "redirect", "sql", "xss"),
)
"""Not those that ask hosts on the internet (nikto, ssrf, wapp, xxe), or try lists of names and passwords."""
CRAWL_SECONDS, MODULE_SECONDS = 90, 45
ON_PURPOSE = {
    ("HTTP Secure Headers", "Strict-Transport-Security is not set"),  # the test has no TLS: a proxy sets it
    ("HTTP Secure Headers", "X-XSS-Protection is not set"),  # browsers have given it up for Content-Security-Policy
    ("Secure Flag cookie", "Secure flag is not set in the cookie"),  # the test has no TLS
}

pytestmark = pytest.mark.long


def findings(report: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """What a report says against the dashboard, by kind and text, with the requests that show it."""
    found: dict[tuple[str, str], list[str]] = {}
    for kinds in (report["vulnerabilities"], report["anomalies"]):
        for kind, items in kinds.items():
            for item in items:
                found.setdefault((kind, item["info"].partition(" : ")[0]), []).append(item["curl_command"])
    return found


def scan(served: Served, folder: Path) -> tuple[str, dict[tuple[str, str], list[str]]]:
    """Attack the dashboard. Return what the scanner printed, and what it found.

    Wapiti's `--exclude` fails on Python 3.11, so nothing is left out.
    """
    report = folder / "report.json"
    command = [
        str(printed_by("wapiti")),
        *("--url", f"{served.url}/", "--scope", "folder"),
        *("--module", ",".join(MODULES), "--scan-force", "normal", "--timeout", str(patient(20))),
        *("--max-scan-time", str(CRAWL_SECONDS), "--max-attack-time", str(MODULE_SECONDS)),
        *("--store-session", str(folder / "session"), "--store-config", str(folder / "config"), "--no-bugreport"),
        *("--format", "json", "--output", str(report)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command,
        env=environment | {"HOME": str(folder), "LC_ALL": "C.UTF-8", "LANGUAGE": "en"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(CRAWL_SECONDS + MODULE_SECONDS * (len(MODULES) + 2)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, findings(json.loads(report.read_text()))


@pytest.mark.timeout(1200)
def test_a_scanner_finds_nothing(sqlite_ledger_url: str, tmp_path: Path) -> None:
    for ledger in open_ledger(sqlite_ledger_url):
        fill_with_hostile_texts(ledger)
    with serving(sqlite_ledger_url) as served:
        printed, found = scan(served, tmp_path)
        assert served.get("/").status_code == 200, "it still works"
    crawled = re.search(r"Wapiti found (\d+) URLs and forms", printed)
    assert crawled is not None, printed
    assert int(crawled[1]) > 30
    assert set(re.findall(r"Launching module (\w+)", printed)) == {*MODULES}
    assert {kind: requests for kind, requests in found.items() if kind not in ON_PURPOSE} == {}
