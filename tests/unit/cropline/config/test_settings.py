"""An invalid setting gives one clear line that names its variable and never shows a secret."""

import pickle
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cropline.config.pictures import PictureLimits
from cropline.config.profile import Profile
from cropline.config.settings import FetchSettings, Settings, load_settings
from cropline.core.errors import SettingsError


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CROPLINE_API__URL", "cameras.example", "CROPLINE_API__URL: must be http(s)://"),
        ("CROPLINE_API__URL", "https://user:pass@cameras.example", "CROPLINE_API__URL: must be http(s)://"),
        ("CROPLINE_API__URL", "http://host:notaport", "CROPLINE_API__URL: must be http(s)://"),
        ("CROPLINE_API__DATA_SELECTOR", "a[", "CROPLINE_API__DATA_SELECTOR: not a JSONPath expression: 'a['"),
        ("CROPLINE_API__DATA_SELECTOR", "", "CROPLINE_API__DATA_SELECTOR: must be a JSONPath"),
        ("CROPLINE_API__CURSOR_PATH", "$.meta[?(", "CROPLINE_API__CURSOR_PATH: not a JSONPath expression"),
        ("CROPLINE_API__TOTAL_PATH", "..", "CROPLINE_API__TOTAL_PATH: not a JSONPath expression"),
        ("CROPLINE_API__TOKEN", "hunter2\n", "CROPLINE_API__TOKEN: must be printable ASCII"),
        ("CROPLINE_API__HEADERS", '{"X-Key": "hunter2\u00e9"}', "CROPLINE_API__HEADERS: must be printable ASCII"),
        ("CROPLINE_API__HEADERS", '{"X Key": "hunter2"}', "CROPLINE_API__HEADERS: not the name of a header"),
        ("CROPLINE_API__HEADERS", "X-Key: hunter2", "CROPLINE_API__HEADERS: not JSON"),
        ("CROPLINE_API__BODY", '{"a": 1}', "CROPLINE_API: body needs method POST"),
        ("CROPLINE_API__AUTH__KIND", "oauth2", "CROPLINE_API__AUTH: kind oauth2 needs token_url, client_id"),
        ("CROPLINE_API__AUTH__KIND", "query", "CROPLINE_API: auth kind query needs token"),
        ("CROPLINE_API__SINCE_FORMAT", "isoz", "CROPLINE_API__SINCE_FORMAT: must be iso, iso_z"),
        ("CROPLINE_API__TIME_ZONE", "Berlin", "CROPLINE_API__TIME_ZONE: unknown time zone"),
        ("CROPLINE_API__BOX_FORMAT", "polygon", "CROPLINE_API: box_format polygon needs fields.polygon"),
        ("CROPLINE_API__IMAGES_PATH", "https://x.example/y", "CROPLINE_API__IMAGES_PATH: must be a path"),
        ("CROPLINE_API__NOPE", "1", "CROPLINE_API__NOPE: unknown setting"),
        ("CROPLINE_APPI__URL", "http://x", "CROPLINE_APPI__URL: unknown setting; groups are api"),
        ("CROPLINE_ENGINE__KIND", "sparkk", "CROPLINE_ENGINE__KIND: Input should be 'native'"),
        ("CROPLINE_STORAGE__URL", "ftp://x/y", "CROPLINE_STORAGE__URL: must be file:///folder"),
        ("CROPLINE_STORAGE__URL", "s3://key:secret@bucket/x", "CROPLINE_STORAGE__URL: must not hold credentials"),
        ("CROPLINE_STATE__URL", "mysql://root:hunter2@db/x", "CROPLINE_STATE__URL: must start with sqlite"),
        ("CROPLINE_PROFILES", "{broken", "CROPLINE_PROFILES: not JSON"),
        ("CROPLINE_PROFILES", "{}", "CROPLINE_PROFILES: at least one profile"),
        ("CROPLINE_PROFILES", '{"Bad Name!": {}}', "CROPLINE_PROFILES__BAD NAME!: "),
        ("CROPLINE_PROFILES__THUMB__QUALITY", "101", "CROPLINE_PROFILES__THUMB__QUALITY: "),
        ("CROPLINE_API__FIELDS__IMAGE_ID", "a..b", "CROPLINE_API__FIELDS__IMAGE_ID: not a JMESPath"),
        ("CROPLINE_LINEAGE__TRANSPORT", "http", "CROPLINE_LINEAGE: transport http needs url"),
        (
            "CROPLINE_FETCH__ALLOWED_HOSTS",
            '["a.example", "https://secret@x"]',
            "CROPLINE_FETCH__ALLOWED_HOSTS: entry 1: must",
        ),
        ("CROPLINE_FETCH__ALLOWED_HOSTS", '["*.example"]', "CROPLINE_FETCH__ALLOWED_HOSTS: entry 0: must be host"),
        ("CROPLINE_FETCH__TOKEN_HOST", "https://x.example/", "CROPLINE_FETCH__TOKEN_HOST: must be host or host:port"),
        ("CROPLINE_FETCH__TOKEN", "hunter2", "CROPLINE_FETCH: token needs token_host"),
        ("CROPLINE_FETCH__PRIVATE_NETWORKS", '["10.0.0.0/8"]', "CROPLINE_FETCH: private_networks needs allowed_hosts"),
        (
            "CROPLINE_FETCH__PRIVATE_NETWORKS",
            '["169.254.0.0/16"]',
            "CROPLINE_FETCH__PRIVATE_NETWORKS: entry 0: must be within",
        ),
        ("CROPLINE_FETCH__CA_FILE", "/nope.pem", "CROPLINE_FETCH__CA_FILE: there is no file /nope.pem"),
        ("CROPLINE_FETCH__CA_FILE", __file__, f"CROPLINE_FETCH__CA_FILE: {__file__} holds no certificates"),
        ("CROPLINE_FETCH__PROXY", "https://me:hunter2@proxy:3128", "CROPLINE_FETCH__PROXY: must be http://"),
        ("CROPLINE_FETCH__PROXY", "http://me:hunter2@proxy", "CROPLINE_FETCH__PROXY: must be http://"),
        ("CROPLINE_FETCH__PROXY_RESOLVES", "true", "CROPLINE_FETCH: proxy_resolves needs proxy"),
        ("CROPLINE_API__PROXY", "http://me:hunter2@proxy:99999", "CROPLINE_API__PROXY: the port must be within"),
        ("CROPLINE_API__START", "yesterday", "CROPLINE_API__START: not a time in ISO 8601"),
        ("CROPLINE_API__START", "0001-01-01", "CROPLINE_API__START: must be in the years 1970 to 9000"),
        ("CROPLINE_API__OVERLAP", "-P1D", "CROPLINE_API__OVERLAP: Input should be greater than or equal to"),
        ("CROPLINE_API__FIELDS__IMAGE_ID", "joined(a)", "CROPLINE_API__FIELDS__IMAGE_ID: not a JMESPath expression"),
        ("CROPLINE_FETCH__ALLOWED_HOSTS", "cdn.example", "CROPLINE_FETCH__ALLOWED_HOSTS: not JSON"),
        ("CROPLINE_STORAGE__ENDPOINT", "minio at home", "CROPLINE_STORAGE__ENDPOINT: must be http(s)://"),
        ("CROPLINE_STORAGE__URL", "file:///a%00b", "CROPLINE_STORAGE__URL: must not hold control characters"),
        ("CROPLINE_PICTURES__FORMATS", "[]", "CROPLINE_PICTURES__FORMATS: "),
        ("CROPLINE_RETENTION__REPORTS_DAYS", "9999999999", "CROPLINE_RETENTION__REPORTS_DAYS: "),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(says), message
    assert "\n" not in message
    assert "hunter2" not in message
    assert "secret@" not in message


def _times(group: type[BaseModel], name: str) -> Iterator[tuple[str, object]]:
    for field, info in group.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _times(kind, f"{name}__{field.upper()}")
        elif kind in (float, timedelta):
            yield f"{name}__{field.upper()}", kind


TIMES = [(f"CROPLINE{name}", kind) for name, kind in _times(Settings, "")]


@pytest.mark.parametrize(("name", "kind"), TIMES, ids=[name for name, _ in TIMES])
def test_no_number_is_without_end(monkeypatch: pytest.MonkeyPatch, name: str, kind: object) -> None:
    """A number that clocks and sockets cannot hold would raise in the middle of a run."""
    variable = name.replace("CROPLINE__", "CROPLINE_", 1)
    for value in ("inf", "nan", "1e300", "-1") if kind is float else ("P900000D", "-P1D"):
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match=f"^{variable}: "):
            load_settings()


def test_an_empty_number_is_not_set_and_an_empty_text_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETENTION__STATE_DAYS", "FETCH__CONNECTIONS_PER_HOST", "FETCH__CA_FILE", "API__TOTAL_PATH"):
        monkeypatch.setenv(f"CROPLINE_{name}", "")
    settings = load_settings()
    assert settings.retention.state_days is None
    assert settings.fetch.connections_per_host is None
    assert settings.fetch.ca_file is None
    assert settings.api.total_path == ""
    monkeypatch.setenv("CROPLINE_RETENTION__ORPHANS", "")
    with pytest.raises(SettingsError, match="CROPLINE_RETENTION__ORPHANS: "):
        load_settings()


def test_a_list_of_the_env_file_that_is_no_json_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("CROPLINE_FETCH__TIMEOUT_S=5\nCROPLINE_FETCH__ALLOWED_HOSTS=cdn.example\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="^CROPLINE_FETCH__ALLOWED_HOSTS: not JSON"):
        load_settings()


def test_what_is_handed_to_cropline_is_bounded_without_any_setting() -> None:
    fetch, pictures = FetchSettings(), PictureLimits()
    assert (fetch.max_bytes, fetch.timeout_s, fetch.max_redirects) == (25_000_000, 30, 3)
    assert (fetch.allow_loopback, fetch.private_networks, fetch.allowed_hosts) == (False, (), ())
    assert (pictures.max_pixels, pictures.max_side, pictures.max_scans) == (50_000_000, 20_000, 256)
    assert (pictures.formats, pictures.max_boxes, pictures.min_iou) == (("JPEG", "PNG", "WEBP"), 1_000, 0.5)


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_ENGINE__KIND", "sparkk")
    monkeypatch.setenv("CROPLINE_BATCH__IMAGES", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "CROPLINE_ENGINE__KIND" in str(caught.value)
    assert "CROPLINE_BATCH__IMAGES" in str(caught.value)


def test_secrets_do_not_show_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_API__TOKEN", "canary-token")
    monkeypatch.setenv("CROPLINE_STATE__URL", "postgresql+psycopg://me:canary-password@db/x")
    assert "canary" not in repr(load_settings())


def test_workers_get_every_setting_of_downloads_and_pictures_as_plain_values() -> None:
    secrets = {"password": "canary-basic", "client_id": "canary-id", "client_secret": "canary-secret"}
    given = {
        "allowed_hosts": ("cdn.example:8443",), "private_networks": ("10.20.0.0/16",), "proxy": "http://me:canary-pw@proxy:3128",
        "proxy_resolves": True, "allow_loopback": True, "allowed_buckets": ("s3://shop/in",),
        "bucket_endpoints": {"s3": "http://minio:9000"}, "local_roots": (Path("/photos"),), "max_bytes": 7, "timeout_s": 8.0,
        "connect_timeout_s": 9.0, "max_redirects": 1, "token_host": "cdn.example:8443", "connections_per_host": 3,
    }  # fmt: skip
    auth = {
        "kind": "header", "header": "X-Key", "prefix": "Key", "param": "key", "user": "me", "token_url": "https://login/t",
        "scope": "photos",
    }  # fmt: skip
    settings = FetchSettings.model_validate({**given, "token": "canary-token", "auth": auth | secrets})
    plain = settings.options
    told = asdict(plain)
    assert told.pop("proxy") == {"host": "proxy", "port": 3128, "user": "me:canary-pw"}
    assert told.pop("auth") == auth | secrets | {"token": "canary-token"}
    assert told == {name: value for name, value in given.items() if name != "proxy"} | {"ca_file": None}
    assert {*told, "proxy", "auth", "token"} == set(FetchSettings.model_fields)
    assert "canary" not in repr(plain)
    assert pickle.loads(pickle.dumps(plain)) == plain

    limits = PictureLimits(formats=("PNG",), max_pixels=1, max_side=2, max_scans=3, max_boxes=4, decode_timeout_s=5)
    assert asdict(limits.options) == limits.model_dump()


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(Exception, match="frozen"):
        settings.batch.images = 5


def test_a_recipe_has_one_hash_and_another_recipe_another() -> None:
    assert Profile().hash == Profile().hash
    assert Profile(quality=91).hash != Profile(quality=90).hash
    assert Profile(max_side=100).hash != Profile(max_side=None).hash


@pytest.mark.parametrize(("kind", "most"), [("jpeg", 1), ("png", 9), ("webp", 6), ("avif", 10)])
def test_a_format_has_its_own_range_of_effort(kind: Any, most: int) -> None:
    assert Profile(format=kind, effort=most).effort == most
    with pytest.raises(ValueError, match=f"{kind}.* 0 to {most}|less than or equal to 10"):
        Profile(format=kind, effort=most + 1)
