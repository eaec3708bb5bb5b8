"""The command line: the names of the commands, and how errors are printed. Each command has its own module.

This is the only part of cropline/ that may call flows. Its commands import them when they run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cropline.cli import operations
from cropline.cli.options import EverySource, Source
from cropline.cli.packages import refuse_name_clashes
from cropline.core.errors import CroplineError
from cropline.core.scrub import scrub, visible

app = typer.Typer(
    name="cropline",
    help="Turn shelf and cooler photos into crops: each box exactly once, each crop with its history.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="show the logs of the run")]
MaxBatches = Annotated[int | None, typer.Option(min=1, help="process at most this many batches")]

_NO_PREFECT = ("Failed to reach API at ", "Timed out while attempting to connect to ephemeral Prefect API server")


def main() -> None:
    """Entry point. A CroplineError is printed as one line, without a traceback; the exit code is 2."""
    try:
        refuse_name_clashes()
        app()
    except CroplineError as error:
        # An error may quote ids and keys, which come from outside.
        for note in getattr(error, "__notes__", ()):
            print(f"cropline: {visible(note)}", file=sys.stderr)  # noqa: T201
        print(f"cropline: {error.code}: {visible(str(error))}", file=sys.stderr)  # noqa: T201
        _drop_tracebacks(error)
        raise SystemExit(2) from None
    except RuntimeError as error:
        # Prefect has no exception type for it. Its message names the address in PREFECT_API_URL.
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


def _drop_tracebacks(error: BaseException | None) -> None:
    """Drop the tracebacks of a printed error.

    Prefect keeps the error until the interpreter ends. The frames of a failed script hold DuckDB objects, and nanobind
    would then print a line about each of them.
    """
    while error is not None:
        before = error.__cause__ or error.__context__
        error.__traceback__ = error.__cause__ = error.__context__ = None
        error = before


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for everything that the demo writes")] = Path("demo-output"),
    photos: Annotated[int, typer.Option(min=1, max=5000, help="number of photos to simulate")] = 40,
    megapixels: Annotated[
        float, typer.Option(min=0.05, max=20, help="resolution of the photos; small ones are drawn faster")
    ] = 9.0,
    faults: Annotated[bool, typer.Option(help="damage some photos and rows")] = True,
    verbose: Verbose = False,
) -> None:
    """Poll simulated cameras twice, all on this machine. Writes crops and a report."""
    from cropline.cli.demo import run_demo

    quiet_prefect(verbose)
    run_demo(out, photos, megapixels, with_faults=faults)


@app.command()
def poll(
    source: EverySource = None,
    max_batches: MaxBatches = None,
    files: Annotated[
        str | None,
        typer.Option(
            "--from", help="read these files once instead of the source: a path or the URL of a storage, also a glob"
        ),
    ] = None,
    format: Annotated[
        Literal["csv", "parquet", "jsonl", "json", "coco", "label_studio"] | None,
        typer.Option(help="format of the files of --from; default: by the ending of a name"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Poll the source once and crop what is new. Of several sources, each is polled first; then they take turns."""
    from cropline.cli.runs import run_poll

    quiet_prefect(verbose)
    run_poll(source, max_batches, files, format or "")


@app.command()
def process(source: EverySource = None, max_batches: MaxBatches = None, verbose: Verbose = False) -> None:
    """Crop the backlog without polling. Several sources take turns."""
    from cropline.cli.runs import run_process

    quiet_prefect(verbose)
    run_process(source, max_batches)


@app.command()
def status() -> None:
    """Show the state table and the backlog. It also shows cursors, failure reasons and the last batches."""
    from cropline.cli.status import show_status

    show_status()


@app.command()
def trace(
    what: Annotated[str, typer.Argument(help="address or object key of a crop, or id of an image")],
    source: EverySource = None,
) -> None:
    """Show the origin of a crop, or the crops of an image. The origin: box, image, manifest, batch, run, profile."""
    from cropline.cli.trace import show_trace

    show_trace(what, source)


@app.command()
def lineage(
    what: Annotated[str, typer.Argument(help="id of a flow run, or address or object key of a crop")],
    out: Annotated[
        Path | None, typer.Option(help="file or folder for the picture; default: a new temporary folder")
    ] = None,
) -> None:
    """Draw the path from the image API to the crops. Writes SVG and text with the counts of a run or a batch."""
    from cropline.cli.lineage import show_lineage

    show_lineage(what, out)


@app.command()
def show(
    image_id: Annotated[str, typer.Argument(help="id of an image in the image API")],
    out: Annotated[Path | None, typer.Option(help="file for the picture; default: IMAGE_ID.jpg")] = None,
    source: EverySource = None,
) -> None:
    """Draw one photo with its boxes, and its crops below."""
    from cropline.cli.show import show_image

    show_image(image_id, out, source)


@app.command()
def crop(
    photo: Annotated[str, typer.Argument(help="path or http(s) URL of a photo")],
    boxes: Annotated[
        Path,
        typer.Option(
            help="JSON: [[xmin, ymin, xmax, ymax], ...], or a list of boxes as the image API returns them "
            '({"id": "7", "xmin": 0.1, ...}), or a whole item of the API'
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder for the crops, boxes.jpg and crops.json")],
    profile: Annotated[
        list[str] | None,
        typer.Option(help="name of a crop profile in the settings; can be repeated; default: all of them"),
    ] = None,
    format: Annotated[
        Literal["jpeg", "png", "webp", "avif"] | None,
        typer.Option(
            help="file format; this and the next seven options change the chosen profiles, or the default recipe without --profile"
        ),
    ] = None,
    quality: Annotated[int | None, typer.Option(help="1 to 100, for jpeg, webp and avif")] = None,
    effort: Annotated[
        int | None, typer.Option(help="more makes smaller files and takes longer; see docs/profiles.md")
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="webp: keep every pixel; jpeg: copy the photo's bits")
    ] = False,
    max_side: Annotated[int | None, typer.Option(help="pixels; a crop with a longer side is scaled down to it")] = None,
    min_side: Annotated[int | None, typer.Option(help="pixels; a box with a shorter side is skipped")] = None,
    padding: Annotated[float | None, typer.Option(help="margin on each side, as a fraction of the box's side")] = None,
    colour: Annotated[
        Literal["srgb", "keep_icc"] | None,
        typer.Option(help="convert to sRGB, or keep the colours and their ICC profile"),
    ] = None,
    coordinates: Annotated[
        Literal["normalised", "pixels"] | None,
        typer.Option(help="units of the boxes; default: CROPLINE_API__COORDINATES"),
    ] = None,
    orientation: Annotated[
        Literal["upright", "stored"] | None,
        typer.Option(
            help="whether boxes refer to the photo after EXIF rotation (upright) or before (stored); default: CROPLINE_API__ORIENTATION"
        ),
    ] = None,
    allow_loopback: Annotated[bool, typer.Option("--allow-loopback", help="allow a URL of this machine")] = False,
    source: Source = None,
) -> None:
    """Cut the boxes of one photo into a folder. Use it to try profiles. The exit code is 1 when a box failed."""
    from cropline.cli.crop import CropOptions, run_crop

    changes = {
        "format": format,
        "quality": quality,
        "effort": effort,
        "lossless": lossless or None,
        "max_side": max_side,
        "min_side": min_side,
        "padding": padding,
        "colour": colour,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    wanted = CropOptions(
        photo, boxes, out, tuple(profile or ()), given, coordinates, orientation, allow_loopback, source
    )
    if not run_crop(wanted):
        raise typer.Exit(1)


operations.add_to(app)


def quiet_prefect(verbose: bool) -> None:
    """Silence Prefect's log lines, which would break the progress bar. The user's settings are kept.

    Call it before Prefect is imported: Prefect reads these variables then.
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Without a server, Prefect starts one for the run. On a busy machine that takes longer than its default of 20 s.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
