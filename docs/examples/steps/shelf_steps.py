"""Steps to start from: blur a class, read barcodes, classify by an ONNX model, embed.

Install: pip install 'cropline[examples]'. Use, with this file on the path:

    CROPLINE_PROFILES='{
      "private": {"steps": [{"use": "shelf_steps:Blur"}]},
      "codes": {"steps": [{"use": "shelf_steps:read_barcode", "columns": {"barcode": "string", "symbology": "string"}}]},
      "sku": {"steps": [{"use": "shelf_steps:Classifier", "batch": 32, "version": "model-3",
                         "columns": {"sku": "string", "confidence": "double"}}]},
      "like": {"steps": [{"use": "shelf_steps:embed", "columns": {"embedding": "list<float>"}}]}
    }'
    CROPLINE_ENGINE__SHIP='["shelf_steps"]'     # on a cluster whose workers do not have this file
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

Row = dict[str, Any]


class Blur:
    """Makes crops of some classes unrecognisable. SHELF_PRIVATE: their labels, separated by commas; default person,face.

    It changes crops of these boxes only. A person who stands in the box of a product is not blurred.
    """

    def __init__(self) -> None:
        self.private = {label.strip() for label in os.environ.get("SHELF_PRIVATE", "person,face").split(",")}

    def __call__(self, images: list[Image.Image], rows: list[Row]) -> list[Image.Image]:
        return [
            self.blurred(image) if row["label"] in self.private else image
            for image, row in zip(images, rows, strict=True)
        ]

    def blurred(self, image: Image.Image) -> Image.Image:
        # A strong blur of few pixels, not of many: sharpening does not bring back what was averaged away.
        few = image.convert("RGB").resize((max(1, image.width // 16), max(1, image.height // 16)), Image.Resampling.BOX)
        return few.resize(image.size).filter(ImageFilter.GaussianBlur(8))


def read_barcode(image: Image.Image, row: Row) -> Row:
    """Return the first barcode in the crop and its kind; nulls when there is none."""
    import zxingcpp

    found = zxingcpp.read_barcodes(np.asarray(image.convert("L")))
    return (
        {"barcode": found[0].text, "symbology": str(found[0].format)} if found else {"barcode": None, "symbology": None}
    )


class Classifier:
    """Names the product in each crop. SHELF_MODEL: an ONNX file; its metadata ``labels`` has the names, one per line.

    Input: float32 [batch, 3, height, width], 0 to 1. Output: float32 [batch, labels], probabilities.
    Declare a ``version`` and change it with the model: the hash of this file does not cover it.
    """

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # there is one crop process per core
        self.session = onnxruntime.InferenceSession(os.environ["SHELF_MODEL"], options, ["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.labels = self.session.get_modelmeta().custom_metadata_map["labels"].split("\n")

    def __call__(self, images: list[Image.Image], rows: list[Row]) -> list[Row]:
        height, width = self.input.shape[2:]
        pixels = [np.asarray(image.convert("RGB").resize((width, height)), np.float32) / 255 for image in images]
        (found,) = self.session.run(None, {self.input.name: np.stack(pixels).transpose(0, 3, 1, 2)})
        best = found.argmax(axis=1)
        return [
            {"sku": self.labels[at], "confidence": float(scores[at])} for at, scores in zip(best, found, strict=True)
        ]


def embed(image: Image.Image, row: Row) -> Row:
    """Return 256 numbers that are close for crops that look alike: the brightness of a 16 x 16 grid, normalised.

    A model's last layer is better, and is used in the same way.
    """
    grid = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), np.float32).ravel()
    grid -= grid.mean()
    return {"embedding": grid / max(float(np.linalg.norm(grid)), 1e-6)}
