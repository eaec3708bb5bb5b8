"""The container image: it runs as any user on a read-only root, and holds nothing that it does not need.

IMAGE=localhost/cropline tests an image that was built before, by make image BUILDER=buildah; building takes minutes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.image_build import USER, Image, mounted, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

_NO_SUCH_PROGRAMS = {
    "cc", "gcc", "g++", "c++", "cpp", "clang", "ld", "as", "make", "cmake", "git", "curl", "wget", "pip", "pip3", "uv", "uvx",
}  # fmt: skip
_SECRET = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*\n[A-Za-z0-9+/=\s]{100}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|https?://[^\s/:@\"'<>{}$]+:[^\s/:@\"'<>{}$]{6,}@[a-z0-9.-]+\.[a-z]{2,}"
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with mounted(tmp_path_factory.mktemp("image")) as made:
        yield made


def test_the_demo_runs_as_another_user_on_a_read_only_root(
    image: Image, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("out")
    out.parent.chmod(0o755)
    refused = image.run(out, "sh", "-c", "id -u; touch /opt/x /home/cropline/x; touch /tmp/x /work/x && echo both")
    assert refused.stdout.split() == [str(USER), "both"]
    assert refused.stderr.count("Read-only file system") == 2
    ran = image.run(out, "cropline", "demo", "--out", "/work/demo")
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "every photo is cropped once" in ran.stdout
    assert list((out / "demo/output/crops").rglob("*.jpg"))
    assert "Permission denied" not in ran.stdout + ran.stderr
    assert "Read-only file system" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("cropline", "--help"),
        ("prefect", "version"),
        ("java", "-version"),
        ("python", "-c", "import cropline_regions, pyspark"),
    ],
)
def test_each_role_finds_its_program(image: Image, tmp_path: Path, command: tuple[str, ...]) -> None:
    tmp_path.parent.chmod(0o755)
    ran = image.run(tmp_path / "out", *command)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_nothing_is_in_it_that_it_does_not_need(image: Image) -> None:
    programs, tests, caches, secrets = set(), [], [], []
    for folder, names, files in os.walk(image.root):
        here = Path("/") / Path(folder).relative_to(image.root)
        names[:] = [name for name in names if not (here == Path("/") and name in ("proc", "sys", "dev"))]
        if here.name in ("bin", "sbin"):
            programs |= set(files)
        if here.name == "tests" and "site-packages" in here.parts and "numpy" not in here.parts:
            tests.append(str(here))
        if here.name in (".cache", "pip", ".git") or str(here) in (
            "/var/cache",
            "/var/lib/apt/lists",
            "/var/log",
            "/root",
        ):
            caches += [str(here / name) for name in files if name not in (".bashrc", ".profile")]
        for name in files:
            file = Path(folder, name)
            if name in (".env", "pip.conf", ".netrc", ".pypirc", "credentials") and file.stat().st_size:
                secrets.append(str(here / name))
            if file.is_file() and not file.is_symlink() and file.stat().st_size < 2_000_000:
                found = _SECRET.search(file.read_bytes())
                # Documentation of libraries has examples: what is ours, or is configuration, must have none.
                if found and "site-packages" not in here.parts and "share" not in here.parts:
                    secrets.append(f"{here / name}: {found[0][:30]!r}")
    assert programs & _NO_SUCH_PROGRAMS == set()
    assert tests == []
    assert caches == []
    assert secrets == []


def test_it_is_described_and_holds_no_setting_of_the_machine_that_built_it(image: Image) -> None:
    assert {line.partition("=")[0] for line in image.environment} == {
        "PATH", "HOME", "PYTHONUTF8", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "SPARK_HOME", "PYSPARK_PYTHON",
        "DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED",
    }  # fmt: skip
    assert image.labels["org.opencontainers.image.title"] == "cropline"
    assert image.user == "10001"
    for leftover in ("etc/uv", "etc/pip.conf"):
        here = image.root / leftover
        assert not here.exists() or (here.is_dir() and not list(here.iterdir())) or here.stat().st_size == 0
