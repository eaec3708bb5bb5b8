"""Packs: many crops in one object, each readable by one range request. WebDataset tars (``shards``) and Parquet files.

It holds: writing a pack to a file, pack keys, putting packs into a store, reading them back. It does not hold which crops go
into which pack: the crop job, erasure and export decide that. Importing it imports no Arrow, so crop processes start fast.
docs/decisions/0012-packs.md says why packs are named by their content.
"""

from cropline.packs.pack import KINDS, Pack, Sample, Sealed, new_pack
from cropline.packs.spool import Spool, index_key, pack_folder, sample_name

__all__ = ["KINDS", "Pack", "Sample", "Sealed", "Spool", "index_key", "new_pack", "pack_folder", "sample_name"]
