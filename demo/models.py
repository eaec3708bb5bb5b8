"""The JSON models of the API and of the control routes."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class BoxItem(BaseModel):
    """A product facing. Coordinates are 0..1 of the upright picture; 0, 0 is its upper left corner."""

    id: Annotated[str, Field(description="Unique within its image.", examples=["b01"])]
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    label: Annotated[str, Field(description="Product code.", examples=["zumbo-cola-500"])]
    score: Annotated[float, Field(description="The detector's confidence, 0..1.")]


class ImageItem(BaseModel):
    """One photo. Fields may be added without notice."""

    model_config = ConfigDict(extra="allow")

    id: Annotated[str, Field(examples=["cam-011-20260302T080412311"])]
    etag: Annotated[str, Field(description="Changes with the picture. The ETag header has it in quotes.")]
    sha256: Annotated[str, Field(description="Of the JPEG's bytes, in hex.")]
    bytes: int
    width: Annotated[int, Field(description="Of the upright picture: after its EXIF orientation is applied.")]
    height: int
    url: Annotated[str, Field(description="Signed: needs no token. Anyone who has it can see the photo.")]
    captured_at: AwareDatetime
    updated_at: Annotated[AwareDatetime, Field(description="Changes when the picture or one of its boxes changes.")]
    store_id: str
    camera_id: str
    boxes: list[BoxItem]
    firmware: Annotated[str, Field(description="Of the camera.")]
    door_open_ms: Annotated[int, Field(description="How long the cooler's door was open before the capture.")]
    detector: dict[str, str]


class ImagePage(BaseModel):
    images: list[ImageItem]
    next_cursor: Annotated[str | None, Field(description="Pass it as `cursor` for the next page; null on the last.")]


class StoreItem(BaseModel):
    store_id: str
    name: str
    city: str
    region: str
    format: str


class CameraItem(BaseModel):
    camera_id: str
    store_id: str
    model: str
    aisle: str


class StoreList(BaseModel):
    stores: list[StoreItem]
    cameras: list[CameraItem]


class Advance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    photos: Annotated[int, Field(ge=1, le=10_000, description="How many captures appear.")] = 8
    late: Annotated[int, Field(ge=0, description="How many of them have an `updated_at` older than the newest.")] = 0


class Advanced(BaseModel):
    added: Annotated[list[str], Field(description="Ids of the punctual ones.")]
    late: Annotated[list[str], Field(description="Ids of the late ones.")]


class ChangeBox(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image_id: str
    box_id: str = "b01"


class ChangeEtag(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image_id: str


class LogEntry(BaseModel):
    method: str
    path: Annotated[str, Field(description="Without its query.")]
    image_id: str | None
    authorized: Annotated[bool, Field(description="Whether the request had an Authorization header.")]
    status: int
    bytes: Annotated[int, Field(description="Bytes of the body that were sent.")]
    complete: bool


JsonRow = dict[str, Any]
