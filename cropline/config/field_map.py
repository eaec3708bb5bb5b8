"""Settings that map the items of the image API to our fields."""

from __future__ import annotations

from pydantic import field_validator

from cropline.config.group import Group


class FieldMap(Group):
    """The path of each of our fields in one item of the API, as JMESPath; paths of box fields start at a box.

    A field whose path finds nothing is null. The expectations say which fields may be null.
    """

    image_id: str = "id"
    version: str = "etag || sha256 || updated_at"
    url: str = "url"
    captured_at: str = "captured_at"
    updated_at: str = "updated_at"
    store_id: str = "store_id"
    camera_id: str = "camera_id"
    width: str = "width"
    height: str = "height"
    bytes: str = "bytes"
    sha256: str = "sha256"
    boxes: str = "boxes"
    box_id: str = "id"
    xmin: str = "xmin"
    ymin: str = "ymin"
    xmax: str = "xmax"
    ymax: str = "ymax"
    polygon: str = ""
    rotation: str = "rotation"
    label: str = "label"
    score: str = "score"

    @field_validator("*")
    @classmethod
    def _is_jmespath(cls, value: str) -> str:
        if not value:
            return value  # empty: the field is null
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
