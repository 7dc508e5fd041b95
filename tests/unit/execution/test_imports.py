"""What a job's pod imports is paid on every job."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    "kopf",
    "kubernetes",
    "starlette",
    "fastapi",
    "uvicorn",
    "httpx",
    "aiohttp",
    "typer",
    "rich",
    "alembic",
    "yaml",
)
POD = (
    "import sys; sys.argv = ['spoke-jobs', 'run']\n"
    "import spoke_jobs, spoke_jobs.cli, spoke_jobs.execution.pod, spoke_jobs.logs\n"
)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_a_pod_imports_no_kubernetes_client_and_no_web_framework() -> None:
    loaded = json.loads(python(POD + "import json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"))
    assert "sqlalchemy" in loaded
    assert sorted(set(loaded) & HEAVY) == []


def test_declaring_and_dispatching_loads_no_runner_that_was_not_chosen() -> None:
    loaded = python("import spoke_jobs, sys; print([m for m in sys.modules if m.startswith('spoke_jobs.runners.')])")
    assert "kubernetes" not in loaded
    assert "memory" not in loaded
