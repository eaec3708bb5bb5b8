"""``cropline demo``: simulate a camera API, poll it twice, and print where the outputs are."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cropline.cli.runs import Stopwatch, check_settings, funnel_table, show_places, show_problems, watched
from cropline.core.errors import SettingsError
from cropline.core.screen import Screen
from cropline.pipeline.funnel import Funnel
from cropline.reports.places import places

if TYPE_CHECKING:
    from demo.server import DemoServer

_MARK = ".cropline-demo"


def run_demo(out: Path, photos: int, megapixels: float, *, with_faults: bool) -> None:
    """Poll twice; the second poll finds nothing new. Raises SettingsError when ``out`` is not a demo folder."""
    check_demo_installed()
    from demo.server import DemoServer

    screen = Screen()
    folder = _fresh_folder(out)
    screen.print(
        f"[bold]cropline demo[/bold]  {photos} photos of simulated cameras, drawn and served on this machine\n",
        markup=True,
    )
    watch = Stopwatch()
    with screen.status("drawing the photos"):
        server = DemoServer(photos=photos, megapixels=megapixels, cache_dir=folder / "camera-photos")
        with server as api:
            _point_at(api.base_url, api.token, folder)
            if with_faults:
                _break_some(api)
            drawn = watch.seconds
            screen.print(f"  camera API: {api.base_url} (its pages: {api.base_url}/docs), ready after {drawn:.0f} s\n")
            runs = _poll_twice(screen)
    screen.print(funnel_table(runs))
    if runs[1][1].nothing_new:
        screen.print("\n  The second poll found nothing new: every photo is cropped once.")
    if with_faults:
        screen.print("\n  The demo damages some photos and rows on purpose. --no-faults leaves them whole.")
        show_problems(screen, runs[0][1])
    settings = check_settings(needs_api=False)
    show_places(screen, [*places(settings, runs[0][1])])
    screen.print(f"\n  {watch.seconds:.0f} s in all. To look at the result:", soft_wrap=True)
    screen.print(f"    source {out / 'env.sh'} && cropline status", soft_wrap=True)


def check_demo_installed() -> None:
    """Raise SettingsError when a package for the simulated cameras is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise SettingsError(f"the simulated cameras need {' and '.join(missing)}: pip install 'cropline[demo]'")


def _fresh_folder(out: Path) -> Path:
    """Return an empty folder.

    Deletes the output of an earlier demo. Raises SettingsError when other files are in it.
    """
    folder = out.resolve()
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--out {out}: is a file; name a folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise SettingsError(f"--out {out}: holds files that are not from a demo; name another folder")
    try:
        kept = folder / "camera-photos"  # drawing the photos again would take longest
        for entry in folder.iterdir() if folder.exists() else ():
            if entry != kept:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written ({error.strerror})") from None
    return folder


def demo_settings(url: str, token: str, folder: Path) -> dict[str, str]:
    """Return the environment variables for a demo whose files are all in one folder."""
    from demo.stores import write_stores

    write_stores(folder / "stores.parquet")
    return {
        "CROPLINE_API__SOURCE": "demo-cameras",
        "CROPLINE_API__URL": url,
        "CROPLINE_API__TOKEN": token,
        "CROPLINE_API__PAGE_SIZE": "15",
        "CROPLINE_FETCH__ALLOW_LOOPBACK": "true",
        "CROPLINE_STORAGE__URL": (folder / "output").as_uri(),
        "CROPLINE_STATE__URL": f"sqlite:///{folder / 'state.db'}",
        "CROPLINE_ENGINE__STORES": str(folder / "stores.parquet"),
    }


def _point_at(url: str, token: str, folder: Path) -> None:
    """Put the demo's settings into this process's environment and into env.sh."""
    for name in [name for name in os.environ if name.startswith("CROPLINE_")]:
        del os.environ[name]  # so that the demo cannot touch the user's state and storage
    settings = demo_settings(url, token, folder) | {"PREFECT_HOME": str(folder / "prefect")}
    os.environ |= settings
    write_env(folder, settings)


def write_env(folder: Path, settings: Mapping[str, str]) -> Path:
    """Write a shell file that sets the variables, and return its path."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    path = folder / "env.sh"
    path.write_text("# Settings of this demo. Source this file, then run cropline status.\n" + "\n".join(lines) + "\n")
    return path


def _break_some(api: DemoServer) -> None:
    """Damage a few rows and photos."""
    ids = [row["id"] for row in api.control.images()]
    rows = ("row_without_id", "row_inverted_box", "row_bad_timestamp")
    photos = ("image_missing", "image_corrupt_scan", "image_500")
    for fault, image_id in zip((*rows, *photos), ids[3::5], strict=False):
        api.control.add_fault(fault, image_id=image_id)


def _poll_twice(screen: Screen) -> list[tuple[str, Funnel]]:
    first = watched(screen, "poll")
    return [("first poll", first), ("second poll", watched(screen, "poll"))]
