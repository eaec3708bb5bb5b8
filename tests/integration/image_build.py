"""Builds the container image without a registry and runs commands in it as its orchestrators would, for test_image.py.

The base is made by mmdebstrap from this machine's Debian mirror, the image by buildah under chroot isolation. A command
runs in a mount namespace: the root read-only, /tmp and one folder writable, as a user that the image does not know.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "mmdebstrap", "unshare", "chroot")
USER = 12_345
_IMAGE, _BASE = "localhost/cropline-under-test", "localhost/cropline-test-base"
_ENTER = r"""
set -e
root=$1 out=$2; shift 2
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"; mount -o remount,bind,ro "$root/dev"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount --bind "$out" "$root/work"
exec chroot --userspec="$ID:$ID" "$root" /usr/bin/env -i $ENVIRONMENT /opt/cropline/bin/entrypoint "$@"
"""


def why_not() -> str | None:
    """Return why an image cannot be built here, or None."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"the image is not built: no {', '.join(missing)} here"
    return None if os.geteuid() == 0 else "the image is not built: chroot isolation needs root"


def _run(*command: str, **more: str) -> str:
    done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} ended with {done.returncode}: {(done.stderr or done.stdout)[-3000:]}")
    return done.stdout.strip()


def mirror() -> str:
    """Return the Debian mirror that apt uses here."""
    files = [*Path("/etc/apt/sources.list.d").glob("*"), Path("/etc/apt/sources.list")]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    # Other vendors' repositories may stand beside Debian's.
    found = re.search(r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s+)?)(\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError("apt has no mirror here")
    return found[1]


class Image:
    """The built image, mounted."""

    def __init__(self, name: str, root: Path) -> None:
        self.root = root
        config = json.loads(_run("buildah", "inspect", "--type", "image", name))["OCIv1"]["config"]
        self.environment: list[str] = config["Env"]
        self.labels: dict[str, str] = config["Labels"]
        self.user: str = config["User"]

    def run(self, out: Path, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command by the image's entry point, with its own environment; ``out`` is mounted at /work."""
        out.mkdir(exist_ok=True)
        os.chown(out, USER, USER)
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", _ENTER, "sh", self.root, out, *command],
            env={"PATH": os.environ["PATH"], "ID": str(USER), "ENVIRONMENT": " ".join(self.environment)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )  # fmt: skip


@contextmanager
def mounted(folder: Path) -> Iterator[Image]:
    """Build the image of this checkout and mount it; IMAGE names one that is there already, and then is not removed."""
    there = os.environ.get("IMAGE", "")
    name = there or _build(folder)
    container = _run("buildah", "from", name)
    try:
        yield Image(name, Path(_run("buildah", "mount", container)))
    finally:
        _run("buildah", "rm", container)
        if not there:
            _run("buildah", "rmi", _IMAGE, _BASE)


def _build(folder: Path) -> str:
    tar = folder / "base.tar"
    packages = "--include=ca-certificates,python3.11,python3.11-venv"
    _run("mmdebstrap", "--variant=minbase", packages, "bookworm", str(tar), mirror())
    base = _run("buildah", "from", "scratch")
    try:
        _run("buildah", "add", base, str(tar), "/")
        _run("buildah", "commit", "-q", base, _BASE)
    finally:
        _run("buildah", "rm", base)
    _run(
        "buildah", "bud", "--isolation", "chroot", "--layers=false", "--build-arg", f"BASE={_BASE}",
        *_settings_of_this_machine(folder), "-t", _IMAGE, str(ROOT),
    )  # fmt: skip
    return _IMAGE


def _settings_of_this_machine(folder: Path) -> list[str]:
    """Return options that let pip and uv reach their index as they do here. They are mounted, and so not in the image."""
    certificates, uv = folder / "certs", folder / "uv"
    shutil.copytree("/etc/ssl/certs", certificates, ignore_dangling_symlinks=True)
    uv.mkdir()
    (uv / "uv.toml").write_text("native-tls = true\n")
    mounted = [f"{certificates}:/etc/ssl/certs", f"{uv}:/etc/uv:ro"]
    if Path("/etc/pip.conf").exists():
        mounted.append("/etc/pip.conf:/etc/pip.conf:ro")
    return [option for each in mounted for option in ("--volume", each)]
