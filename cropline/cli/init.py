"""``cropline init``: looks at one page of an API, proposes settings, writes them to a file, and checks them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr, ValidationError
from rich.table import Table

from cropline.cli.toml_text import toml_text
from cropline.config.fetch import FetchSettings
from cropline.config.places import CONFIG, PREFIX
from cropline.config.settings import ApiSettings, mistakes
from cropline.core.errors import CroplineError, SettingsError
from cropline.core.screen import Screen
from cropline.core.scrub import one_line, visible
from cropline.intake.item_url import photo_url
from cropline.intake.proposals.items import photo_path
from cropline.intake.proposals.proposal import Proposal, at_path
from cropline.intake.proposals.propose import Given, Proposed, propose

_TOKEN = f"{PREFIX}API__TOKEN"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class InitOptions:
    """The options of the command. ``headers``: NAME=VARIABLE; ``values``: key=value, over what is proposed."""

    url: str
    out: Path
    token_env: str = ""
    auth: str = ""
    user: str = ""
    method: str = "GET"
    body: str = ""
    headers: Sequence[str] = ()
    url_base: str = ""
    source: str = ""
    storage: str = ""
    state: str = ""
    values: Sequence[str] = ()
    accept: bool = False
    check: bool = True
    pause_s: float = field(default=0.2)


def run_init(options: InitOptions) -> bool:
    """Write the file and return whether the check found nothing wrong. Raises SettingsError, ApiError.

    Questions are asked only on a terminal, and only for what is missing or uncertain.
    """
    if options.out.exists():
        raise SettingsError(f"{options.out} exists; move it away, or name another file with --out")
    asks = not options.accept and sys.stdin.isatty()
    address = options.url or _asked_url(asks)
    secret, name = _token(options, asks)
    given = _given(options, address, secret)
    screen = Screen()
    with screen.status("looking at the API"):
        found = propose(given, lambda url: _photo_size(url, address))
    proposals = [*found.proposals, *_photos_from(found, given, address)]
    screen.print(
        f"{len(found.items)} items looked at, {found.requests} requests made. A ? marks what is not certain.\n"
    )
    screen.print(_table(proposals))
    chosen = _chosen(proposals, asks)
    values = _values(chosen, options, name if secret.get_secret_value() and found.needs_token else "")
    _validate(values, secret)
    _write(options.out, values, proposals)
    screen.print(f"\nwritten: {options.out}", soft_wrap=True)
    if secret.get_secret_value():
        screen.print(
            f"The token is not in it: set {name} in the environment of whatever runs cropline.", soft_wrap=True
        )
    if options.out != Path("cropline.toml"):
        screen.print(f"To use it: export {CONFIG}={options.out}", soft_wrap=True)
    return _check(options, name, secret) if options.check else True


def _asked_url(asks: bool) -> str:
    if not asks:
        raise SettingsError("--url: give the address of the listing, as it works in a browser")
    return str(typer.prompt("Address of the listing, as it works in a browser"))


def _token(options: InitOptions, asks: bool) -> tuple[SecretStr, str]:
    """Return the token and the name of its variable."""
    name = options.token_env or _TOKEN
    value = os.environ.get(name, "")
    if options.token_env and not value:
        raise SettingsError(f"--token-env: the variable {name} is not set")
    if not value and asks:
        value = typer.prompt(
            "Token (not shown, not written; empty: none)", default="", hide_input=True, show_default=False
        )
    return SecretStr(value), name


def _given(options: InitOptions, address: str, secret: SecretStr) -> Given:
    kind, _, name = options.auth.partition(":")
    auth: dict[str, Any] = {"kind": kind} if kind else {}
    if kind == "basic":
        auth |= {"user": options.user, "password": secret}
    elif kind == "header" and name:
        header, _, prefix = name.partition(" ")
        auth |= {"header": header} | ({"prefix": prefix} if prefix else {})
    elif kind == "query" and name:
        auth["param"] = name
    elif kind not in ("", "bearer", "header", "query"):
        raise SettingsError("--auth: must be bearer, header:NAME, query:NAME or basic; oauth2 is set in the file")
    return Given(
        address,
        token=secret if kind != "basic" else SecretStr(""),
        auth=auth,
        method=options.method,
        body=_body(options.body),
        headers={
            name: SecretStr(os.environ.get(variable, "")) for name, variable in _pairs(options.headers, "--header")
        },
        url_base=options.url_base,
        pause_s=options.pause_s,
    )


def _body(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise SettingsError("--body: must be a JSON object")
    return body


def _pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    for text in texts:
        if "=" not in text:
            raise SettingsError(f"{option} {text}: must be NAME=VALUE")
    return [(name, value) for name, _, value in (text.partition("=") for text in texts)]


def _photo_size(url: str, address: str) -> tuple[int, int] | None:
    """Return the size of a photo, fetched by the pipeline's own rules; None when it cannot be had."""
    from cropline.cli.photo_view import cut, view_row
    from cropline.config.pictures import PictureLimits
    from cropline.core.store_spec import StoreSpec

    fetch = FetchSettings(allow_loopback=urlsplit(address).hostname in _LOOPBACK)
    with tempfile.TemporaryDirectory(prefix="cropline-") as folder:
        (view,) = cut([view_row(0, url)], StoreSpec(Path(folder).as_uri()), fetch, PictureLimits())
    return (view["image_width"], view["image_height"]) if view["status"] == "written" else None


def _photos_from(found: Proposed, given: Given, address: str) -> list[Proposal]:
    """Return the hosts and buckets of the photos as proposals for the fetch group."""
    base = next((str(one.value) for one in found.proposals if one.setting == "url_base"), given.url_base)
    urls = [photo_url(str(at_path(item, photo_path(item) or ())), base) for item in found.items]
    parts = [urlsplit(url) for url in urls]
    hosts = sorted({part.netloc.lower() for part in parts if part.scheme in ("http", "https") and part.hostname})
    buckets = sorted({f"{part.scheme}://{part.netloc}" for part in parts if part.scheme in ("s3", "gs", "az")})
    proposals = []
    if hosts:
        text = f"the photos of {len(urls)} items come from there; empty allows every public host"
        proposals.append(Proposal("fetch.allowed_hosts", hosts, text, certain=len(hosts) < 4))
    if buckets:
        proposals.append(Proposal("fetch.allowed_buckets", buckets, f"the photos of {len(urls)} items are there"))
    local = [host for host in hosts if (urlsplit(f"//{host}").hostname or "") in _LOOPBACK]
    if local and urlsplit(address).hostname in _LOOPBACK:
        proposals.append(Proposal("fetch.allow_loopback", True, "photos and API are on this machine", certain=False))
    return proposals


def _table(proposals: Sequence[Proposal]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("", "setting", "value", "because"):
        table.add_column(head, overflow="fold")
    for one in proposals:
        value = json.dumps(one.value, ensure_ascii=False)
        table.add_row(
            "" if one.certain else "?", _file_key(one.setting), visible(value), visible(one_line(one.evidence))
        )
    return table


def _file_key(setting: str) -> str:
    return setting if setting.startswith("fetch.") else f"api.{setting}"


def _chosen(proposals: Sequence[Proposal], asks: bool) -> dict[str, Any]:
    """Return the values by key of the file, the uncertain ones as the user wants them."""
    chosen: dict[str, Any] = {}
    for one in proposals:
        value = one.value
        if asks and not one.certain:
            answer = typer.prompt(f"{_file_key(one.setting)} ({one.evidence})", default=_text(value))
            value = value if answer == _text(value) else _parsed(answer)
        chosen[_file_key(one.setting)] = value
    return chosen


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _values(chosen: Mapping[str, Any], options: InitOptions, token_name: str) -> dict[str, Any]:
    """Return the tree of the file. Secrets are names of variables."""
    flat = dict(chosen)
    basic = flat.get("api.auth.kind") == "basic"
    if token_name and (basic or token_name != _TOKEN):
        flat["api.auth.password" if basic else "api.token"] = f"env:{token_name}"
    for name, variable in _pairs(options.headers, "--header"):
        flat[f"api.headers.{name}"] = f"env:{variable}"
    own = {"storage.url": options.storage, "state.url": options.state, "api.source": options.source}
    flat |= {key: value for key, value in own.items() if value}
    flat |= {key: _parsed(value) for key, value in _pairs(options.values, "--set")}
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[name] = value
    return tree


def _validate(values: Mapping[str, Any], secret: SecretStr) -> None:
    """Raise SettingsError for an API that the settings refuse, before a file is written."""
    api = json.loads(json.dumps(values.get("api", {})))
    if api.get("auth", {}).get("kind") != "basic":
        api["token"] = secret.get_secret_value()
    try:
        ApiSettings.model_validate(api)
    except ValidationError as error:
        raise SettingsError(f"{mistakes(error, 'api')}; correct it with --set") from None


def _write(out: Path, values: Mapping[str, Any], proposals: Sequence[Proposal]) -> None:
    notes = {_file_key(one.setting): f"? {one_line(one.evidence, 120)}" for one in proposals if not one.certain}
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(f"# Written by cropline init. A ? marks what was not certain.\n\n{toml_text(values, notes)}")
    except FileExistsError:
        raise SettingsError(f"{out} exists; move it away, or name another file with --out") from None
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written ({error.strerror})") from None


def _check(options: InitOptions, name: str, secret: SecretStr) -> bool:
    from cropline.cli.check import run_check

    os.environ[CONFIG] = str(options.out)
    if secret.get_secret_value():
        os.environ[name] = secret.get_secret_value()
    screen = Screen()
    screen.print("\n[bold]cropline check[/bold]\n", markup=True)
    try:
        return run_check(None, None, photo=True)
    except CroplineError as error:
        error.add_note(f"{options.out} is written; correct it, and run cropline check")
        raise
