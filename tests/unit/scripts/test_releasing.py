"""What describes a release is the same for each build of it, and names what was changed."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from scripts.releasing.files import Refused, compare, digests, listed
from scripts.releasing.image_archive import write_archive
from scripts.releasing.provenance import statement
from scripts.releasing.sbom import normal

EPOCH = 1_700_000_000


class TestFiles:
    """The list of checksums."""

    def test_it_lists_what_a_folder_has_but_what_is_made_from_it(self, tmp_path: Path) -> None:
        (tmp_path / "charts").mkdir()
        later = ("SHA256SUMS", "SHA256SUMS.sig", "provenance.intoto.jsonl", "provenance.sigstore.json")
        for name in ("charts/a.tgz", "provenance.json", *later):
            (tmp_path / name).write_text(name)
        assert list(digests(tmp_path)) == ["charts/a.tgz", "provenance.json"]

    @pytest.mark.parametrize("target", ["elsewhere", "elsewhere/extra.whl"])
    def test_a_symbolic_link_is_refused(self, tmp_path: Path, target: str) -> None:
        """Behind one to a folder, files would be installed that nobody lists."""
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/extra.whl").touch()
        folder = tmp_path / "dist"
        folder.mkdir()
        (folder / "python").symlink_to(tmp_path / target)
        with pytest.raises(Refused, match="python is a symbolic link"):
            digests(folder)

    def test_the_typed_commands_take_listed_files_only(self, tmp_path: Path) -> None:
        (tmp_path / "python").mkdir()
        for name in ("spoke_jobs-1-py3-none-any.whl", "aaa_extra-1-py3-none-any.whl"):
            (tmp_path / "python" / name).touch()
        (tmp_path / "SHA256SUMS").write_text(
            f"{'0' * 64}  charts/a.tgz\n{'0' * 64}  python/spoke_jobs-1-py3-none-any.whl\n"
        )
        page = (Path(__file__).parents[3] / "docs/releasing.md").read_text()
        commands = re.findall(r"(?:pip install|gh attestation verify) (\S*\$\(.*?\)\S*)", page)
        assert len(commands) == 2
        for wheels in commands:
            shown = subprocess.run(["sh", "-c", f"echo {wheels}"], cwd=tmp_path, capture_output=True, text=True)
            assert shown.stdout == "python/spoke_jobs-1-py3-none-any.whl\n"

    @pytest.mark.parametrize(
        ("found", "message"),
        [
            ({"a": "1", "b": "2"}, "c is missing, and LIST lists it"),
            ({"a": "1", "b": "2", "c": "3", "d": "4"}, "d is not listed in LIST"),
            ({"a": "1", "b": "x", "c": "3"}, "b is not the file that LIST lists"),
        ],
    )
    def test_it_names_the_file_that_differs(self, found: dict[str, str], message: str) -> None:
        with pytest.raises(Refused, match=message):
            compare(found, {"a": "1", "b": "2", "c": "3"}, "LIST")
        compare(found, found, "LIST")

    @pytest.mark.parametrize("line", ["", "abc  a", f"{'0' * 64} a", f"{'0' * 64}  a\n{'1' * 64}  a"])
    def test_another_format_is_refused(self, line: str) -> None:
        with pytest.raises(Refused, match="no checksum"):
            listed(f"{line}\n")


def test_two_sboms_of_the_same_packages_are_the_same() -> None:
    first: dict[str, Any] = {"metadata": {"timestamp": "2026-01-01T00:00:00Z"}, "components": [{"name": "a"}]}
    second = {**deepcopy(first), "serialNumber": "urn:uuid:1"}
    second["metadata"]["timestamp"] = "2026-01-02T00:00:00Z"
    other = {**first, "components": [{"name": "b"}]}
    assert normal(first, EPOCH) == normal(second, EPOCH)
    assert normal(first, EPOCH)["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert normal(first, EPOCH)["serialNumber"] != normal(other, EPOCH)["serialNumber"]


@pytest.mark.parametrize(
    ("environment", "builder"),
    [
        ({}, "https://jobs.spoke.dev/builders/own-machine"),
        (
            {"GITHUB_SERVER_URL": "https://git.example", "GITHUB_WORKFLOW_REF": "a/b/.github/workflows/c@refs/tags/v1"},
            "https://git.example/a/b/.github/workflows/c@refs/tags/v1",
        ),
    ],
)
def test_provenance_names_who_built_which_files(environment: dict[str, str], builder: str) -> None:
    written = statement({"a": "0" * 64}, "1.0", [], {**environment, "SOURCE_DATE_EPOCH": "5"}, changed=True)
    assert written["subject"] == [{"name": "a", "digest": {"sha256": "0" * 64}}]
    assert written["predicate"]["runDetails"]["builder"]["id"] == builder
    assert written["predicate"]["buildDefinition"]["externalParameters"] == {
        "version": "1.0",
        "sourceDateEpoch": 5,
        "uncommittedChanges": True,
    }


def layer(time: int, *files: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in files:
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.mode, header.uid = len(name), time, 0o640, 10001
            archive.addfile(header, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("link")
        link.type, link.linkname, link.mtime = tarfile.LNKTYPE, files[0], time
        archive.addfile(link)
    return content.getvalue()


def saved(file: Path, time: int, *files: str, base: bytes) -> Path:
    """What `docker save` writes of an image that was built at that time."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["a"]},
        "created": f"2026-01-01T00:00:{time:02}Z",
        "history": [{"created": f"2026-01-01T00:00:{time:02}Z", "created_by": "RUN a"}],
        "container": f"name-{time}",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:0"]},
    }
    image = {"Config": "c.json", "RepoTags": ["built:1"], "Layers": ["base/layer.tar", "own/layer.tar"]}
    contents = {
        "manifest.json": json.dumps([image]).encode(),
        "c.json": json.dumps(config).encode(),
        "base/layer.tar": base,
        "own/layer.tar": layer(time, *files),
    }
    with tarfile.open(file, "w") as archive:
        for name, content in contents.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file


class TestImageArchive:
    """An image's archive."""

    def archive(self, folder: Path, time: int, *files: str) -> Path:
        target = folder / f"{time}.tar.gz"
        source = saved(folder / f"{time}.tar", time, *files, base=layer(7, "base"))
        write_archive(source, target, "shop:1", 1, EPOCH)
        return target

    def test_two_builds_give_the_same_bytes_and_another_content_others(self, tmp_path: Path) -> None:
        first, second, other = (self.archive(tmp_path, *of) for of in ((1, "a"), (2, "a"), (3, "b")))
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes() != other.read_bytes()
