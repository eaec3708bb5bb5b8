"""cropline lineage and cropline trace of a run, a crop and an image: after a re-crop, a lost report and an erasure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from cropline.catalogue import Catalogue
from cropline.core import storage
from cropline.core.schemas import CROPS
from cropline.core.store_spec import StoreSpec
from cropline.erasure.erase import forget
from cropline.erasure.selection import Selection
from cropline.state import State
from tests.integration.commands import cropline
from tests.integration.conftest import Workspace

_SVG = "{http://www.w3.org/2000/svg}"


def drawn(path: Path) -> list[str]:
    """Return every text of a picture, including tooltips."""
    root = ElementTree.parse(path).getroot()
    return [text.text or "" for text in root.iter() if text.tag in (f"{_SVG}text", f"{_SVG}title")]


def edges(out: str) -> dict[tuple[str, str], str]:
    """Return {(start, end): count} of the printed edges."""
    return {(start, end): count for start, end, count in re.findall(r"(\w+) -> (\w+) +([\d,]+|-) ", out)}


def test_lineage_of_a_run_a_crop_and_an_image_agree(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    here, spec = workspace.folder, workspace.settings.storage.spec
    funnel = workspace.poll()
    rows = workspace.rows()
    row = rows[0]
    mine = [other for other in rows if other["image_id"] == row["image_id"]]
    count = f"{len(rows):,}"

    # A run, by its id.
    run = cropline(capsys, "lineage", row["flow_run"], "--out", str(here / "run.svg"))
    assert run.code == 0, run.err
    assert edges(run.out) == {
        ("api", "manifest"): "6",
        ("manifest", "validate"): "6",
        ("validate", "state"): "6",
        ("validate", "quarantine"): "0",
        ("state", "crop"): "6",
        ("crop", "crops"): count,
        ("crop", "catalogue"): count,
    }
    assert {"6", count, "0"} <= set(drawn(here / "run.svg"))
    assert funnel.manifest is not None
    assert funnel.manifest in run.out

    # A crop, by its key and by its address.
    for name in (row["key"], spec.uri(row["key"])):
        crop = cropline(capsys, "lineage", name, "--out", str(here / "crop.svg"))
        assert crop.code == 0, crop.err
        assert edges(crop.out)["crop", "crops"] == count
        texts = drawn(here / "crop.svg")
        for fact in (row["key"], row["image_id"], row["batch_id"], f"box {row['box_id']}"):
            assert fact in crop.out, fact
            assert any(fact in text for text in texts), fact

    # An image: all of its boxes, one version.
    image = cropline(capsys, "trace", row["image_id"])
    assert (image.code, image.out.count("written, current")) == (0, 1)
    assert f"{len(mine)} of {len(mine)} boxes" in image.out
    assert all(other["key"] in image.out for other in mine)

    # Cut again: the old crop is still found, and shown as superseded.
    workspace.api.control.change_box(row["image_id"], row["box_id"])
    workspace.poll()
    (now,) = [r for r in workspace.rows() if (r["image_id"], r["box_id"]) == (row["image_id"], row["box_id"])]
    assert now["key"] != row["key"]
    image = cropline(capsys, "trace", row["image_id"])
    assert [image.out.count(text) for text in ("written, current", "superseded in version")] == [1, 1]
    assert (now["key"] in image.out, row["key"] in image.out) == (True, True)
    assert "superseded in version" in cropline(capsys, "trace", row["key"]).out
    assert cropline(capsys, "lineage", row["key"], "--out", str(here / "old.svg")).code == 0

    # A run whose report is lost: what the catalogue has of it.
    storage.delete(spec, [key for key in storage.list_keys(spec, "reports") if now["flow_run"] in key])
    lost = cropline(capsys, "lineage", now["flow_run"], "--out", str(here / "lost.svg"))
    assert "from the catalogue" in lost.out
    assert (edges(lost.out)["state", "crop"], edges(lost.out)["api", "manifest"]) == ("1", "-")

    # Not found: one line, exit code 2, no picture.
    unknown = ["nothing", "", "../../etc/passwd", "%00'; --", row["flow_run"][-12:], row["key"].rpartition("/")[0]]
    for command, name in [(command, name) for command in ("trace", "lineage") for name in unknown]:
        missing = cropline(capsys, command, name)
        assert (missing.code, missing.err.count("\n"), missing.out) == (2, 1, ""), (command, name, missing)
    unwritable = cropline(capsys, "lineage", row["flow_run"], "--out", str(here / "no" / "folder.svg"))
    assert (unwritable.code, unwritable.err.count("\n")) == (2, 1)

    # After an erasure no name finds it, though earlier versions of the catalogue still hold its rows.
    with State.open(workspace.settings.state) as state:
        forget(spec, state, "cams", Selection(images=(row["image_id"],)))
    for command, name in (("trace", row["image_id"]), ("trace", row["key"]), ("lineage", row["key"])):
        gone = cropline(capsys, command, name)
        assert (gone.code, gone.out) == (2, ""), (command, name, gone)
    assert "was erased" in cropline(capsys, "trace", row["image_id"]).err


ODD = 'a\'b "c" [bold]x[/nope] \x1b[2J\n../\u202e%2F?token=1 ü'


def test_ids_with_odd_characters_are_found_and_do_not_control_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"API__SOURCE": "cams", "STORAGE__URL": tmp_path.as_uri()}.items():
        monkeypatch.setenv(f"CROPLINE_{name}", value)
    monkeypatch.setenv("CROPLINE_STATE__URL", f"sqlite:///{tmp_path / 'state.db'}")
    monkeypatch.chdir(tmp_path)
    crop = {
        "source": "cams",
        "profile": "default",
        "status": "written",
        "key": "crops/default/cams/odd/f/0000.jpg",
        "bytes": 10,
        "manifest": "manifests/cams/gone.parquet",
        "manifest_row": 0,
        "profile_hash": "p" * 64,
        "box_index": 0,
    } | dict.fromkeys(("image_id", "version", "box_id", "label", "camera_id", "store_name"), ODD)
    failed = {**crop, "box_index": 1, "status": "failed", "key": None, "reason": "http_404"}
    Catalogue(StoreSpec(tmp_path.as_uri())).append(
        pa.Table.from_pylist([crop, failed], schema=CROPS),
        batch_id="batch-1",
        attempt=1,
        flow_run="run-1",
        committed_at=datetime.now(UTC),
    )
    pictures = []
    for arguments in (["trace", ODD], ["trace", crop["key"]], ["lineage", crop["key"]], ["lineage", "run-1"]):
        told = cropline(capsys, *(str(argument) for argument in arguments))
        pictures += re.findall(r"picture: (\S+)", told.out)
        assert told.code == 0, (arguments, told)
        assert all(char.isprintable() for char in told.out.replace("\n", "")), arguments
        assert not told.err
    assert "http_404" in cropline(capsys, "trace", ODD).out
    assert "[bold]x[/nope] \\x1b[2J\\n../\\u202e%2F" in cropline(capsys, "trace", str(crop["key"])).out
    of_crop, of_run = (Path(picture) for picture in pictures)
    assert any("\\x1b[2J" in text for text in drawn(of_crop))
    assert "1" in drawn(of_run)
    assert not list(Path.cwd().glob("*.svg")), "the folder one stands in is left alone"
    (tmp_path / "pictures").mkdir()
    assert cropline(capsys, "lineage", "run-1", "--out", str(tmp_path / "pictures")).code == 0
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["lineage-run-1.svg"]
