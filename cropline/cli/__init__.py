"""The command line. The only part of cropline/ that may call flows, and it imports them inside its commands.

Belongs here: what the commands are called and how an error ends. Does not: what a command does (a file each).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cropline.cli import operations
from cropline.cli.packages import refuse_name_clashes
from cropline.core.errors import CroplineError
from cropline.core.scrub import scrub, visible

app = typer.Typer(
    name="cropline",
    help="Shelf and cooler photos in, crops out: exactly once, and each knows where it came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="show the logs of the run")]
MaxBatches = Annotated[int | None, typer.Option(min=1, help="batches that this run takes at most")]

_NO_PREFECT = ("Failed to reach API at ", "Timed out while attempting to connect to ephemeral Prefect API server")


def main() -> None:
    """Entry point. An error of ours is one line, after those that explain it, and exit code 2: never a traceback."""
    try:
        refuse_name_clashes()
        app()
    except CroplineError as error:
        # Visible: an error names ids and keys, and those come from outside.
        for note in getattr(error, "__notes__", ()):
            print(f"cropline: {visible(note)}", file=sys.stderr)  # noqa: T201
        print(f"cropline: {error.code}: {visible(str(error))}", file=sys.stderr)  # noqa: T201
        _let_go(error)
        raise SystemExit(2) from None
    except RuntimeError as error:
        # Prefect has no type for it. Its own words name the address of PREFECT_API_URL.
        if not str(error).startswith(_NO_PREFECT):
            raise
        hint = "start the Prefect server, set PREFECT_API_URL to it, or unset it to run without one"
        print(f"cropline: prefect: {visible(scrub(str(error)))}; {hint}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"cropline {version('cropline')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    pass


def _let_go(error: BaseException | None) -> None:
    """Empty what is told already of its tracebacks. Prefect keeps the error until Python is gone, and with the frames of a
    failed script DuckDB's objects, about each of which nanobind would then complain."""
    while error is not None:
        before = error.__cause__ or error.__context__
        error.__traceback__ = error.__cause__ = error.__context__ = None
        error = before


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for everything that the demo makes")] = Path("demo-output"),
    photos: Annotated[int, typer.Option(min=1, max=5000, help="photos that the cameras have taken")] = 40,
    faults: Annotated[bool, typer.Option(help="let some photos and rows be bad, as in life")] = True,
    verbose: Verbose = False,
) -> None:
    """Simulated cameras, two polls, crops and a report: everything on this machine."""
    from cropline.cli.demo import run_demo

    quiet_prefect(verbose)
    run_demo(out, photos, with_faults=faults)


@app.command()
def poll(max_batches: MaxBatches = None, verbose: Verbose = False) -> None:
    """Poll the image API once, and crop what is new."""
    from cropline.cli.runs import run_flow

    quiet_prefect(verbose)
    run_flow("poll", max_batches)


@app.command()
def process(max_batches: MaxBatches = None, verbose: Verbose = False) -> None:
    """Crop what waits in the state table, without polling."""
    from cropline.cli.runs import run_flow

    quiet_prefect(verbose)
    run_flow("process", max_batches)


@app.command()
def status() -> None:
    """Images by state, the backlog's age, the cursor's lag, the last batches."""
    from cropline.cli.status import show_status

    show_status()


@app.command()
def trace(what: Annotated[str, typer.Argument(help="address or object key of a crop, or id of an image")]) -> None:
    """Where a crop came from: box, image, manifest, batch, flow run, profile. Of an image: which crops it became."""
    from cropline.cli.trace import show_trace

    show_trace(what)


@app.command()
def lineage(
    what: Annotated[str, typer.Argument(help="id of a flow run, or address or object key of a crop")],
    out: Annotated[
        Path | None, typer.Option(help="the picture to write, or a folder for it; not given: a new temporary one")
    ] = None,
) -> None:
    """The way from the camera API to the crops, with counts, as a picture (SVG) and in words."""
    from cropline.cli.lineage import show_lineage

    show_lineage(what, out)


@app.command()
def show(
    image_id: Annotated[str, typer.Argument(help="id of an image, as the API calls it")],
    out: Annotated[Path | None, typer.Option(help="the picture to write; IMAGE_ID.jpg if not given")] = None,
) -> None:
    """One picture of a photo: its boxes drawn in, its crops below."""
    from cropline.cli.show import show_image

    show_image(image_id, out)


@app.command()
def crop(
    photo: Annotated[str, typer.Argument(help="a picture's file, or its http(s) URL")],
    boxes: Annotated[
        Path,
        typer.Option(
            help="JSON: [[xmin, ymin, xmax, ymax], ...], or a list of boxes as the image API gives them "
            '({"id": "7", "xmin": 0.1, ...}), or a whole item of the API'
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder for the crops, boxes.jpg and crops.json")],
    profile: Annotated[
        list[str] | None, typer.Option(help="name of a crop profile of the settings; can be repeated; not given: all")
    ] = None,
    format: Annotated[
        Literal["jpeg", "png", "webp", "avif"] | None,
        typer.Option(help="this and the next change the profiles; without --profile they change a plain one"),
    ] = None,
    quality: Annotated[int | None, typer.Option(help="1 to 100: jpeg, webp, avif")] = None,
    max_side: Annotated[int | None, typer.Option(help="px; a crop with a longer side is shrunk to it")] = None,
    min_side: Annotated[int | None, typer.Option(help="px; a crop with a shorter side is skipped")] = None,
    padding: Annotated[float | None, typer.Option(help="fraction of the box's side added on each side")] = None,
    colour: Annotated[Literal["srgb", "keep_icc"] | None, typer.Option(help="convert to sRGB, or not")] = None,
    coordinates: Annotated[
        Literal["normalised", "pixels"] | None,
        typer.Option(help="of the boxes; not given: as CROPLINE_API__COORDINATES"),
    ] = None,
    orientation: Annotated[
        Literal["upright", "stored"] | None,
        typer.Option(help="of the picture that the boxes mean, by EXIF; not given: as CROPLINE_API__ORIENTATION"),
    ] = None,
    allow_loopback: Annotated[
        bool, typer.Option("--allow-loopback", help="let the URL be one of this machine")
    ] = False,
) -> None:
    """Try the engine on one picture: cut its boxes. Exit code 1 when a box failed; nothing else is remembered."""
    from cropline.cli.crop import CropOptions, run_crop

    changes = {
        "format": format,
        "quality": quality,
        "max_side": max_side,
        "min_side": min_side,
        "padding": padding,
        "colour": colour,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    wanted = CropOptions(photo, boxes, out, tuple(profile or ()), given, coordinates, orientation, allow_loopback)
    if not run_crop(wanted):
        raise typer.Exit(1)


operations.add_to(app)


def quiet_prefect(verbose: bool) -> None:
    """Prefect's own log lines would tear the progress bar; what matters of them is in our summary and error line.

    Read by Prefect at its import, so it is set before; what the user has set stays.
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Without a server of their own, people get one for the run; on a busy machine it needs more than Prefect's 20 s.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
