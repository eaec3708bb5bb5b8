"""Read the catalogue as a pandas DataFrame, and a crop as a Pillow image. Usage: crops_pandas.py STORAGE_FOLDER"""

import sys
from pathlib import Path

from PIL import Image

import cropline

root = Path(sys.argv[1]).resolve()
frame = cropline.read_crops("status = 'written'", storage=root.as_uri())
print(frame.groupby("label", dropna=False)["bytes"].agg(["count", "mean"]).head())

first = frame.sort_values("key").iloc[0].to_dict()
with Image.open(cropline.open_crop(first, root.as_uri())) as picture:
    print(first["key"], picture.size)
