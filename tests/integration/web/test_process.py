"""`spoke-jobs web` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import httpx
from tests.conftest import open_ledger
from tests.contract.ledger import new_job
from tests.ports import free_port
from tests.waiting import eventually, patient


def test_it_serves_until_sigterm(sqlite_ledger_url: str) -> None:
    for ledger in open_ledger(sqlite_ledger_url):
        ledger.insert(new_job(job_type="nightly"))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "spoke_jobs", "web", "--insecure-local", "--port", str(port)],
        env=os.environ | {"SPOKE_DATABASE_URL": sqlite_ledger_url},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def page() -> httpx.Response | None:
            assert process.poll() is None, process.communicate()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/jobs", timeout=patient(30))
            except httpx.ConnectError:
                return None

        found = eventually(page, "it serves")
        assert found.status_code == 200
        assert "nightly" in found.text
        assert "server" not in found.headers
        with httpx.stream("GET", f"http://127.0.0.1:{port}/changes", timeout=patient(30)) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 5000"
            process.send_signal(signal.SIGTERM)
            assert not [line for line in lines if "changed" in line], "it ends with the process"
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=patient(30))
    assert process.returncode == -signal.SIGTERM, errors
    assert f"dashboard listening on http://127.0.0.1:{port}/" in errors
    assert "Traceback" not in errors
    assert "graceful shutdown exceeded" not in errors, "no stream of a browser holds it up"
