"""What `make release` puts into a folder is what it says, and the same each time."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VERSION = "0.1.0"
FILES = {
    f"python/spoke_jobs-{VERSION}-py3-none-any.whl",
    f"python/spoke_jobs-{VERSION}.tar.gz",
    f"charts/spoke-operator-{VERSION}.tgz",
    f"charts/spoke-app-{VERSION}.tgz",
    "crds/spokejobs.yaml",
}
IMAGES = {f"images/spoke-jobs-{name}-{VERSION}.tar.gz" for name in ("runner", "operator")}


def release(folder: Path, *arguments: str) -> Path:
    done = subprocess.run([ROOT / "scripts/release", *arguments, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("release") / "dist", "--without-images")


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_sums(dist: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert len((dist / "SHA256SUMS").read_text().splitlines()) == len(files_in(dist)) - 1


def test_all_is_there_with_its_checksum(dist: Path) -> None:
    assert files_in(dist) == {*FILES, "SHA256SUMS"}
    check_sums(dist)


def test_the_same_again_byte_for_byte(dist: Path) -> None:
    before = (dist / "SHA256SUMS").read_text()
    (dist / "leftover").touch()
    assert (release(dist, "--without-images") / "SHA256SUMS").read_text() == before
    assert not (dist / "leftover").exists()


def test_wheel_holds_library_and_operator_and_starts(dist: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(dist / f"python/spoke_jobs-{VERSION}-py3-none-any.whl") as wheel:
        wheel.extractall(tmp_path)
    tops = {path.name for path in tmp_path.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"spoke_jobs", "spoke_jobs_operator"}
    program = "import spoke_jobs_operator, spoke_jobs.cli.command_line as app; print(app.__file__)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))


def test_sdist_gives_the_same_package(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(dist / f"python/spoke_jobs-{VERSION}.tar.gz") as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "again")]
    subprocess.run(build, cwd=source, capture_output=True, check=True)
    (again,) = (tmp_path / "again").iterdir()
    with zipfile.ZipFile(again) as built, zipfile.ZipFile(dist / "python" / again.name) as published:
        assert built.namelist() == published.namelist()


@pytest.mark.parametrize("chart", ["spoke-operator", "spoke-app"])
def test_packed_chart_is_the_chart(dist: Path, tmp_path: Path, chart: str) -> None:
    with tarfile.open(dist / f"charts/{chart}-{VERSION}.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    source = ROOT / "charts" / chart
    packed = files_in(tmp_path / chart)
    assert packed == files_in(source)
    for name in packed - {"Chart.yaml"}:  # which Helm writes anew
        assert (tmp_path / chart / name).read_bytes() == (source / name).read_bytes(), name


@pytest.mark.long
def test_images_are_archives_that_the_engine_loads(tmp_path: Path) -> None:
    dist = release(tmp_path / "dist")
    assert files_in(dist) == {*FILES, *IMAGES, "SHA256SUMS"}
    check_sums(dist)
    for image in IMAGES:
        with (dist / image).open("rb") as archive:
            loaded = subprocess.run(["docker", "load"], stdin=archive, capture_output=True, text=True, check=True)
        name = Path(image).name.removesuffix(f"-{VERSION}.tar.gz")
        assert f"{name}:{VERSION}" in loaded.stdout
