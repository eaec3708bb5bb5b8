"""Settings of the image API: its address, its requests, its pages, and the meaning of its items."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, JsonValue, SecretStr, ValidationInfo, field_validator, model_validator

from cropline.config.auth import AuthSettings, check_header_value, check_headers
from cropline.config.field_map import FieldMap as FieldMap
from cropline.config.field_map import check_jmespath
from cropline.config.files import check_files_url, with_defaults
from cropline.config.group import Group
from cropline.config.named_function import find_named
from cropline.config.proxy import ProxyUrl
from cropline.core.proxy import Proxy, read_proxy

Paginator = Literal["cursor", "header_link", "page_number", "offset", "next_url", "single_page"]

READERS, MAPS = "cropline.sources", "cropline.maps"
"""Groups of entry points."""

_PLAIN_JSONPATH = re.compile(r"(\$|[A-Za-z_][A-Za-z0-9_]*)(\.[A-Za-z_][A-Za-z0-9_]*|\[\*\])*")
_SINCE_FORMATS = ("iso", "iso_z", "date", "epoch_s", "epoch_ms")
_TIME_FORMATS = ("iso", "epoch_s", "epoch_ms")


class ApiSettings(Group):
    """The image API that is polled."""

    source: str = Field(
        "cameras", description="the name of this API in keys, tables and lineage", pattern=r"^[A-Za-z0-9_.-]{1,64}$"
    )
    kind: Literal["rest", "files", "bucket", "python"] = Field(
        "rest",
        description="what is polled: rest is an HTTP API, files are tables and annotations, bucket is photos with side-cars, "
        "python a generator function of yours (reader)",
    )
    url: str = Field(
        "",
        description="rest: base address, http(s)://host[:port][/path]; files, bucket: a path or the URL of a storage, which "
        "may have a glob",
    )
    format: Literal["", "csv", "parquet", "jsonl", "json", "coco", "yolo", "label_studio"] = Field(
        "", description="files: their format; bucket: that of the side-cars; empty goes by the ending of a name"
    )
    sidecar: str = Field(
        "",
        description="bucket: name of a photo's side-car from the photo's folder, or with / from the prefix; {stem} {name} "
        "{folder} are filled in; empty is {stem}.json, or YOLO's labels/",
    )
    key_pattern: str = Field(
        "", description="bucket: a regular expression on a photo's name; its named groups become fields of the item"
    )
    keys_by_time: bool = Field(
        False,
        description="bucket: names sort by time, so a poll lists only behind those that were read; overlap bounds late ones",
    )
    reader: str = Field(
        "",
        description="kind python: package.module:function, or an entry point of the group cropline.sources; "
        "(since, settings) -> pages of dicts",
    )
    map: str = Field(
        "",
        description="package.module:function, or an entry point of the group cropline.maps: item -> a dict of our fields; "
        "fields it leaves out are read by their paths",
    )
    images_path: str = Field("/v1/images", repr=False, description="path of the listing, below url; may have a query")
    item_path: str = Field(
        "",
        description="path of one image, with {image_id} in it (/v1/images/{image_id}): used to get a fresh URL when "
        "a signed one was refused; empty lists again around the image's updated_at",
    )
    token: SecretStr = Field(SecretStr(""), description="bearer token; empty sends none")
    auth: AuthSettings = AuthSettings()
    proxy: ProxyUrl = Field(
        SecretStr(""),
        description="HTTP proxy for the API, http://[user:password@]host:port; HTTP_PROXY and its like are not read",
    )
    method: Literal["GET", "POST"] = Field("GET", description="method of the requests for pages; POST sends body")
    params: dict[str, JsonValue] = Field({}, repr=False, description="query parameters of every request, a JSON object")
    headers: dict[str, SecretStr] = Field({}, description="headers of every request, a JSON object")
    body: dict[str, JsonValue] | None = Field(
        None,
        repr=False,
        description="POST: the request body, a JSON object; {since} {cursor} {page} {offset} {limit} in its texts are replaced",
    )
    data_selector: str = Field("images", description="JSONPath of the items in a page")
    paginator: Paginator = Field("cursor", description="how the next page of the listing is found")
    cursor_path: str = Field("next_cursor", description="cursor paginator: JSONPath of the next cursor")
    cursor_param: str = Field("cursor", min_length=1, description="cursor paginator: name of the query parameter")
    page_param: str = Field("page", min_length=1, description="page_number paginator: name of the query parameter")
    first_page: int | None = Field(
        None,
        ge=0,
        le=1_000,
        description="page_number paginator: number of the first page; empty finds it with one more request",
    )
    offset_param: str = Field("offset", min_length=1, description="offset paginator: name of the query parameter")
    next_url_path: str = Field("next", description="next_url paginator: JSONPath of the next page's address")
    total_path: str | None = Field(
        None,
        description='JSONPath of the number of items in the listing; not set: "total", if a page has it; empty: ignored',
    )
    has_more_path: str = Field(
        "", description="JSONPath of a true or false that says whether there are more pages; empty: ignored"
    )
    since_param: str = Field(
        "updated_after", description="parameter with the time since which updates are listed; empty sends none"
    )
    since_format: str = Field("iso", description="iso, iso_z, date, epoch_s, epoch_ms, or a pattern as of strftime")
    limit_param: str = Field("limit", description="parameter of the page size; empty sends none")
    page_size: int = Field(200, ge=1, le=10_000, description="number of items to request per page")
    max_pages: int = Field(
        10_000, ge=1, description="a poll stops after this many pages with new items; the next poll continues"
    )
    max_page_bytes: int = Field(100_000_000, ge=1_000, le=2_000_000_000, description="a larger page is refused")
    max_item_bytes: int = Field(
        4_000_000, ge=1_000, le=1_000_000_000, description="a larger item is quarantined without its large fields"
    )
    overlap: timedelta = Field(
        timedelta(minutes=10),
        ge=timedelta(0),
        le=timedelta(days=365),
        description="how far before the cursor a poll reads again, for late arrivals",
    )
    start: str = Field("1970-01-01T00:00:00Z", description="where the first poll begins, ISO 8601")
    late: timedelta = Field(
        timedelta(days=1),
        ge=timedelta(0),
        le=timedelta(days=365),
        description="how far past its window a backfill reads, for late arrivals",
    )
    calls_per_s: float = Field(
        5, gt=0, le=1_000, description="pages per second, shared by polls and backfills; a deploy sets it on the server"
    )
    timeout_s: float = Field(30, gt=0, le=3_600, description="time limit for one page in total")
    retries: int = Field(5, ge=0, le=20, description="number of retries after 429, 5xx and timeouts")
    fields: FieldMap = FieldMap()
    deleted: str = Field(
        "",
        description="JMESPath of what is true, or any value but false, in an item whose photo was deleted; empty: none",
    )
    on_delete: Literal["forget", "keep"] = Field(
        "forget",
        description="a deleted photo: forget erases what was made from it, for ever; keep only marks it as deleted",
    )
    time_format: str = Field(
        "iso", description="format of the items' times: iso, epoch_s, epoch_ms, or a strptime pattern"
    )
    time_zone: str = Field("UTC", description="time zone of times without an offset, such as Europe/Berlin")
    url_base: str = Field(
        "",
        description="base of relative photo URLs, http(s) or the URL of a storage; empty: absolute ones only, or below the file",
    )
    box_format: Literal["xyxy", "xywh", "cxcywh", "polygon"] = Field(
        "xyxy", description="meaning of the fields xmin, ymin, xmax, ymax, in this order; polygon reads fields.polygon"
    )
    rotation: Literal["refuse", "bounding"] = Field(
        "refuse", description="a rotated box is quarantined, or its bounding box is cut"
    )
    group_by_image: bool = Field(False, description="an item is one box; those of one photo are put together")
    coordinates: Literal["normalised", "pixels", "percent"] = Field(
        "normalised", description="unit of the boxes: normalised is 0 to 1, percent 0 to 100, both of the photo's sides"
    )
    orientation: Literal["upright", "stored"] = Field(
        "upright",
        description="what the boxes were measured on: the photo turned by its EXIF orientation, or its pixels as stored",
    )

    @property
    def listing(self) -> str:
        """The listing's address for messages, without its query, which may hold a key."""
        return f"{self.url}{re.split('[?#]', self.images_path)[0]}"

    @property
    def is_set(self) -> bool:
        """Whether a source is set."""
        return bool(self.reader if self.kind == "python" else self.url)

    @property
    def address(self) -> str | None:
        """The source's place as a URL: the state belongs to it. None when no source is set."""
        if self.kind == "python":
            return f"python:///{self.reader}" if self.reader else None
        if self.kind != "rest" and self.url and "://" not in self.url:
            return f"file://{quote(self.url)}"
        return self.url or None

    @property
    def place(self) -> str:
        """The source for messages: an address without its query, which may hold a key, or a function."""
        places = {"rest": self.listing, "python": self.reader}
        return places.get(self.kind, self.url)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of times without an offset."""
        return ZoneInfo(self.time_zone)

    @field_validator("reader", "map")
    @classmethod
    def _is_function(cls, value: str, info: ValidationInfo) -> str:
        if value:
            find_named(value, READERS if info.field_name == "reader" else MAPS)
        return value

    @field_validator("item_path")
    @classmethod
    def _names_the_image(cls, value: str) -> str:
        if value and (value.count("{image_id}") != 1 or not value.startswith("/") or "#" in value):
            raise ValueError("must be a path below the API's url with {image_id} in it, such as /v1/images/{image_id}")
        return value

    @field_validator("start")
    @classmethod
    def _is_moment(cls, value: str) -> str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("not a time in ISO 8601, such as 2026-11-22T08:40:00Z") from None
        if not 1970 <= moment.year <= 9000:
            raise ValueError("must be in the years 1970 to 9000")
        return value

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_kind(cls, data: Any) -> Any:
        return with_defaults(data) if isinstance(data, dict) else data

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("kind") in ("files", "bucket"):
            return check_files_url(value)
        if value and not is_plain_http(value):
            raise ValueError(
                "must be http(s)://host[:port][/path], without user, query or fragment; a key goes into "
                "CROPLINE_API__AUTH__... (kinds basic, query) or CROPLINE_API__PARAMS"
            )
        return value.rstrip("/")

    @field_validator("url_base")
    @classmethod
    def _is_base(cls, value: str) -> str:
        if value and not is_plain_http(value):
            if not value.startswith(("http:", "https:")) and not re.search(r"[*?\[]", value):
                return check_files_url(value)
            raise ValueError(
                "must be http(s)://host[:port][/path], without user, query or fragment, or the URL of a storage"
            )
        return value

    @field_validator("key_pattern")
    @classmethod
    def _is_regex(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return value

    @field_validator("deleted")
    @classmethod
    def _is_path_of_deleted(cls, value: str) -> str:
        return check_jmespath(value)

    @field_validator("sidecar")
    @classmethod
    def _is_sidecar(cls, value: str) -> str:
        if value.endswith("{name}") or set(re.findall(r"{[^}]*}", value)) - {"{stem}", "{name}", "{folder}"}:
            raise ValueError("must be the name of a file with {stem}, {name} or {folder} in it, such as {stem}.json")
        return value

    @field_validator("images_path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not value.isprintable() or value.startswith(("http://", "https://", "//")):
            raise ValueError("must be a path below CROPLINE_API__URL, such as /v1/images")
        return value

    @field_validator("data_selector", "cursor_path", "next_url_path", "total_path", "has_more_path")
    @classmethod
    def _is_jsonpath(cls, value: str | None) -> str | None:
        if value:
            _check_jsonpath(value)
        return value

    @field_validator("data_selector")
    @classmethod
    def _is_given(cls, value: str) -> str:
        if not value:
            raise ValueError("must be a JSONPath, such as images or $; it cannot be empty")
        return value

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        check_header_value(value.get_secret_value())
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return check_headers(value)

    @field_validator("since_format")
    @classmethod
    def _is_since_format(cls, value: str) -> str:
        return _check_time_pattern(value, _SINCE_FORMATS)

    @field_validator("time_format")
    @classmethod
    def _is_time_format(cls, value: str) -> str:
        return _check_time_pattern(value, _TIME_FORMATS)

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
            raise ValueError("not a time zone, such as Europe/Berlin") from None
        except KeyError:
            raise ValueError("unknown time zone; use a name such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.body is not None and self.method != "POST":
            raise ValueError("body needs method POST")
        if self.auth.kind in ("bearer", "header", "query") and not self.secret_token:
            raise ValueError(f"auth kind {self.auth.kind} needs token")
        if self.auth.kind in ("basic", "oauth2") and self.secret_token:
            raise ValueError(f"auth kind {self.auth.kind} takes no token")
        if self.kind == "files" and self.url.lower().endswith(".json") and not self.format:
            raise ValueError("a .json file needs format: coco, label_studio, or json for a list of items")
        if self.deleted and self.group_by_image:
            raise ValueError("deleted does not go with group_by_image: an item is one box, not a photo")
        if self.box_format == "polygon" and not self.fields.polygon:
            raise ValueError("box_format polygon needs fields.polygon")
        return self

    @property
    def proxy_address(self) -> Proxy | None:
        """The proxy, parsed; None without one."""
        return read_proxy(self.proxy.get_secret_value())

    @property
    def secret_token(self) -> str:
        """The token of either setting."""
        return (self.auth.token.get_secret_value()) or self.token.get_secret_value()


def is_plain_http(url: str) -> bool:
    """Return whether the URL is http(s)://host[:port][/path] and nothing else."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a port that is not a number
    except ValueError:
        return False
    plain = not parts.query and not parts.fragment and "@" not in parts.netloc and "\\" not in url
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain


def _check_jsonpath(value: str) -> None:
    if _PLAIN_JSONPATH.fullmatch(value):
        return  # the usual case: importing the parser is slow
    from jsonpath_ng.ext.parser import parse

    try:
        parse(value)
    except Exception as error:  # noqa: BLE001 -- it raises any error of its parser generator
        why = " ".join(str(error).split())[:100]
        raise ValueError(f"not a JSONPath expression: {value!r} ({why or type(error).__name__})") from None


def _check_time_pattern(value: str, names: tuple[str, ...]) -> str:
    if value in names:
        return value
    if "%" not in value:
        raise ValueError(f"must be {', '.join(names)}, or a pattern such as %Y-%m-%d %H:%M:%S")
    try:
        text = datetime(2026, 11, 22, 8, 40).strftime(value)
    except ValueError:
        text = ""
    if not text or not text.isprintable():
        raise ValueError("not a time pattern, such as %Y-%m-%d %H:%M:%S")
    return value
