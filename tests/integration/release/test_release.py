"""What `make release` puts into a folder is what it says, and the same each time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VERSION = "0.1.0"
PACKAGES = {
    f"python/spoke_jobs-{VERSION}-py3-none-any.whl",
    f"python/spoke_jobs-{VERSION}.tar.gz",
    f"charts/spoke-operator-{VERSION}.tgz",
    f"charts/spoke-app-{VERSION}.tgz",
    "crds/spokejobs.yaml",
    "crds/spokelimits.yaml",
    "provenance.json",
}
LOCKS = ("application", "operator")
DESCRIBED = {f"sbom/spoke-jobs-{lock}-{VERSION}.cdx.json" for lock in LOCKS} | {
    f"licenses/{lock}.txt" for lock in LOCKS
}
NAMES = ("runner", "operator")
IMAGES = {f"images/spoke-jobs-{name}-{VERSION}.tar.gz" for name in NAMES}
IMAGE_SBOMS = {f"sbom/spoke-jobs-{name}-image-{VERSION}.cdx.json" for name in NAMES}


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    parts = [str(part) for part in command]
    return subprocess.run(parts, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def release(folder: Path, *arguments: str, root: Path = ROOT, umask: int = 0o022, **env: str) -> Path:
    done = run(root / "scripts/release", *arguments, folder, env=os.environ | env, umask=umask)
    assert done.returncode == 0, done.stderr
    return folder


def copy_of_the_repository(folder: Path) -> Path:
    """A clone, with the changes that are not committed."""
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, folder], check=True)
    changed = run("git", "ls-files", "--modified", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, changed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("release") / "dist", "--packages", "--once")


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_sums(dist: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert len((dist / "SHA256SUMS").read_text().splitlines()) == len(files_in(dist)) - 1


def test_all_is_there_with_its_checksum(dist: Path) -> None:
    assert files_in(dist) == {*PACKAGES, "SHA256SUMS"}
    check_sums(dist)


def test_built_elsewhere_it_has_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """Another folder, umask, time zone and locale, and other modes and times of the files."""
    root = copy_of_the_repository(tmp_path / "elsewhere")
    for path in (root / "runner", root / "charts"):
        for file in path.rglob("*.*"):
            if file.is_file():
                file.chmod(0o600)
    again = tmp_path / "dist"
    again.mkdir()
    (again / "leftover").touch()
    release(again, "--packages", "--once", root=root, umask=0o077, TZ="Asia/Tokyo", LC_ALL="C", SOURCE_DATE_EPOCH="1")
    assert (again / "SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()
    assert files_in(again) == files_in(dist)


def test_provenance_names_commit_and_locks(dist: Path) -> None:
    statement = json.loads((dist / "provenance.json").read_text())
    source, *locks = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"]["gitCommit"] == run("git", "rev-parse", "HEAD", cwd=ROOT).stdout.strip()
    assert [item["name"] for item in locks] == [f"requirements/{name}.txt" for name in ("release", *LOCKS)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An owner's key pair, and that of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("owner", "other"):
        private, public = folder / f"{name}.pem", folder / f"{name}.pub"
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run(["openssl", "genpkey", *curve, "-out", private], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def signed(dist: Path, keys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release, signed by its owner, without a network."""
    copy = tmp_path_factory.mktemp("signed") / "dist"
    shutil.copytree(dist, copy)
    done = run(ROOT / "scripts/sign", copy, keys["owner.pem"])
    assert done.returncode == 0, done.stderr
    return copy


def verify(folder: Path, *key: Path) -> subprocess.CompletedProcess[str]:
    return run(ROOT / "scripts/verify-release", folder, *key)


def change_one_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


class TestVerification:
    """What a user is told about a release that is not what its owner signed."""

    def test_only_the_owners_key_verifies_it(self, signed: Path, keys: dict[str, Path]) -> None:
        done = verify(signed, keys["owner.pub"])
        assert done.returncode == 0, done.stderr
        done = verify(signed, keys["other.pub"])
        assert done.returncode == 1
        # Another test may hold the lock of the environment, which is said first.
        assert done.stderr.splitlines()[-1] == "verification: SHA256SUMS.sig is no signature of SHA256SUMS by this key"

    def test_openssl_verifies_it(self, signed: Path, keys: dict[str, Path]) -> None:
        command = ["openssl", "dgst", "-sha256", "-verify", keys["owner.pub"], "-signature", signed / "SHA256SUMS.sig"]
        assert run(*command, signed / "SHA256SUMS").stdout == "Verified OK\n"
        assert run(*command, signed / "provenance.json").returncode != 0

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (f"python/spoke_jobs-{VERSION}-py3-none-any.whl", "is not the file that SHA256SUMS lists"),
            ("provenance.json", "provenance.intoto.jsonl does not contain provenance.json"),
            ("SHA256SUMS", "SHA256SUMS.sig is no signature of SHA256SUMS by this key"),
            ("provenance.intoto.jsonl", ""),
        ],
    )
    def test_one_changed_byte_is_refused(
        self, signed: Path, keys: dict[str, Path], tmp_path: Path, name: str, message: str
    ) -> None:
        copy = tmp_path / "changed"
        shutil.copytree(signed, copy)
        change_one_byte(copy / name)
        done = verify(copy, keys["owner.pub"])
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr

    def test_without_a_key_the_checksums_are_verified(self, dist: Path, tmp_path: Path) -> None:
        copy = tmp_path / "changed"
        shutil.copytree(dist, copy)
        assert verify(copy).returncode == 0
        (copy / "charts/added.tgz").touch()
        assert "charts/added.tgz is not listed in SHA256SUMS" in verify(copy).stderr


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


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole release. `make release` fails unless a second build has the same bytes."""
    return release(tmp_path_factory.mktemp("everything") / "dist")


@pytest.mark.long
@pytest.mark.timeout(3600)
class TestEverything:
    """A release with images."""

    def test_all_is_there_with_its_checksum(self, everything: Path) -> None:
        assert files_in(everything) == {*PACKAGES, *DESCRIBED, *IMAGES, *IMAGE_SBOMS, "SHA256SUMS"}
        check_sums(everything)

    @pytest.mark.parametrize("lock", LOCKS)
    def test_sbom_lists_the_locked_requirements(self, everything: Path, lock: str) -> None:
        document = json.loads((everything / f"sbom/spoke-jobs-{lock}-{VERSION}.cdx.json").read_text())
        assert document["metadata"]["component"]["name"] == "spoke-jobs"
        pinned = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / f"requirements/{lock}.txt").read_text(), re.MULTILINE)
        components = {(normal(item["name"]), item["version"]) for item in document["components"]}
        assert components <= {(normal(name), version) for name, version in pinned}
        assert {"sqlalchemy", "pydantic"} <= {name for name, _ in components}
        assert all(item.get("licenses") for item in document["components"]), "each has a license"

    @pytest.mark.parametrize("name", NAMES)
    def test_sbom_of_an_image_lists_debians_packages_too(self, everything: Path, name: str) -> None:
        document = json.loads((everything / f"sbom/spoke-jobs-{name}-image-{VERSION}.cdx.json").read_text())
        kinds = {item["purl"].partition("/")[0] for item in document["components"] if "purl" in item}
        assert {"pkg:deb", "pkg:pypi"} <= kinds

    @pytest.mark.parametrize("lock", LOCKS)
    def test_licenses_have_their_texts(self, everything: Path, lock: str) -> None:
        text = (everything / f"licenses/{lock}.txt").read_text()
        assert "\npydantic\n" in text
        assert "Permission is hereby granted" in text

    @pytest.mark.parametrize("name", NAMES)
    def test_the_engine_loads_and_runs_an_image(self, everything: Path, name: str) -> None:
        with (everything / f"images/spoke-jobs-{name}-{VERSION}.tar.gz").open("rb") as archive:
            loaded = subprocess.run(["docker", "load"], stdin=archive, capture_output=True, text=True, check=True)
        assert f"spoke-jobs-{name}:{VERSION}" in loaded.stdout
        # byte code that Python does not compare with its source: all times in the image are the same
        program = "import spoke_jobs, pathlib; print(pathlib.Path(spoke_jobs.__cached__).read_bytes()[4])"
        command = [
            "docker",
            "run",
            "--rm",
            "--network",
            "none",
            f"spoke-jobs-{name}:{VERSION}",
            "python",
            "-c",
            program,
        ]
        assert run(*command).stdout == "1\n"
