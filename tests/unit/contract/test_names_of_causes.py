"""The product names causes and reasons to wait by their constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.contract.wait_reasons import WaitReason

ROOT = Path(__file__).parents[3]
TABLES = {f"runner/spoke_jobs/contract/{name}.py" for name in ("causes", "task_causes", "wait_reasons")}
NAMES = {member.value for table in (Cause, TaskCause, WaitReason) for member in table}
KUBERNETES_OWN = {
    ("operator/spoke_jobs_operator/core/diagnosis/pod_end.py", "ContainerCannotRun"),
    ("operator/spoke_jobs_operator/core/diagnosis/pod_end.py", "Evicted"),
    ("operator/spoke_jobs_operator/core/diagnosis/pod_end.py", "NodeLost"),
    ("operator/spoke_jobs_operator/core/objects/read_objects.py", "Suspended"),
    ("operator/spoke_jobs_operator/core/objects/read_objects.py", "Unschedulable"),
}
"""Reasons and conditions of Kubernetes that are called like one of ours."""


def bare_names(path: str, source: str) -> Iterator[str]:
    """`file:line: "Name"` of each string literal that is a name of the tables; `__all__` lists classes."""
    tree = ast.parse(source)
    exported = {
        id(item)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        for item in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node.value not in NAMES or id(node) in exported:
            continue
        if (path, node.value) not in KUBERNETES_OWN:
            yield f'{path}:{node.lineno}: "{node.value}"'


def test_no_name_of_a_cause_or_reason_is_written_out() -> None:
    files = [path for room in ("runner", "operator") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 200
    found = [
        line
        for path in sorted(files)
        if (name := str(path.relative_to(ROOT))) not in TABLES
        for line in bare_names(name, path.read_text())
    ]
    assert not found, "use Cause, TaskCause or WaitReason of spoke_jobs.contract:\n" + "\n".join(found)


def test_a_kubernetes_word_that_is_let_be_is_still_there() -> None:
    for path, word in KUBERNETES_OWN:
        assert f'"{word}"' in (ROOT / path).read_text(), (path, word)


def test_names_fit_the_columns_that_they_are_stored_in() -> None:
    assert all(len(name) <= 40 for name in NAMES)
    assert not {item.value for item in Cause} & {item.value for item in WaitReason}
