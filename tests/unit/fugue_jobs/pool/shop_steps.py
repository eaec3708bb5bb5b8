"""A user's functions, for tests: found by name."""

from typing import Any

from PIL import Image, ImageOps

LOADED = []


def inverted(image: Image.Image, row: dict[str, Any]) -> Image.Image:
    return ImageOps.invert(image.convert("RGB"))


class Counter:
    """Returns its batch's size, and how often it was made in this process."""

    def __init__(self) -> None:
        LOADED.append(1)

    def __call__(self, images: list[Image.Image], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(row.get("sku") == "bad" for row in rows):
            raise ValueError("bad")
        if any(row.get("sku") == "deadly" for row in rows):
            import os

            os._exit(3)
        return [{"size": len(images), "made": len(LOADED)} for _ in images]


class Broken:
    def __init__(self) -> None:
        raise KeyError("secret")


class Inverter:
    """The same in batches."""

    def __call__(self, images: list[Image.Image], rows: list[dict[str, Any]]) -> list[Image.Image]:
        return [inverted(image, row) for image, row in zip(images, rows, strict=True)]


def judged(image: Image.Image, row: dict[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
    """Returns black crops; refuses one box."""
    if row["label"] == "label of 1":
        raise ValueError("no")
    return Image.new("RGB", image.size), {"sku": "dark"}
