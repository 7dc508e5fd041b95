"""Secrets in files, which change while the process runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spoke_jobs.shared.secret_file import SecretFile, value_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "url").write_text("first\n")
    return tmp_path / "url"


def replace(path: Path, text: str) -> None:
    """As the kubelet does it: the new file takes the name of the old one."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_it_is_read_without_the_line_s_end(path: Path) -> None:
    assert SecretFile(str(path)).read() == "first"
    assert value_of(SecretFile(str(path))) == "first"
    assert value_of("given") == "given"


def test_a_changed_file_is_read_again(path: Path) -> None:
    file = SecretFile(str(path))
    for text in ("second", "third"):
        replace(path, text)
        assert file.read() == text


def test_a_mounted_secret_is_a_link_to_a_folder_that_changes(tmp_path: Path) -> None:
    for name in ("first", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "url").write_text(name)
    (tmp_path / "data").symlink_to("first")
    (tmp_path / "url").symlink_to("data/url")
    file = SecretFile(str(tmp_path / "url"))
    (tmp_path / "data_new").symlink_to("other")
    (tmp_path / "data_new").rename(tmp_path / "data")
    assert file.read() == "other"


def test_while_it_cannot_be_read_the_last_value_counts(path: Path) -> None:
    file = SecretFile(str(path))
    path.unlink()
    assert file.read() == "first"
    path.write_text(" \n")
    assert file.read() == "first"
    path.write_bytes(b"\xff")
    assert file.read() == "first"
    replace(path, "second")
    assert file.read() == "second"


def test_a_file_that_cannot_be_read_at_first_is_refused_unless_its_value_is_known(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        SecretFile(missing)
    assert SecretFile(missing, "known").read() == "known"
    Path(missing).write_text("")
    with pytest.raises(ValueError, match="empty"):
        SecretFile(missing)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            SecretFile(str(path))
    assert SecretFile(str(pipe), "known").read() == "known"


def test_its_text_is_in_no_message(path: Path) -> None:
    assert "first" not in f"{SecretFile(str(path))!r}{SecretFile(str(path))}"
    assert os.fspath(path) in repr(SecretFile(str(path)))
