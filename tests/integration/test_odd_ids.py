"""Every command that prints ids, after a poll with texts made to control a terminal: none of them takes effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.commands import cropline
from tests.integration.conftest import Workspace, picture
from tests.photos import drawn, encoded, photo_server

# Clears a screen, forges a line, reverses the writing; broken Rich markup, and an emoji code of Rich.
ODD = "a:100: [bold]x[/nope] \x1b[2J\x9b1m\r\nfake\u202e ü"
SHOWN = "a:100: [bold]x[/nope] \\x1b[2J\\x9b1m\\r\\nfake\\u202e ü"


def _items(url: str) -> list[dict[str, Any]]:
    box = {"id": ODD, "label": ODD, "xmin": 0.1, "ymin": 0.1, "xmax": 0.5, "ymax": 0.5}
    outside = box | {"id": f"{ODD} 2", "xmin": 1.5, "xmax": 2.0}
    texts = dict.fromkeys(("id", "etag", "store_id", "camera_id"), ODD)
    times = dict.fromkeys(("captured_at", "updated_at"), "2026-11-20T08:00:00Z")
    good = texts | times | {"url": url, "boxes": [box, outside]}
    bad = good | {"id": f"{ODD} bad", "captured_at": ODD, "boxes": [box | {"xmin": 0.9}]}
    return [good, bad]


def test_no_command_lets_outside_text_control_the_terminal(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace.folder)
    with photo_server() as server:
        server.photos["photo.jpg"] = encoded(drawn(400, 300))
        items = {"images": _items(server.url("photo.jpg")), "next_cursor": None}
        server.photos["v1/images"] = json.dumps(items).encode()
        workspace.set(API__URL=server.url("").rstrip("/"), EXPECTATIONS__BOXES_FAIL_ALONE="true")
        workspace.poll()
        rows = workspace.rows()
        assert [(row["image_id"], row["status"]) for row in rows] == [(ODD, "written"), (ODD, "failed")]
        key = rows[0]["key"]
        (workspace.folder / "boxes.json").write_text(json.dumps(items["images"][0]))
        crop = ("crop", server.url("photo.jpg"), "--boxes", "boxes.json", "--allow-loopback", "--out", "cut [x] :100:")
        commands = [
            (("status",), 0, "1 quarantined"),
            (("trace", ODD), 0, f"version {SHOWN}"),
            (("trace", key), 0, f"{SHOWN} of cams"),
            (("lineage", key), 0, f"box {SHOWN}"),
            (("show", ODD, "--out", "shown [x] :100:.jpg"), 0, f"{SHOWN} 2: failed, box_outside"),
            (("quarantine", "list"), 0, "manifest"),
            (("quarantine", "show"), 0, f"{SHOWN} bad"),
            (("quarantine", "show", "--json"), 0, "status"),
            (("plan",), 0, "ended with failures (box_outside 1)"),
            (("backfill", "--from", "manifests", "--dry-run"), 0, "Nothing was done"),
            (crop, 1, f"{SHOWN} 2 {SHOWN}"),
            (("forget", "--image", ODD, "--dry-run"), 0, "Nothing was done"),
            (("forget", "--image", ODD), 0, "receipt"),
            (("trace", f"{ODD}?"), 2, f"no image {SHOWN}?"),
            (("show", f"{ODD}?"), 2, f"no image {SHOWN}?"),
            (("lineage", f"{ODD}?"), 2, f"no run {SHOWN}?"),
            (("show", ODD), 2, f"no image {SHOWN}"),
        ]
        for arguments, code, says in commands:
            ended = cropline(capsys, *arguments)
            told = ended.out + ended.err
            assert ended.code == code, (arguments, told)
            assert all(char.isprintable() for char in told.replace("\n", "")), (arguments, told)
            assert "\nfake" not in told, arguments
            assert says in "".join(line.rstrip() for line in told.splitlines()), (arguments, told)
    assert picture((workspace.folder / "shown [x] :100:.jpg").read_bytes()).width == 1400
