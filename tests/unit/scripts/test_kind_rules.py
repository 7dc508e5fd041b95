"""The charts' Roles are what the table of kinds says (rendered by Helm: integration/charts)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts.kind_rules import CHARTS, role_file, template

from spoke_jobs.contract.custom_resources.kinds import CUSTOM, Role
from spoke_jobs.contract.names import GROUP

ROOT = Path(__file__).parents[3]
Rights = set[tuple[str, str]]


def rules_of(text: str, name: str) -> list[dict[str, Any]]:
    """The rules of one definition, as if each condition held."""
    body = re.search(rf'define "{re.escape(name)}" -}}}}\n(.*?)\n{{{{- end -}}}}', text, re.DOTALL)
    assert body is not None, name
    rules: list[dict[str, Any]] = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "", body[1])) or []
    return rules


def rights(rules: list[dict[str, Any]]) -> Rights:
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def granted(role: Role) -> Rights:
    return {
        (f"{kind.plural}/{grant.subresource}" if grant.subresource else kind.plural, verb)
        for kind in CUSTOM
        for grant in kind.grants_of(role)
        for verb in grant.verbs
    }


@pytest.mark.parametrize(("chart", "role"), [(chart, role) for chart, roles in CHARTS.items() for role in roles])
def test_each_role_has_the_rights_of_the_table_and_the_chart_uses_them(chart: str, role: Role) -> None:
    folder = ROOT / "charts" / chart / "templates"
    text = (folder / "_kinds.tpl").read_text()
    assert text == template(chart), "run `make generate`"
    rules = rules_of(text, f"{chart}.{role}Rules")
    assert rights(rules) == granted(role) != set()
    assert {group for rule in rules for group in rule["apiGroups"]} == {GROUP}
    others = [path.read_text() for path in folder.glob("*.yaml")]
    assert sum(f'include "{chart}.{role}Rules" .' in other for other in others) == 1
    assert not any(f"apiGroups: [{GROUP}]" in other for other in others), "a rule of our kinds that is written by hand"


def test_each_role_is_in_a_chart() -> None:
    assert {role for roles in CHARTS.values() for role in roles} == set(Role)


def test_a_right_that_a_value_switches_on_depends_on_it() -> None:
    _, _, rest = template("spoke-app").partition("{{- if .Values.sync.publishLimits }}\n")
    assert rest.index("spokelimits") < rest.index("{{- end }}")


def test_the_operator_under_test_has_the_rights_of_the_chart() -> None:
    text = (ROOT / "tests/integration/operator/role.yaml").read_text()
    role = next(body for body in yaml.safe_load_all(text) if body["kind"] == "Role")
    assert rights([rule for rule in role["rules"] if rule["apiGroups"] == [GROUP]]) == granted(Role.OPERATOR)
    without = role_file(text, [])
    assert GROUP not in "".join(line for line in without.splitlines() if line.startswith("- {apiGroups"))
    assert role_file(without) == text
