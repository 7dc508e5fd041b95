"""The tutorial works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/tutorial.md"
BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_runs_in_an_empty_folder(tmp_path: Path) -> None:
    programs = str(Path(sys.executable).parent)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SPOKE_DATABASE_URL": "sqlite:///shop.sqlite3",
        "SPOKE_APP": "shop",
        "PYTHONPATH": str(tmp_path),
    }
    printed = ""
    for block in BLOCK.finditer(PAGE.read_text()):
        info, body = block["info"], block["body"]
        if found := re.search(r"file=(\S+)", info):
            (tmp_path / found[1]).write_text(body)
        elif info == "sh run":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", body],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{body}{done.stdout}{done.stderr}"
            printed += done.stdout
    assert "dispatched job 1" in printed
    assert re.search(r"^1\tmonthly_report\b.*succeeded", printed, re.MULTILINE)
    assert '"month": "2026-11"' in printed
