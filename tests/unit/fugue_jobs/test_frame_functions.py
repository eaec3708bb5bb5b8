"""A user's function on every crop: what it returns, and that its errors affect one crop only."""

import hashlib
import io
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cropline
from cropline.config.profile import Profile
from cropline.config.settings import load_settings
from cropline.config.steps import Step
from cropline.core.errors import EngineError
from fugue_jobs.frame.function import source_hash
from tests.photos import PhotoServer

STEPS = "tests.unit.fugue_jobs.pool.shop_steps"


pytestmark = pytest.mark.usefixtures("loopback")


@pytest.fixture
def frame(server: PhotoServer) -> pd.DataFrame:
    """Return 20 boxes on 4 images."""
    return pd.DataFrame(
        [
            {
                "ImgUrl": server.url(f"{n % 4}.jpg"),
                "xmin": 0.04 * n,
                "ymin": 0.1,
                "xmax": 0.04 * n + 0.2,
                "ymax": 0.6,
                "sku": f"s{n}",
            }
            for n in range(20)
        ]
    )


def mean(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
    assert type(row["xmin"]) is float, "a row is plain Python"
    return {"mean": float(np.asarray(image.convert("L")).mean()), "own": row["sku"], "width": row["width"]}


def test_values_become_columns_of_their_types_and_the_pictures_stay(frame: pd.DataFrame) -> None:
    out = cropline.crop(frame, function=mean, extras="mean:double,own:string,width:int", profile={"format": "png"})
    assert out["own"].tolist() == frame["sku"].tolist()
    assert out["width"].tolist() == out["crop_width"].tolist()
    plain = [np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean() for data in out["crop_data"]]
    assert out["mean"].tolist() == pytest.approx(plain)
    without = cropline.crop(frame, profile={"format": "png"})
    assert out["crop_sha256"].tolist() == without["crop_sha256"].tolist()


def test_an_image_that_is_given_is_what_the_recipe_encodes(frame: pd.DataFrame) -> None:
    before = cropline.crop(frame, profile={"format": "png"})
    after = cropline.crop(frame, profile={"format": "png"}, function=f"{STEPS}:inverted")
    for one, other in zip(before["crop_data"], after["crop_data"], strict=True):
        pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in (one, other)]
        assert (pixels[0] == 255 - pixels[1]).all()


def test_a_function_that_modifies_its_image_does_not_change_the_crop(frame: pd.DataFrame) -> None:
    def draws(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        image.paste((0, 0, 0), (0, 0, *image.size))
        return {}

    assert cropline.crop(frame, function=draws)["crop_sha256"].equals(cropline.crop(frame)["crop_sha256"])


def test_a_failing_function_fails_only_its_crop(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def wild(image: Image.Image, row: dict[str, Any]) -> Any:
        import ctypes
        import os
        import sys
        import time

        match row["sku"]:
            case "s1":
                raise RuntimeError("with " + row["ImgUrl"])
            case "s2":
                time.sleep(600)
            case "s3":
                os._exit(1)
            case "s4":
                ctypes.string_at(0)
            case "s6":
                sys.exit()
            case "s7":
                return None
            case "s8":
                return {"n": "text"}
            case "s9":
                return {"other": 1}
            case "s10":
                return {"n": lambda: 1}
            case "s11":
                return Image.new("F", (3, 3))
        return {"n": 1}

    profile = Profile(format="png")
    limited(monkeypatch, timeout_s=2)
    out = cropline.crop(frame, function=wild, extras="n:long", profile=profile)
    failed = {row.sku: row.crop_reason for row in out.itertuples() if row.crop_status != "written"}
    died = dict.fromkeys(("s3", "s4"), "function_died")
    raised = dict.fromkeys(("s1", "s6", "s7", "s8", "s9", "s10", "s11"), "function_failed")
    assert failed == {"s2": "function_timeout"} | died | raised
    told = dict(zip(out["sku"], out["crop_detail"], strict=True))
    assert told["s1"].endswith(": RuntimeError")
    assert told["s8"].endswith(": TypeError: n: a str, declared is int64")
    good = out[out["crop_status"] == "written"]
    assert good["n"].tolist() == [1] * 10
    plain = cropline.crop(frame, profile=profile).loc[good.index]
    assert good["crop_sha256"].tolist() == plain["crop_sha256"].tolist()


def limited(monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Give these limits to steps that are given as functions."""
    monkeypatch.setattr("fugue_jobs.frame.function.Step", lambda **fields: Step(**fields | limits))


def test_unbounded_memory_fails_its_crop(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def hogs(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        held = []
        while row["sku"] == "s1":
            held.append(b"x" * 5_000_000)
        return {}

    limited(monkeypatch, memory_mb=250)
    out = cropline.crop(frame[:4], function=hogs, processes=1)
    assert out["crop_reason"].tolist() == [None, "function_died", None, None]
    assert out["crop_detail"][1].endswith("its process took over 250 MB")


def test_a_class_is_made_once_per_process_and_gets_batches_across_images(frame: pd.DataFrame) -> None:
    out = cropline.crop(frame, function=f"{STEPS}:Counter", extras="size:int,made:int", processes=1)
    assert out["size"].max() > 5, "an image has five boxes"
    assert out["crop_sha256"].tolist() == cropline.crop(frame)["crop_sha256"].tolist()
    assert set(out["made"]) == {1}


@pytest.mark.parametrize(("sku", "reason"), [("bad", "function_failed"), ("deadly", "function_died")])
def test_of_a_batch_only_the_crop_at_fault_fails(frame: pd.DataFrame, sku: str, reason: str) -> None:
    frame.loc[7, "sku"] = sku
    out = cropline.crop(frame, function=f"{STEPS}:Counter", extras={"size": "int", "made": "int"}, processes=1)
    assert out["crop_reason"].dropna().to_dict() == {7: reason}
    assert (out["crop_status"] == "written").sum() == 19


def test_a_class_that_cannot_be_made_is_one_line(frame: pd.DataFrame) -> None:
    with pytest.raises(
        EngineError, match=r"^a crop process cannot work: the function .*:Broken cannot be loaded: KeyError$"
    ):
        cropline.crop(frame, function=f"{STEPS}:Broken")


def test_prints_go_to_the_log_up_to_a_limit(frame: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    def says(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        print("seen " + "x" * 9_000)
        return {}

    with caplog.at_level(logging.INFO, logger="fugue_jobs"):
        cropline.crop(frame, function=says, processes=1)
    said = [record.getMessage() for record in caplog.records if "seen" in record.getMessage()]
    assert said
    assert sum(map(len, said)) < 22_000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"extras": "n:int"}, "extras: needs function="),
        ({"version": "1"}, "version: needs function="),
        ({"function": 7}, "function: a int is not a function"),
        ({"function": "no_such_module:f"}, "function: no_such_module:f: no module"),
        ({"function": mean, "extras": "n:complex"}, "extras: 'complex' is not a type"),
        ({"function": mean, "extras": "crop_key:string,crop_status:string"}, "extras: there is a result column"),
        ({"function": mean, "extras": "sku:string"}, "prefix: the frame has a column 'sku' already"),
    ],
)
def test_a_wrong_function_is_named_before_anything_is_fetched(
    frame: pd.DataFrame, server: PhotoServer, options: dict[str, Any], told: str
) -> None:
    server.served.clear()
    with pytest.raises(cropline.OptionError) as raised:
        cropline.crop(frame, **options)
    assert str(raised.value).startswith(told)
    assert not server.served


def test_lists_times_and_missing_values_are_typed(frame: pd.DataFrame) -> None:
    def many(image: Image.Image, row: dict[str, Any]) -> dict[str, Any]:
        if row["sku"] == "s0":
            return {}
        return {
            "vector": np.arange(3, dtype=np.float32),
            "when": datetime(2026, 1, 1, tzinfo=UTC),
            "flag": np.bool_(True),
        }

    import pyarrow as pa

    extras = "vector:list<float>,when:timestamp,flag:bool"
    out = cropline.crop(pa.Table.from_pandas(frame), function=many, extras=extras)
    assert out.schema.field("vector").type == pa.list_(pa.float32())
    assert out["vector"].to_pylist()[:2] == [None, [0.0, 1.0, 2.0]]
    assert out["when"].to_pylist()[1] == datetime(2026, 1, 1, tzinfo=UTC)
    assert out["flag"].to_pylist()[:2] == [None, True]


def test_a_function_is_part_of_recipe_fingerprint_and_key(frame: pd.DataFrame, tmp_path: Any) -> None:
    plain = Profile()
    one, same, other = (Profile(steps=({"use": "m:f", "version": version},)) for version in ("1", "1", "2"))  # type: ignore[arg-type]
    assert one.hash == same.hash
    assert len({plain.hash, one.hash, other.hash}) == 3
    quicker = Profile(steps=({"use": "m:f", "version": "1", "timeout_s": 5},))  # type: ignore[arg-type]
    assert quicker.hash == one.hash
    assert "steps" not in plain.recipe
    keys = [
        cropline.crop(
            frame[:1], store=tmp_path, function=mean, extras="mean:double,own:string,width:int", version=version
        )
        for version in ("1", "2")
    ]
    assert keys[0]["crop_key"][0] != keys[1]["crop_key"][0]
    assert source_hash(mean) == source_hash(mean)
    assert source_hash(mean) != source_hash(test_lists_times_and_missing_values_are_typed)


def test_a_profile_of_the_settings_takes_steps_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROPLINE_PROFILES", f'{{"inverted": {{"steps": ["{STEPS}:inverted"]}}}}')
    (step,) = load_settings().profiles["inverted"].steps
    source = (Path(__file__).parent / "pool" / "shop_steps.py").read_bytes()
    assert step.version == hashlib.sha256(source).hexdigest()[:16]
    monkeypatch.setenv("CROPLINE_PROFILES", '{"p": {"steps": ["nowhere.at_all:f"]}}')
    with pytest.raises(cropline.CroplineError, match=r"CROPLINE_PROFILES__P__STEPS__0: nowhere.at_all:f: no module"):
        load_settings()
    two = {
        n: {"steps": [{"use": f"{STEPS}:Counter", "columns": {"size": kind}}]}
        for n, kind in (("p", "int"), ("q", "str"))
    }
    monkeypatch.setenv("CROPLINE_PROFILES", json.dumps(two))
    with pytest.raises(
        cropline.CroplineError, match="CROPLINE_PROFILES: q: a step returns size as string, another size"
    ):
        load_settings()
