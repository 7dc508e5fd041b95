"""What a campaign lacks to be started: all of it at once, and nothing that it has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from texting.models import Assigning
from texting.script import unknown_names
from texting.starting import Readiness, lacking

READY = Readiness(
    script="Hi {firstName} of {Town}",
    custom_fields=["Town"],
    contacts=10,
    writable=True,
    unfinished_uploads=[],
    assigning=Assigning.FIXED,
    texters=2,
    assigned=True,
)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        ({"script": " \n"}, ["a script"]),
        ({"custom_fields": []}, ["values for {Town}, which the script names and no contacts file has a column for"]),
        ({"contacts": 0, "writable": False, "assigned": False}, ["contacts"]),
        ({"writable": False}, ["contacts who haven't opted out"]),
        ({"unfinished_uploads": [3, 4]}, ["the rest of upload 3, 4, whose import hasn't come to its end"]),
        ({"texters": 0, "assigned": False}, ["texters"]),
        ({"assigned": False}, ["contacts that are assigned to a texter"]),
        ({"assigning": Assigning.DYNAMIC, "assigned": False}, []),
        ({"assigning": Assigning.DYNAMIC, "texters": 0}, ["texters"]),
        ({"assigning": Assigning.OPEN, "texters": 0, "assigned": False}, []),
    ],
)
def test_each_lack_is_named(changes: dict[str, Any], says: list[str]) -> None:
    assert lacking(replace(READY, **changes)) == says


def test_all_that_is_lacking_is_named_together() -> None:
    empty = Readiness("", [], 0, False, [1], Assigning.DYNAMIC, 0, False)
    assert lacking(empty) == [
        "a script",
        "the rest of upload 1, whose import hasn't come to its end",
        "contacts",
        "texters",
    ]


def test_names_that_no_contact_has_a_value_for_are_told_once_each() -> None:
    script = "{firstName} {lastName} {Town} {town} {x} {town} {} {unclosed"
    assert unknown_names(script, ["Town", "pet"]) == ["town", "x"]
