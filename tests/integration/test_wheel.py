"""The wheel without a checkout: an environment with the requirements, the wheel, and no other code of cropline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.integration.prefect_servers import LESS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if name.split("/")[0] in ("tests", "native", "benchmarks", "docs"):
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (source / name).symlink_to((ROOT / name).readlink())
        else:
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (made,) = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new environment's interpreter. It shares the installed requirements; the checkout is not on its path."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=100)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    requirements = [path for path in sys.path if path.endswith("site-packages")]
    # Plain paths: Python then ignores the .pth files there, one of which names the checkout.
    (site / "requirements.pth").write_text("\n".join(requirements) + "\n")
    return home / "bin" / "python"


def _cropline(python: Path, cwd: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CROPLINE_", "PREFECT_", "PYTHON"))
    }
    return subprocess.run(
        [python, "-c", "from cropline.cli import main; main()", *arguments],
        env=environment | {"COLUMNS": "200", "PREFECT_HOME": str(cwd / "prefect")} | settings,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_wheel_holds_every_package_and_what_deploy_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"automations/prefect.yaml", "automations/alerts.yaml", "fugue_jobs/crop_images.fsql"} <= names
    assert zipfile.ZipFile(wheel).read("automations/prefect.yaml") == (ROOT / "prefect.yaml").read_bytes()
    packages = {path.parent.relative_to(ROOT) for top in ROOT.iterdir() for path in top.rglob("__init__.py")
                if top.name in ("cropline", "flows", "tasks", "fugue_jobs", "expectations", "automations", "demo", "drift")}  # fmt: skip
    assert {f"{package}/__init__.py" for package in packages} <= names
    assert {f"{package.parts[0]}/py.typed" for package in packages} <= names


def test_cropline_says_its_version(python: Path, tmp_path: Path) -> None:
    ended = _cropline(python, tmp_path, "--version")
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "cropline"), ended.stderr


def test_the_demo_runs_from_the_wheel_alone(python: Path, tmp_path: Path, new_prefect_database: Path) -> None:
    database = tmp_path / "prefect.db"
    shutil.copyfile(new_prefect_database, database)
    less = LESS | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    ended = _cropline(python, tmp_path, "demo", "--photos", "4", "--megapixels", "0.3", "--no-faults", **less)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "every photo is cropped once" in ended.stdout
    where = subprocess.run(
        [python, "-c", "import flows; print(flows.__file__)"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(ROOT) not in where.stdout


def test_deploy_finds_the_deployments_in_the_wheel(python: Path, tmp_path: Path) -> None:
    code = "from automations.deploy import default_file; from automations.prefect_yaml import check; print(check(default_file()))"
    checked = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=100
    )
    assert checked.stdout.strip() == "[]", checked.stderr


def test_a_package_of_the_same_name_that_comes_first_is_one_line(python: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cropline.cli import main; main()"
    ended = subprocess.run(
        [python, "-c", code, str(tmp_path), "status"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("cropline: settings: cropline's package 'tasks' cannot be imported"), ended.stderr
    assert ended.stderr.count("\n") == 1
