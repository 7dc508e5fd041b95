"""The table of a chart's values, from the comments that stand above them."""

from __future__ import annotations

from scripts.chart_readme import rows, table

VALUES = """\
# About the file.

# How many.
replicas: 2

# Where it is kept.
# In words.
store:
  # Of the <release>.
  name: ""
  resources:
    requests: {cpu: 100m}
  list:
    - a | b

plain: null
"""


def test_each_value_has_its_path_its_default_and_what_stands_above_it() -> None:
    assert [(row.path, row.default, row.meaning) for row in rows(VALUES)] == [
        ("replicas", "2", "How many."),
        ("store", "", "Where it is kept. In words."),
        ("store.name", '""', "Of the <release>."),
        ("store.resources.requests", '{"cpu": "100m"}', ""),
        ("store.list", '["a | b"]', ""),
        ("plain", "null", ""),
    ]


def test_nothing_of_a_value_is_taken_for_markdown() -> None:
    text = table(VALUES)
    assert "| `store` | | Where it is kept. In words. |" in text
    assert '| `store.name` | `""` | Of the &lt;release>. |' in text
    assert '| `store.list` | `["a &#124; b"]` | |' in text
