"""Settings from a TOML file: below the environment, without secrets, each mistake with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from cropline.config.places import place_of
from cropline.config.settings import load_places, load_settings
from cropline.core.errors import SettingsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "cropline.toml") -> None:
    (folder / name).write_text(text, encoding="utf-8")


def test_the_file_is_read_below_the_environment_and_the_env_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[api]\nurl = "http://file"\npage_size = 3\nlimit_param = "n"\n[api.params]\na = 1\n', "my.toml")
    (folder / ".env").write_text(
        "CROPLINE_CONFIG=my.toml\nCROPLINE_API__URL=http://env-file\nCROPLINE_API__PAGE_SIZE=4\n"
    )
    monkeypatch.setenv("CROPLINE_API__PAGE_SIZE", "5")
    api = load_settings().api
    assert (api.url, api.page_size, api.limit_param, api.params) == ("http://env-file", 5, "n", {"a": 1})


def test_a_file_by_the_usual_name_is_read_without_being_named(folder: Path) -> None:
    assert load_settings().api.url == ""
    write(folder, '[api]\nurl = "http://file"\n')
    assert load_settings().api.url == "http://file"


def test_each_value_is_told_with_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, '[api]\nurl = "http://file"\npage_size = 3\n')
    monkeypatch.setenv("CROPLINE_API__PAGE_SIZE", "5")
    _, places = load_places()
    found = [place_of(places, ("api", name)) for name in ("url", "page_size", "token")]
    assert [place and place.name for place in found] == ["cropline.toml", "environment", None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[api]\nnope = 1\n", "cropline.toml: api.nope: unknown setting"),
        ("apii = 1\n", "cropline.toml: apii: unknown setting"),
        ('[api]\npage_size = "x"\n', "cropline.toml: api.page_size: Input should be a valid integer"),
        ('[api]\nauth = {kind = "query"}\n', "cropline.toml: api: auth kind query needs token"),
        ("[api\n", "cropline.toml: not TOML: "),
        ("[api]\nurl = 1\nurl = 2\n", "cropline.toml: not TOML: "),
        ("[sources.acme.api]\nnope = 1\n", "cropline.toml: sources.acme.api.nope: unknown setting"),
        (
            '[api]\npage_size = 0\n[sources.acme.api]\nurl = "http://a"\n',
            "cropline.toml: api.page_size: Input should be",
        ),
        ("sources = 3\n", "cropline.toml: sources: Input should be a valid dictionary"),
        (
            '[api]\ntoken = "hunter2"\n',
            "cropline.toml: api.token: a secret may not stand in the file; set CROPLINE_API__TOKEN",
        ),
        ('[api.auth]\npassword = "hunter2"\n', "cropline.toml: api.auth.password: a secret may not stand in the file"),
        ('[api.headers]\nX-Key = "hunter2"\n', "cropline.toml: api.headers.X-Key: a secret may not stand in the file"),
        (
            '[sources.a.api]\ntoken = "hunter2"\n',
            "cropline.toml: sources.a.api.token: a secret may not stand in the file",
        ),
        ('[state]\nurl = "postgresql+psycopg://me:hunter2@db/x"\n', "cropline.toml: state.url: a secret may not stand"),
        ('[api]\ntoken = "env:NO_SUCH_VARIABLE"\n', "cropline.toml: api.token: names the variable NO_SUCH_VARIABLE"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_key(folder: Path, text: str, says: str) -> None:
    write(folder, text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(says), message
    assert "\n" not in message
    assert "hunter2" not in message


def test_a_file_that_is_named_and_missing_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_CONFIG", "nope.toml")
    with pytest.raises(SettingsError, match=r"^CROPLINE_CONFIG: there is no file nope\.toml$"):
        load_settings()


def test_the_file_names_the_variable_of_a_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        folder, '[api]\ntoken = "env:ACME_TOKEN"\n[api.headers]\nX-Key = "env:KEY"\n[state]\nurl = "sqlite:////a.db"\n'
    )
    (folder / ".env").write_text("KEY=from-env-file\n")
    monkeypatch.setenv("ACME_TOKEN", "from-environment")
    settings = load_settings()
    assert settings.api.secret_token == "from-environment"
    assert settings.api.headers["X-Key"].get_secret_value() == "from-env-file"
    assert settings.state.url.get_secret_value() == "sqlite:////a.db"


def test_a_misspelt_setting_of_the_env_file_is_refused(folder: Path) -> None:
    (folder / ".env").write_text("AWS_REGION=x\nCROPLINE_APPI__URL=http://x\n")
    with pytest.raises(SettingsError, match="^CROPLINE_APPI__URL: unknown setting$"):
        load_settings()
