"""Cuts one photo in this process, for tests: bytes and boxes in, outcomes and files out."""

from typing import Any

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.core.failures import PhotoFailure
from fugue_jobs.imaging.decode import open_photo
from fugue_jobs.imaging.pixels import Cut, cut
from fugue_jobs.work import Box, ImageWork, Order

WHOLE = Box("whole", 0.0, 0.0, 1.0, 1.0)


def work_for(*boxes: Box, profiles: tuple[Profile, ...] = (Profile(format="png"),), **changes: Any) -> ImageWork:
    orders = tuple(Order(f"p{number}", "f" * 64, profile.recipe) for number, profile in enumerate(profiles))
    values = (
        "cameras",
        "image-1",
        "http://camera/1.jpg",
        None,
        None,
        "normalised",
        "upright",
        boxes or (WHOLE,),
        orders,
    )
    return ImageWork(*values)._replace(**changes)


def cuts(data: bytes, work: ImageWork | None = None, **limits: Any) -> list[Cut]:
    """Cut a photo. Raises PhotoFailure when the photo itself is at fault."""
    bounds = PictureLimits(**limits)
    photo = open_photo(data, bounds)
    return list(cut(photo, work or work_for(), bounds, lambda: None))


def photo_failure(data: bytes, work: ImageWork | None = None, **limits: Any) -> PhotoFailure | None:
    """Return why the whole photo failed, or None."""
    try:
        cuts(data, work, **limits)
    except PhotoFailure as failure:
        return failure
    return None


def reason(data: bytes, work: ImageWork | None = None, **limits: Any) -> str | None:
    """Return why the photo, or its first box, failed."""
    failure = photo_failure(data, work, **limits)
    return failure.code if failure else cuts(data, work, **limits)[0].outcome.reason
