"""The first release, 0.1, from the repository's history: its code, charts and definitions."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST_RELEASE = "fb0986dfd8e81902266de8e2913060b21bf5e7da"
"""The commit. Its newest migration of the ledger is 0003."""


def unpack(folder: Path, *paths: str) -> Path:
    """Write these files and folders of the first release into a new folder, and return it."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", FIRST_RELEASE, *paths], cwd=ROOT, capture_output=True, check=False)
    assert archive.returncode == 0, f"the test needs the repository's whole history: {archive.stderr.decode()}"
    subprocess.run(["tar", "x", "--directory", folder], input=archive.stdout, check=True)
    return folder
