"""The rules that `make breaks` breaks still name a line of the product each."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.breaks.rules import BREAKS, Break

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.rule)
def test_the_text_that_a_break_replaces_is_in_its_file_exactly_once(broken: Break) -> None:
    assert (ROOT / broken.file).read_text().count(broken.before) == 1
