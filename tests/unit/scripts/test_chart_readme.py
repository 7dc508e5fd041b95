"""The list of a chart's values, from the comments that stand above them."""

from __future__ import annotations

from scripts.chart_readme import entries

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


def test_the_list_has_an_entry_for_each_and_no_text_is_taken_for_html() -> None:
    assert entries(VALUES).splitlines() == [
        "- `replicas` (default `2`): How many.",
        "- `store`: Where it is kept. In words.",
        '- `store.name` (default `""`): Of the &lt;release>.',
        '- `store.resources.requests` (default `{"cpu": "100m"}`)',
        '- `store.list` (default `["a | b"]`)',
        "- `plain` (default `null`)",
    ]
