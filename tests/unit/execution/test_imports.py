"""What a job's pod imports is paid on every job."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CLIENTS = {"kopf", "kubernetes", "starlette", "fastapi", "uvicorn", "httpx", "aiohttp", "prometheus_client"}
TOOLS = {"typer", "rich", "alembic", "yaml", "opentelemetry"}
POD = (
    "import sys; sys.argv = ['spoke-jobs', 'run']\n"
    "import spoke_jobs, spoke_jobs.cli, spoke_jobs.execution.pod, spoke_jobs.shared.log_setup\n"
)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def loaded(code: str) -> set[str]:
    """The packages that are there after it."""
    return set(json.loads(python(f"{code}\nimport json; print(json.dumps([m.split('.')[0] for m in sys.modules]))")))


@pytest.mark.parametrize("application", ["tests.contract.app", "texting.jobs"])
def test_a_pod_imports_no_kubernetes_client_and_no_web_framework(application: str) -> None:
    there = loaded(f"{POD}import {application}")
    assert "sqlalchemy" in there
    assert there & (CLIENTS | TOOLS) == set()


NOT_NEEDED = {
    "pydantic_settings": "it has sources of all kinds and imports them all",
    "spoke_jobs.contract.custom_resources.spokejob": "a pod knows nothing of SpokeJobs",
    "spoke_jobs.contract.custom_resources.spokelimit": "it publishes no limits",
    "spoke_jobs.ledger.sql_ledger": "it claims and ends one attempt",
    "spoke_jobs.ledger.claims.eligibility": "which attempt is due is not its decision",
    "sqlalchemy.orm": "the first session of a job loads it",
}


def test_a_pod_starts_without() -> None:
    text = python(
        f"{POD}spoke_jobs.execution.pod.load_settings(); print([m for m in {[*NOT_NEEDED]} if m in sys.modules])"
    )
    assert text.strip() == "[]"


def test_declaring_and_dispatching_loads_no_runner_that_was_not_chosen() -> None:
    text = python(
        "import sys; from spoke_jobs import dispatch_job, job\n"
        "print([m for m in sys.modules if m.startswith('spoke_jobs.runners.')])"
    )
    assert "kubernetes" not in text
    assert "memory" not in text


def test_an_application_that_has_not_dispatched_yet_has_loaded_no_tables() -> None:
    text = python(
        "import sys; from spoke_jobs import JobContext, batch, dispatch_job, job\n"
        "print([m for m in ('spoke_jobs.ledger.tables', 'sqlalchemy.dialects.postgresql') if m in sys.modules])"
    )
    assert text.strip() == "[]"
