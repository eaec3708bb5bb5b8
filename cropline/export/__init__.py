"""Export: copies crops that the user's condition chooses out of the store, in a format that other tools read.

It holds choosing, dividing, reading, and writing to a local folder. It does not change anything in the store, and it
fetches no photo: the caller brings the function that does.
"""

from cropline.export.choose import Choice
from cropline.export.export import Exported, Layout, export
from cropline.export.formats import FORMATS
from cropline.export.photos import CutPhotos, PhotoFile, PhotoOfCrops
from cropline.export.split import Split, read_split

__all__ = [
    "FORMATS",
    "Choice",
    "CutPhotos",
    "Exported",
    "Layout",
    "PhotoFile",
    "PhotoOfCrops",
    "Split",
    "export",
    "read_split",
]
