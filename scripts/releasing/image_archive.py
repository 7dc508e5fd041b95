"""Write an image as an archive that is the same for each build of it. usage: image_archive IN OUT NAME:TAG BASE_LAYERS

IN is the output of `docker save`. OUT is an OCI layout that `docker load` reads as well, compressed. All times
in it are SOURCE_DATE_EPOCH, except in the layers of the base image, whose number is BASE_LAYERS: they stay what they
are. BuildKit's `rewrite-timestamp` does the same, but needs a newer engine than Debian's. See
https://github.com/opencontainers/image-spec, image-layout.md.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

CONFIG_FIELDS = ("architecture", "config", "history", "os", "rootfs", "variant")
OCI = "application/vnd.oci.image"
GZIP_MAGIC = b"\x1f\x8b"


def normal_config(config: dict[str, Any], layers: list[str], epoch: int) -> dict[str, Any]:
    """Return an image's configuration without what names the build, with the digests of its layers."""
    kept = {field: config[field] for field in CONFIG_FIELDS if field in config}
    created = f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}"
    kept["created"] = created
    kept["history"] = [{**step, "created": created} for step in config["history"]]
    kept["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{layer}" for layer in layers]}
    return kept


def normal_layer(source: IO[bytes], target: IO[bytes], epoch: int) -> None:
    """Copy a layer, without names of users and other times than the epoch. Docker sorts the entries."""
    with (
        tarfile.open(fileobj=source, mode="r:") as read,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as written,
    ):
        for member in read:
            member.mtime = epoch
            member.uname = member.gname = ""
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if ".xattr." in key}
            written.addfile(member, read.extractfile(member) if member.isreg() else None)


class Layout:
    """An OCI layout with one image, in a folder. Blobs are in files named by their digests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add_file(self, file: Path) -> str:
        """Move a file in and return its digest."""
        with file.open("rb") as content:
            digest = digest_of(content)
        file.rename(self.folder / digest)
        return digest

    def add_json(self, value: dict[str, Any]) -> str:
        """Add a JSON document and return its digest."""
        file = self.folder / "new.json"
        file.write_bytes(as_json(value))
        return self.add_file(file)

    def descriptor(self, kind: str, digest: str) -> dict[str, Any]:
        """Return what refers to a blob."""
        return {
            "mediaType": f"{OCI}.{kind}",
            "digest": f"sha256:{digest}",
            "size": (self.folder / digest).stat().st_size,
        }

    def write(self, target: Path, name: str, config: str, layers: list[str]) -> None:
        """Write the archive."""
        manifest = self.add_json(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": self.descriptor("config.v1+json", config),
                "layers": [self.descriptor("layer.v1.tar", layer) for layer in layers],
            }
        )
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
        index = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.index.v1+json",
            "manifests": [{**self.descriptor("manifest.v1+json", manifest), "annotations": names}],
        }
        blobs = [f"blobs/sha256/{digest}" for digest in layers]
        for_docker = [{"Config": f"blobs/sha256/{config}", "RepoTags": [name], "Layers": blobs}]
        with (
            target.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped,
            tarfile.open(fileobj=cast(IO[bytes], zipped), mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            add(archive, "oci-layout", as_json({"imageLayoutVersion": "1.0.0"}))
            add(archive, "index.json", as_json(index))
            add(archive, "manifest.json", as_json(for_docker))
            for digest in sorted({manifest, config, *layers}):
                with (self.folder / digest).open("rb") as content:
                    archive.addfile(entry(f"blobs/sha256/{digest}", (self.folder / digest).stat().st_size), content)


def digest_of(content: IO[bytes]) -> str:
    """Return the SHA-256 of a file's content."""
    digest = sha256()
    while chunk := content.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def as_json(value: object) -> bytes:
    """Return JSON that is the same each time."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def entry(name: str, size: int) -> tarfile.TarInfo:
    """Return a file's header, without time and owner."""
    header = tarfile.TarInfo(name)
    header.size = size
    return header


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive."""
    archive.addfile(entry(name, len(content)), io.BytesIO(content))


def plain(content: IO[bytes]) -> IO[bytes]:
    """Return a layer's tar archive; newer engines save it compressed."""
    magic = content.read(2)
    content.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=content)) if magic == GZIP_MAGIC else content


def copied(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy all of a file."""
    for chunk in chunks(source):
        target.write(chunk)


def chunks(source: IO[bytes]) -> Iterator[bytes]:
    """Yield a file's content, a MiB at a time."""
    while chunk := source.read(1 << 20):
        yield chunk


def write_archive(saved: Path, target: Path, name: str, base_layers: int, epoch: int) -> None:
    """Write what `docker save` wrote as an archive that is the same each time."""
    with tarfile.open(saved) as archive, tempfile.TemporaryDirectory(dir=target.parent) as folder:

        def opened(path: str) -> IO[bytes]:
            content = archive.extractfile(path)
            assert content, f"{path} is no file of {saved}"
            return content

        layout = Layout(Path(folder))
        (image,) = json.load(opened("manifest.json"))
        layers = []
        for number, path in enumerate(image["Layers"]):
            new = Path(folder) / "new.tar"
            with opened(path) as content, new.open("wb") as file:
                if number < base_layers:
                    copied(plain(content), file)
                else:
                    normal_layer(plain(content), file, epoch)
            layers.append(layout.add_file(new))
        config = layout.add_json(normal_config(json.load(opened(image["Config"])), layers, epoch))
        layout.write(target, name, config, layers)


def main() -> None:
    """Write the archive that the arguments name."""
    saved, target, name, base_layers = sys.argv[1:]
    write_archive(Path(saved), Path(target), name, int(base_layers), int(os.environ["SOURCE_DATE_EPOCH"]))


if __name__ == "__main__":
    main()
