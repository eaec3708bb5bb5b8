"""The steps of docs/examples/steps, on frames: privacy, barcodes, an ONNX model, embeddings and their near-duplicates."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import cropline
from tests.photos import drawn, encoded

STEPS = Path(__file__).parents[2] / "docs" / "examples" / "steps"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STEPS))


def frame(*photos: bytes, labels: tuple[str, ...], boxes: list[tuple[float, ...]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"image": list(photos), "label": list(labels)}
        | {name: [box[place] for box in boxes] for place, name in enumerate(("xmin", "ymin", "xmax", "ymax"))}
    )


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


WHOLE = (0.0, 0.0, 1.0, 1.0)


def test_only_crops_of_private_classes_are_blurred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELF_PRIVATE", "person, face")
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::4] = 255
    df = frame(*[png(Image.fromarray(stripes))] * 3, labels=("person", "cola", "face"), boxes=[WHOLE] * 3)
    profile = cropline.Profile(format="png")
    columns = {"label": "label"}
    blurred = cropline.crop(df, profile=profile, function="shelf_steps:Blur", columns=columns)["crop_data"]
    plain = cropline.crop(df, profile=profile)["crop_data"]
    assert blurred[1] == plain[1]
    for row in (0, 2):
        assert pixels(plain[row]).std() > 100
        assert pixels(blurred[row]).std() < 5, "no stripe is left"


def test_barcodes_are_read_or_null() -> None:
    zxingcpp = pytest.importorskip("zxingcpp")
    code = np.asarray(zxingcpp.create_barcode("4006381333931", zxingcpp.BarcodeFormat.EAN13).to_image(scale=2))
    label = Image.new("L", (500, 300), 255)
    label.paste(Image.fromarray(code), (40, 40))
    df = frame(png(label), encoded(drawn(200, 200)), labels=("a", "b"), boxes=[(0.0, 0.0, 0.9, 0.9), WHOLE])
    out = cropline.crop(df, function="shelf_steps:read_barcode", extras="barcode:string, symbology:string")
    assert out["barcode"].tolist() == ["4006381333931", None]
    assert out["symbology"].tolist() == ["EAN-13", None]


def model(path: Path) -> None:
    """Write a model that names the strongest colour: mean of each channel, times 20, softmax."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Mul", ["flat", "twenty"], ["sharp"]),
        helper.make_node("Softmax", ["sharp"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("pixels", kind, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("scores", kind, ["batch", 3])],
        [helper.make_tensor("twenty", kind, [1], [20.0])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, {"labels": "red\ngreen\nblue"})
    onnx.save(made, str(path))


def test_a_model_names_each_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    model(tmp_path / "colour.onnx")
    monkeypatch.setenv("SHELF_MODEL", str(tmp_path / "colour.onnx"))
    colours = ["red", "blue", "green", "blue"]
    photos = [png(Image.new("RGB", (64, 64), colour)) for colour in colours]
    df = frame(*photos, labels=("x",) * 4, boxes=[WHOLE] * 4)
    function = {"function": "shelf_steps:Classifier", "extras": "sku:string, confidence:double", "version": "1"}
    out = cropline.crop(df, **function)  # type: ignore[arg-type]
    assert out["sku"].tolist() == colours
    assert (out["confidence"] > 0.9).all()


def test_crops_that_look_alike_are_found_by_their_embeddings() -> None:
    shelf, other = drawn(240, 160, seed=1), drawn(240, 160, seed=2)
    photos = [encoded(shelf, quality=95), encoded(shelf, quality=40), encoded(other), encoded(shelf, quality=60)]
    df = frame(*photos, labels=("cola", "cola", "cola", "tea"), boxes=[(0.1, 0.1, 0.9, 0.9)] * 4)
    out = cropline.crop(df, function="shelf_steps:embed", extras="embedding:list<float>")
    crops = pa.table({"key": list("abcd"), "label": df["label"], "embedding": out["embedding"].map(list)})
    found = importlib.import_module("near_duplicates").near_duplicates(crops, 0.98)
    assert [pair[:2] for pair in found] == [("a", "b")]
    assert found[0][2] > 0.99
