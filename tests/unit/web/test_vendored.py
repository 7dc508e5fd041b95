"""The files of the dashboard that come from elsewhere."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files


def test_each_is_the_file_of_its_package() -> None:
    folder = files("spoke_jobs.web").joinpath("static")
    rows = re.findall(
        r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", folder.joinpath("VENDORED.md").read_text(), re.MULTILINE
    )
    assert {name for name, _ in rows} == {"htmx.min.js"}
    for name, checksum in rows:
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == checksum
