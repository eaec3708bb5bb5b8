"""Settings that map the items of the image API to our fields."""

from __future__ import annotations

from pydantic import Field, field_validator

from cropline.config.group import Group


class FieldMap(Group):
    """The path of each of our fields in one item of the API, as JMESPath; paths of box fields start at a box.

    A field whose path finds nothing is null. The expectations say which fields may be null.
    """

    image_id: str = Field("id", description="the image's id within this API")
    version: str = Field("etag || sha256 || updated_at", description="what changes when the photo or its boxes change")
    url: str = Field("url", description="the photo's address")
    captured_at: str = Field("captured_at", description="when the photo was taken")
    updated_at: str = Field("updated_at", description="when the item last changed; the cursor of polls follows it")
    store_id: str = Field("store_id", description="the store where the photo was taken")
    camera_id: str = Field("camera_id", description="the camera that took the photo")
    width: str = Field("width", description="declared width of the photo, px")
    height: str = Field("height", description="declared height of the photo, px")
    bytes: str = Field("bytes", description="declared size of the photo, bytes")
    sha256: str = Field("sha256", description="declared SHA-256 of the photo, hex")
    boxes: str = Field("boxes", description="the image's boxes")
    box_id: str = Field("id", description="of a box: its id within the image")
    xmin: str = Field("xmin", description="of a box: its left edge, or as box_format says")
    ymin: str = Field("ymin", description="of a box: its top edge, or as box_format says")
    xmax: str = Field("xmax", description="of a box: its right edge, or as box_format says")
    ymax: str = Field("ymax", description="of a box: its bottom edge, or as box_format says")
    polygon: str = Field("", description="of a box: its points, for box_format polygon")
    rotation: str = Field("rotation", description="of a box: its rotation, degrees clockwise")
    label: str = Field("label", description="of a box: the class that the detector assigned to it")
    score: str = Field("score", description="of a box: the detector's confidence")

    @field_validator("*")
    @classmethod
    def _is_jmespath(cls, value: str) -> str:
        return check_jmespath(value)


def check_jmespath(value: str) -> str:
    """Return a path, empty for none. Raise ValueError when it is no JMESPath."""
    if not value:
        return value
    import jmespath
    from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, UnknownFunctionError

    try:
        jmespath.compile(value).search({})
    except (UnknownFunctionError, ArityError) as error:
        raise ValueError(f"not a JMESPath expression: {value!r}: {error}") from error
    except JMESPathTypeError:
        pass  # the functions fail on this empty item, but may work on real ones
    except JMESPathError as error:
        raise ValueError(f"not a JMESPath expression: {value!r}") from error
    return value
