"""Steps of the scripts: what downloads is tried three times, and the reason of a failure is kept."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def shell(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands in a shell that has the functions of scripts/lib.sh."""
    return subprocess.run(
        ["bash", "-c", f"source {ROOT}/scripts/lib.sh\nPAUSES=(0 0)\n{commands}", "script"],
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_registry_that_answers_at_the_third_try_is_no_failure(tmp_path: Path) -> None:
    done = shell(
        'try() { echo >>tries; [[ $(wc -l <tries) == 3 ]]; }; download_step "$PYPI" "installing" try', tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tries").read_text() == "\n" * 3


def test_an_error_in_the_middle_of_a_try_fails_it(tmp_path: Path) -> None:
    done = shell('try() { echo >>tries; false; echo on; }; download_step "$PYPI" "installing" try', tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "tries").read_text() == "\n" * 3
    assert "on" not in done.stderr.splitlines()


def test_a_registry_that_does_not_answer_is_named_with_what_was_installed(tmp_path: Path) -> None:
    done = shell(
        'export FAILURE_FILE=reason; download_step "$APT" "installing Debian packages: jq" bash -c "exit 100"', tmp_path
    )
    reason = (
        "script: installing Debian packages: jq failed "
        "(exit 100, three times; it needs Debian's package servers (apt)); "
        f"all of its output: {tmp_path}/spoke-jobs/logs/step."
    )
    assert done.stderr.splitlines()[-1].startswith(reason)
    assert (tmp_path / "reason").read_text() == done.stderr.splitlines()[-1] + "\n"


def test_a_try_that_does_nothing_is_ended(tmp_path: Path) -> None:
    """A registry may accept a connection, and then be silent."""
    silent = "try() { echo >>tries; sleep 600 | cat; }"
    done = shell(f'IDLE_SECONDS=1 WATCH_SECONDS=0.2; {silent}; download_step "$GO_PROXY" "building kind" try', tmp_path)
    assert (tmp_path / "tries").read_text() == "\n" * 3
    assert "three times; it needs the Go module proxy" in done.stderr
    assert "it has done nothing for 1 s, as if the registry were silent" in done.stderr


@pytest.mark.parametrize(
    "works",
    ["for each in {1..20}; do sleep 0.2; echo; done", "timeout 5 bash -c 'while :; do :; done' || (($? == 124))"],
    ids=["writes", "computes"],
)
def test_a_try_that_works_goes_on(tmp_path: Path, works: str) -> None:
    patience = "IDLE_SECONDS=3 WATCH_SECONDS=0.2"
    done = shell(f'{patience}; try() {{ echo >>tries; {works}; }}; download_step "$PYPI" "installing" try', tmp_path)
    assert (done.returncode, (tmp_path / "tries").read_text()) == (0, "\n"), done.stderr
