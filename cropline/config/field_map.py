"""Where our fields stand in an item of the image API, as settings."""

from __future__ import annotations

from pydantic import field_validator

from cropline.config.group import Group


class FieldMap(Group):
    """Where each of our fields stands in one item of the API, as JMESPath; boxes' fields are relative to a box.

    A field whose path finds nothing is null: the expectations say which may be.
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
            return value  # nothing: the field is null
        import jmespath
        from jmespath.exceptions import ArityError, JMESPathError, JMESPathTypeError, UnknownFunctionError

        try:
            jmespath.compile(value).search({})
        except (UnknownFunctionError, ArityError) as error:
            raise ValueError(f"not a JMESPath expression: {value!r}: {error}") from error
        except JMESPathTypeError:
            pass  # an item that has the fields may well suit its functions
        except JMESPathError as error:
            raise ValueError(f"not a JMESPath expression: {value!r}") from error
        return value
