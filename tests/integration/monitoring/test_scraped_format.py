"""Each process's metrics, by the linter of Prometheus itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from tests.metric_scenes import SCENES, Scene
from tests.prometheus import program


@pytest.mark.parametrize("make", SCENES)
def test_prometheus_linter_finds_nothing(make: Callable[[], Scene]) -> None:
    scene = make()
    scene.work()
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=scene.text(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
