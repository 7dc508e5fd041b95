"""Each check of a linter that is switched off has its reason in docs/security.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ANSWERS = (ROOT / "docs/security.md").read_text().partition("## Findings of linters")[2]


@pytest.mark.parametrize("file", ["scripts/audit", "tests/audit/checkov.baseline"])
def test_each_check_of_checkov_that_is_left_out_is_answered(file: str) -> None:
    left_out = set(re.findall(r"CKV_\w+", (ROOT / file).read_text()))
    assert left_out
    assert left_out <= set(re.findall(r"CKV_\w+", ANSWERS))


def test_each_check_of_bandit_that_is_left_out_is_answered() -> None:
    left_out = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bandit"]["skips"]
    assert set(left_out) == set(re.findall(r"\bB\d{3}\b", ANSWERS))


def test_each_check_of_kube_score_that_is_left_out_is_answered() -> None:
    (names,) = re.findall(r"SWITCHED_OFF=\((.*?)\)", (ROOT / "scripts/audit").read_text(), re.S)
    assert set(names.split()) == set(re.findall(r"\(`([a-z-]+)`\)", ANSWERS.partition("**kube-score**")[2]))
