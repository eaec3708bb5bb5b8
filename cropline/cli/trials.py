"""Names, options and help of the commands that try a profile: try and shadow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Tried = Annotated[str, typer.Option("--profile", help="the new or changed profile, as the settings have it")]
Against = Annotated[
    str | None,
    typer.Option(help="the profile to compare with; default: the same by its recipe until now, for a new one another"),
]
TrialOut = Annotated[Path, typer.Option(help="folder for the contact sheet")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command("try")(try_)
    app.command()(shadow)


def try_(
    profile: Tried,
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="photos, drawn from the newest ones")] = 200,
    against: Against = None,
    out: TrialOut = Path("cropline-try"),
) -> None:
    """Cut a sample by a new or changed profile beside the current one, and show what differs. Stores no crop."""
    from cropline.cli.trial import try_profile

    try_profile(profile, sample, against, out)


def shadow(
    profile: Tried,
    share: Annotated[float, typer.Option(min=0.0001, max=1, help="part of the photos that other runs crop")] = 0.05,
    minutes: Annotated[float, typer.Option(min=0.01, max=10_000, help="minutes to run; Ctrl-C ends it before")] = 60,
    against: Against = None,
    out: TrialOut = Path("cropline-shadow"),
) -> None:
    """Do what try does on a share of the photos that other runs crop from now on. Stores no crop."""
    from cropline.cli.trial import shadow_profile

    shadow_profile(profile, share, minutes, against, out)
