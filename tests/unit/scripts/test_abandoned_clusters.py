"""Which clusters of `.ci/run` are deleted: those whose run has ended, and old ones of which nobody knows."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def shell(commands: str, cache: Path) -> str:
    """Run commands in a shell that has the functions of the cluster's scripts. Print what they print."""
    functions = f"source {ROOT}/tests/cluster/lib.sh\nsource {ROOT}/tests/cluster/cluster.sh\nuse_cluster spoke-ci-1"
    done = subprocess.run(
        ["bash", "-c", f"{functions}\n{commands}"],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.stdout.strip()


ABANDONED = "if abandoned; then echo abandoned; else echo used; fi"


def test_the_cluster_of_a_process_that_runs_is_used_until_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as run:
        shell(f'identity {run.pid} >"$OWNER"', tmp_path)
        assert shell(ABANDONED, tmp_path) == "used"
    assert shell(ABANDONED, tmp_path) == "abandoned"


def test_another_process_with_the_same_number_is_not_its_owner(tmp_path: Path) -> None:
    own = shell(f"identity {os.getpid()}", tmp_path)
    pid, started = own.split()
    shell(f'echo "{pid} {int(started) - 1}" >"$OWNER"', tmp_path)
    assert shell(ABANDONED, tmp_path) == "abandoned"


@pytest.mark.parametrize(("hours", "expected"), [(5, "used"), (7, "abandoned")])
def test_a_cluster_that_nobody_owns_is_deleted_once_it_is_older_than_any_run(
    tmp_path: Path, hours: int, expected: str
) -> None:
    created = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    assert shell(f"docker() {{ echo {created}; }}\n{ABANDONED}", tmp_path) == expected


def test_an_empty_note_names_no_owner(tmp_path: Path) -> None:
    """As a run leaves it that is killed while it writes, or on a full disk."""
    created = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
    assert shell(f': >"$OWNER"; docker() {{ echo {created}; }}\n{ABANDONED}', tmp_path) == "abandoned"


def test_a_cluster_without_a_control_plane_is_left_to_the_run_that_makes_it(tmp_path: Path) -> None:
    assert shell(f"docker() {{ return 1; }}\n{ABANDONED}", tmp_path) == "used"
