"""Train on shards of a profile, or of `cropline export --format webdataset`. Usage: crops_pytorch.py FOLDER

The folder holds .tar files, at any depth. A killed attempt may leave a shard that no row of the catalogue names, until
maintain removes it. It doubles some crops: train on an export, or on the shards that the catalogue names.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset


def samples(folder: Path) -> Any:
    """Return (picture as a uint8 array, label) for every crop."""
    shards = sorted(str(path) for path in folder.rglob("*.tar"))
    if not shards:
        sys.exit(f"no .tar files below {folder}")
    # Each worker reads separate shards: with fewer shards than workers, some workers have none.
    data = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
    data = data.decode("rgb8").rename(picture="jpg;png;webp", facts="json")
    return data.map(lambda sample: (sample["picture"], sample["facts"]["label"]))


def batches(folder: Path, size: int = 32) -> Iterator[Any]:
    """Yield batches of a PyTorch DataLoader; pictures differ in size, so a batch is a list."""
    from torch.utils.data import DataLoader

    yield from DataLoader(samples(folder), batch_size=size, num_workers=2, collate_fn=list)


if __name__ == "__main__":
    try:
        count = sum(len(batch) for batch in batches(Path(sys.argv[1])))
    except ImportError:
        print("PyTorch is not installed: read without its DataLoader")
        count = sum(1 for _ in samples(Path(sys.argv[1])))
    print(count, "crops")
