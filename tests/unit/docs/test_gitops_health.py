"""The health check of docs/how-to/gitops.md, as Argo CD runs it: `obj` is the SpokeJob."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

PAGE = Path(__file__).parents[3] / "docs/how-to/gitops.md"
KEY = "resource.customizations.health.jobs.spoke.dev_SpokeJob"


def health(spokejob: Any) -> tuple[str, str]:
    """What Argo CD shows."""
    (block,) = (found for found in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S) if KEY in found)
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.globals().obj = lua.table_from(spokejob, recursive=True)
    shown = lua.execute(yaml.safe_load(block)["data"][KEY])
    return shown.status, shown.message


def job(outcome: str, *conditions: tuple[str, str, str, str], suspend: bool = False) -> dict[str, Any]:
    names = ("type", "status", "reason", "message")
    found = [dict(zip(names, condition, strict=True)) for condition in conditions]
    return {"spec": {"suspend": suspend}, "status": {"outcome": outcome, "conditions": found}}


WAITS = ("Admitted", "False", "QueueLocked", "waits for job 7")
ADMITTED = ("Admitted", "True", "Admitted", "")


@pytest.mark.parametrize(
    ("spokejob", "shown"),
    [
        ({"spec": {}}, ("Progressing", "not seen by the operator yet")),
        (job("Waiting", WAITS), ("Progressing", "QueueLocked: waits for job 7")),
        (job("Waiting", WAITS, suspend=True), ("Suspended", "QueueLocked: waits for job 7")),
        (job("Running", ADMITTED, ("Running", "True", "Running", "since noon")), ("Progressing", "Running")),
        (job("Succeeded", ADMITTED, ("Finished", "True", "Succeeded", "")), ("Healthy", "Succeeded")),
        (job("Failed", WAITS, ("Finished", "True", "JobError", "row 17")), ("Degraded", "JobError: row 17")),
    ],
    ids=["new", "waits", "suspended", "runs", "succeeded", "failed"],
)
def test_argo_cd_shows(spokejob: Any, shown: tuple[str, str]) -> None:
    assert health(spokejob) == shown
