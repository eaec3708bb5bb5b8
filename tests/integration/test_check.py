"""``cropline check`` names the setting of each mistake and writes only its probe; ``cropline init`` writes good settings."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cropline.cli.check import run_check
from cropline.cli.init import InitOptions, run_init
from cropline.config.settings import load_settings
from cropline.core.errors import SettingsError
from demo.server import DemoServer


@pytest.fixture(scope="module")
def api(photo_cache: Path) -> Iterator[DemoServer]:
    with DemoServer(photos=3, megapixels=0.3, cache_dir=photo_cache) as server:
        yield server


@pytest.fixture
def folder(api: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the settings of a good installation in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    put(monkeypatch, API__URL=api.base_url, API__TOKEN=api.token, FETCH__ALLOW_LOOPBACK="true", API__RETRIES="0")
    put(monkeypatch, STORAGE__URL=(tmp_path / "out").as_uri())
    return tmp_path


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"CROPLINE_{name}", value)


def checked(
    capsys: pytest.CaptureFixture[str], *, out: Path | None = None, source: str | None = None
) -> tuple[bool, str]:
    good = run_check(source, out, photo=out is not None)
    return good, capsys.readouterr().out


def test_a_good_installation_is_told_and_nothing_but_the_probe_is_written(
    folder: Path, api: DemoServer, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pictures = tmp_path_factory.mktemp("pictures")
    good, text = checked(capsys, out=pictures)
    assert good, text
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == []
    assert "CROPLINE_API__URL" in text
    assert api.token not in text
    item = api.control.images()[0]
    assert f'"id": "{item["id"]}"' in text, "the item as it came"
    assert f"image_id: {item['id']}" in text, "the row that it became"
    for part in (
        "storage",
        "database",
        "engine",
        "Prefect",
        "listing",
        "page",
        "rows",
        "times",
        "clock",
        "photo",
        "boxes",
    ):
        assert f" {part} " in text, part
    with Image.open(pictures / "check-cameras.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 100


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"API__URL": ""}, ["CROPLINE_API__URL"]),
        ({"API__URL": "http://127.0.0.1:9"}, ["listing", "cannot be reached", "CROPLINE_API__URL"]),
        ({"API__TOKEN": "hunter2"}, ["401", "CROPLINE_API__TOKEN"]),
        ({"API__FIELDS__UPDATED_AT": "nope"}, ["updated_at_present: 3 of 3", "CROPLINE_API__FIELDS__UPDATED_AT"]),
        ({"API__COORDINATES": "pixels"}, ["said to be in pixels", "CROPLINE_API__COORDINATES"]),
        ({"FETCH__ALLOWED_HOSTS": '["a.example"]'}, ["url_host_allowed", "CROPLINE_FETCH__ALLOWED_HOSTS"]),
        ({"STORAGE__URL": "file:///proc/nothing"}, ["storage", "CROPLINE_STORAGE__URL"]),
        ({"STATE__URL": "postgresql+psycopg://me:hunter2@127.0.0.1:9/x"}, ["database", "CROPLINE_STATE__URL"]),
    ],
)
def test_each_mistake_is_a_line_that_names_its_setting(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, str],
    says: list[str],
) -> None:
    put(monkeypatch, **values)
    good, text = checked(capsys)
    assert not good
    wrong = "\n".join(part.split("\nok")[0] for part in text.split("\nwrong ")[1:])
    for part in says:
        assert part in wrong, text
    assert "hunter2" not in text


def test_several_sources_are_checked_one_by_one_with_their_own_variables(
    folder: Path, api: DemoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good_one = {"url": api.base_url, "token": api.token}
    sources: dict[str, Any] = {"acme": {"api": good_one}, "zeta-eu": {"api": good_one | {"token": "wrong"}}}
    put(monkeypatch, SOURCES=json.dumps(sources), API__FIRST_PAGE="1", API__HEADERS='{"X-Key": "hunter2"}')
    good, text = checked(capsys)
    assert not good
    assert "hunter2" not in text
    common = {line.split()[0]: line.split()[1:] for line in text.split("\n\n")[0].splitlines()}
    assert common["CROPLINE_API__FIRST_PAGE"] == ["1", "environment"]
    acme, zeta = text.partition("source acme")[2].split("source zeta-eu")
    assert "wrong" not in acme
    assert "CROPLINE_SOURCES__ZETA_EU__API__TOKEN" in zeta
    assert checked(capsys, source="acme")[0]
    with pytest.raises(SettingsError, match="no source 'other'"):
        run_check("other", None, photo=False)


def test_the_place_of_each_setting_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cropline.toml").write_text("[api]\npage_size = 2\n[batch]\nimages = 7\n")
    (folder / ".env").write_text("CROPLINE_API__PAGE_SIZE=3\n")
    _, text = checked(capsys)
    lines = {line.split()[0]: line.split()[1:] for line in text.split("\n\n")[0].splitlines()}
    assert lines["CROPLINE_API__PAGE_SIZE"] == ["3", ".env"]
    assert lines["batch.images"] == ["7", "cropline.toml"]
    assert lines["CROPLINE_API__TOKEN"] == ["***", "environment"]
    assert lines["CROPLINE_ENGINE__KIND"] == ["native", "default"]


def reader(since: str, settings: Any) -> Iterator[list[dict[str, Any]]]:
    box = {"id": "b0", "xmin": 0.1, "ymin": 0.2, "xmax": 0.4, "ymax": 0.6, "label": "cola"}
    at = "2026-04-10T08:00:00Z"
    photo = os.environ["PHOTO_URL"]
    yield [{"id": "p0", "etag": "v0", "url": photo, "captured_at": at, "updated_at": at, "store_id": "s", "camera_id": "c",
            "boxes": [box]}]  # fmt: skip


def test_a_source_of_another_kind_is_checked_too(
    folder: Path, api: DemoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHOTO_URL", api.control.images()[0]["url"])
    put(monkeypatch, API__KIND="python", API__READER="tests.integration.test_check:reader")
    good, text = checked(capsys, out=folder)
    assert good, text
    assert "tests.integration.test_check:reader" in text
    assert "b0: 0.1, 0.2, 0.4, 0.6  cola" in text
    assert (folder / "check-cameras.png").is_file()


def init(api: DemoServer, folder: Path, **more: Any) -> bool:
    options = {
        "url": f"{api.base_url}/v1/images",
        "out": folder / "cropline.toml",
        "token_env": "MY_TOKEN",
        "pause_s": 0.0,
    }
    return run_init(InitOptions(**(options | more)))


@pytest.fixture
def bare(folder: Path, api: DemoServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder without settings; MY_TOKEN is the token."""
    for name in [name for name in os.environ if name.startswith("CROPLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MY_TOKEN", api.token)
    monkeypatch.setenv("CROPLINE_CONFIG", "")  # restored after the test: the command sets it
    monkeypatch.delenv("CROPLINE_CONFIG")
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    return folder


def test_init_writes_a_file_without_a_secret_that_passes_its_check_and_is_never_overwritten(
    bare: Path, api: DemoServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(api, bare, storage=(bare / "out").as_uri(), values=["batch.images=7", "api.source=shelves"])
    shown, written = capsys.readouterr().out, (bare / "cropline.toml").read_text()
    assert api.token not in shown + written
    assert "next_cursor is " in shown, "the evidence of the paginator"
    settings = load_settings()
    assert settings.api.secret_token == api.token
    assert (settings.api.source, settings.batch.images) == ("shelves", 7)
    assert settings.fetch.allowed_hosts == (api.base_url.removeprefix("http://"),)
    with pytest.raises(SettingsError, match=r"cropline\.toml exists; move it away"):
        init(api, bare)
    assert (bare / "cropline.toml").read_text() == written


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"url": ""}, "^--url: give the address of the listing"),
        ({"token_env": "NO_SUCH"}, "^--token-env: the variable NO_SUCH is not set"),
        ({"auth": "digest"}, "^--auth: must be bearer"),
        ({"body": "[1]"}, "^--body: must be a JSON object"),
        ({"values": ["api.page_size=none"]}, "^CROPLINE_API__PAGE_SIZE: Input should be a valid integer.*--set"),
        ({"out": Path("/proc/nothing/x.toml")}, "^--out /proc/nothing/x.toml: cannot be written"),
    ],
)
def test_init_refuses_a_mistake_in_one_line_and_writes_no_file(
    bare: Path, api: DemoServer, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        init(api, bare, **more)
    assert "\n" not in str(caught.value)
    assert list(bare.iterdir()) == []


def test_on_a_terminal_init_asks_for_what_is_missing_and_for_what_is_uncertain(
    bare: Path, api: DemoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(text: str, default: str = "", **_how: Any) -> str:
        asked.append(text)
        if text.startswith("Address"):
            return f"{api.base_url}/v1/images"
        return api.token if text.startswith("Token") else "false" if "loopback" in text else default

    monkeypatch.setattr("typer.prompt", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    init(api, bare, url="", token_env="", check=False)
    assert [text.split()[0] for text in asked] == ["Address", "Token", "fetch.allow_loopback"]
    written = (bare / "cropline.toml").read_text()
    assert "allow_loopback = false" in written
    assert api.token not in written
    assert "token" not in written, "CROPLINE_API__TOKEN is read without being named"


def test_files_are_checked_too(
    folder: Path, api: DemoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = api.control.images()[0]["url"]
    lines = ["id,url,captured_at,xmin,ymin,xmax,ymax,label", f"p0,{photo},2026-04-10T08:00:00Z,0.1,0.2,0.4,0.6,cola"]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    put(monkeypatch, API__KIND="files", API__URL=str(folder / "boxes.csv"), API__TOKEN="", API__FIELDS__BOX_ID="")
    good, text = checked(capsys)
    assert not good
    assert "-> CROPLINE_API__GROUP_BY_IMAGE=true" in text
    put(monkeypatch, API__GROUP_BY_IMAGE="true")
    good, text = checked(capsys, out=folder)
    assert good, text
    assert "0.1, 0.2, 0.4, 0.6  cola" in text
