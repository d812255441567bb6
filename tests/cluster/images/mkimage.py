"""Make a docker-archive of one layer that `ctr images import` takes: the same bytes from the same folder.

Usage: mkimage.py OUT.tar NAME:TAG --root DIR [--entrypoint COMMAND] [--cmd COMMAND]
"""

import argparse
import hashlib
import io
import json
import platform
import tarfile
import tempfile
from pathlib import Path

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member as root's, without its time: neither says anything about the image."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--entrypoint")
    parser.add_argument("--cmd")
    options = parser.parse_args()

    with tempfile.TemporaryFile() as layer:
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(options.root.iterdir()):
                tar.add(path, arcname=path.name, filter=anonymous)
        size = layer.tell()
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        config = {
            "architecture": ARCHITECTURE[platform.machine()],
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/bin:/usr/bin:/sbin"],
                "WorkingDir": "/",
                **({"Entrypoint": [options.entrypoint]} if options.entrypoint else {}),
                **({"Cmd": [options.cmd]} if options.cmd else {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        config_bytes = json.dumps(config, sort_keys=True).encode()
        config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
        layer_name = f"{digest}/layer.tar"
        manifest = [{"Config": config_name, "RepoTags": [options.name], "Layers": [layer_name]}]

        layer.seek(0)
        with tarfile.open(options.out, "w") as tar:
            for name, content in ((config_name, config_bytes), ("manifest.json", json.dumps(manifest).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            member = tarfile.TarInfo(layer_name)
            member.size = size
            tar.addfile(member, layer)


if __name__ == "__main__":
    main()
