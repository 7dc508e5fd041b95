"""Write an archive that `ctr images import` reads, of images of one static program each: no builder, no base image.

usage: archive.py OUT.tar NAME=PROGRAM [NAME=PROGRAM ...]
Each program lands in /usr/local/bin and is the image's entrypoint. The programs are written in Go, whose collector
runs a third as often as by default, since tests lack processor time rather than memory.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

FOLDERS = {"etc": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755}


def layer_with(program: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in FOLDERS.items():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        entry = tarfile.TarInfo(f"usr/local/bin/{program.name}")
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as file:
            tar.addfile(entry, file)
    return buffer.getvalue()


def configuration_of(program: Path, digest: str) -> bytes:
    environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "GOGC=300"]
    command = {"Entrypoint": [f"/usr/local/bin/{program.name}"], "Env": environment}
    layers = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "history": [], "config": command, "rootfs": layers}
    ).encode()


def main(out: str, images: list[str]) -> None:
    manifest = []
    with tarfile.open(out, "w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        for name, _, path in (image.partition("=") for image in images):
            program = Path(path)
            layer = layer_with(program)
            digest = hashlib.sha256(layer).hexdigest()
            configuration = configuration_of(program, digest)
            configuration_name = hashlib.sha256(configuration).hexdigest() + ".json"
            add(f"{digest}.tar", layer)
            add(configuration_name, configuration)
            manifest.append({"Config": configuration_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]})
        add("manifest.json", json.dumps(manifest).encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
