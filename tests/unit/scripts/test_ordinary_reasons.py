"""The alert on jobs that cannot start leaves out the reasons that the table calls ordinary (Helm: test_alerts.py)."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.ordinary_reasons import template

from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs_operator.core.reporting.job_counts import NEW

CHART = Path(__file__).parents[3] / "charts" / "spoke-operator"


def test_the_chart_has_the_reasons_of_the_table_sorted() -> None:
    text = (CHART / "templates" / "_reasons.tpl").read_text()
    assert text == template(), "run `make generate`"
    names = re.findall(r'^  "(\w+)"$', text, re.MULTILINE)
    assert names == sorted(names)
    assert {NEW, WaitReason.PAUSED} <= set(names)
    assert WaitReason.DATABASE_AWAY not in names, "it needs attention"
    assert WaitReason.NO_WORKER not in names, "the operator does not give it"


def test_one_alert_asks_for_them() -> None:
    assert (CHART / "files" / "alerts.yaml").read_text().count('reason!~"@ORDINARY_REASONS@"') == 1
