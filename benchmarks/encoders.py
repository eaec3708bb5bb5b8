"""What each format and effort costs. Writes results/encoders.json: FORMAT_EFFORT_ms, CPU of a crop, and FORMAT_EFFORT_kb.

The crops are those of the bed's shelf boxes, about 64,000 px. Rounds alternate, and the least counts for each crop. The
table is the one of docs/profiles.md: crops/s are those of one core that only encodes. In the whole job a crop of 37 also
takes 0.5 ms to decode.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks.bed import draw_bed, shelf_boxes
from cropline.config.profile import Profile
from fugue_jobs.imaging.colour import Coloured
from fugue_jobs.imaging.encode import encode, read_recipe

PHOTOS = int(os.environ.get("PHOTOS", "3"))
CROPS = 5  # of each photo
ROUNDS = int(os.environ.get("ROUNDS", "3"))
RESULT = Path(__file__).parent / "results" / "encoders.json"


class Way(NamedTuple):
    """A row of the table: a format with one effort."""

    name: str
    profile: Profile
    default: int

    @property
    def effort(self) -> int:
        assert self.profile.effort is not None
        return self.profile.effort


class Cost(NamedTuple):
    ms: float
    kb: float


def ways() -> list[Way]:
    kinds = (
        ("jpeg", Profile(), 0, (0, 1)),
        ("png", Profile(format="png"), 1, (0, 1, 2, 4, 6, 9)),
        ("webp", Profile(format="webp"), 4, (0, 2, 4, 5, 6)),
        ("webp lossless", Profile(format="webp", lossless=True), 1, (0, 1, 2, 4, 6)),
        ("avif", Profile(format="avif"), 4, (0, 2, 3, 4, 5)),
    )
    return [
        Way(name, profile.model_copy(update={"effort": effort}), default)
        for name, profile, default, efforts in kinds
        for effort in efforts
    ]


def crops() -> list[Coloured]:
    found = []
    for photo in draw_bed(PHOTOS):
        whole = Image.open(photo.path)
        for left, top, right, bottom in shelf_boxes(photo)[:CROPS]:
            edges = (left * whole.width, top * whole.height, right * whole.width, bottom * whole.height)
            found.append(Coloured(whole.crop(tuple(map(round, edges))), None, None))  # type: ignore[arg-type]
    return found


def measure(way: Way, drawn: list[Coloured]) -> Cost:
    recipe = read_recipe(way.profile.recipe)
    seconds, size = 0.0, 0
    for crop in drawn:
        taken = []
        for _ in range(ROUNDS):
            started = time.process_time()
            data, _image = encode(crop, recipe)
            taken.append(time.process_time() - started)
        seconds += min(taken)
        size += len(data)
    return Cost(1e3 * seconds / len(drawn), size / len(drawn) / 1e3)


def main() -> None:
    drawn = crops()
    pixels = sum(crop.image.width * crop.image.height for crop in drawn) / len(drawn)
    print(f"{len(drawn)} crops of {pixels:,.0f} px in the mean, quality 90; * is the default")
    print(f"| format | effort | ms | crops/s | KB |\n|{'---|' * 5}")
    figures = {}
    for way in ways():
        cost = measure(way, drawn)
        mark = " *" if way.effort == way.default else ""
        print(f"| {way.name} | {way.effort}{mark} | {cost.ms:.1f} | {1e3 / cost.ms:,.0f} | {cost.kb:.1f} |", flush=True)
        name = f"{way.name.replace(' ', '_')}_{way.effort}"
        figures |= {f"{name}_ms": round(cost.ms, 2), f"{name}_kb": round(cost.kb, 2)}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
