"""`spoke-jobs web` as a process."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import httpx
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.contract.progress import KEY, report
from tests.integration.web.dashboard_process import serving
from tests.waiting import eventually, patient

from spoke_jobs.web import serve_dashboard

SLOW_FORM = (
    b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 100\r\n\r\n"
)
"""A request whose body does not come."""


def test_it_serves_until_sigterm(sqlite_ledger_url: str) -> None:
    for ledger in open_ledger(sqlite_ledger_url):
        ledger.insert(new_job(job_type="nightly"))
    with serving(sqlite_ledger_url) as served:
        found = served.get("/jobs")
        assert found.status_code == 200
        assert "nightly" in found.text
        assert "server" not in found.headers
        with httpx.stream("GET", f"http://127.0.0.1:{served.port}/changes", timeout=patient(30)) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 5000"
            served.process.send_signal(signal.SIGTERM)
            assert not [line for line in lines if "changed" in line], "it ends with the process"


def test_progress_is_followed_until_sigterm(sqlite_ledger_url: str) -> None:
    """What a job reports arrives at a browser, and an open stream does not hold up the end of the process."""
    for ledger in open_ledger(sqlite_ledger_url):
        job = ledger.insert(new_job())
        path = f"/progress/{job.progress_token(key=KEY)}"
        with serving(sqlite_ledger_url, "--progress", "--progress-messages", SPOKE_PROGRESS_KEY=KEY) as served:
            assert served.get("/progress/progress.js").status_code == 200
            assert served.get(path).json()["state"] == "waiting"
            assert served.get("/progress/nonsense/events").status_code == 404
            url = f"http://127.0.0.1:{served.port}{path}/events"
            with httpx.stream("GET", url, timeout=patient(30)) as stream:
                lines = stream.iter_lines()
                next(line for line in lines if '"waiting"' in line)
                claim = claim_one(ledger, "legacy", ["report"], "w", LEASE)
                assert claim is not None
                report(ledger, claim, 40, "a text")
                shown = next(line for line in lines if "a text" in line)
                assert '"state": "running", "percent": 40' in shown
                served.process.send_signal(signal.SIGTERM)
                assert not [line for line in lines if "progress" in line or "gone" in line], "it ends with the process"


def test_idle_connections_keep_nobody_out(sqlite_ledger_url: str) -> None:
    for _ in open_ledger(sqlite_ledger_url):
        pass
    with serving(sqlite_ledger_url) as served, ExitStack() as stack:
        first = stack.enter_context(served.connect())
        for _ in range(serve_dashboard._CONNECTIONS):
            stack.enter_context(served.connect())
        for _ in range(3):
            assert served.get("/healthz").status_code == 200
            assert served.get("/jobs").status_code == 200
        assert first.recv(1) == b"", "the one that was idle for longest was closed"


def test_probes_are_answered_while_too_many_requests_are_in_progress(sqlite_ledger_url: str) -> None:
    for _ in open_ledger(sqlite_ledger_url):
        pass
    with serving(sqlite_ledger_url) as served, ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(serve_dashboard._REQUESTS)]
        for connection in slow:
            connection.sendall(SLOW_FORM)
        eventually(lambda: served.get("/jobs").status_code == 503, "all are in progress")
        assert served.get("/healthz").status_code == 200
        slow.pop().close()
        eventually(lambda: served.get("/jobs").status_code == 200, "one has ended")
