"""Packs: many crops in one object, each readable by one range request. WebDataset tars (``shards``) and Parquet files.

Belongs here: writing packs to a file, their keys, and putting them into a store. Does not: which crops go into which pack
(fugue_jobs/pool/packing.py, cropline/erasure, cropline/export). Importing it imports no Arrow: crop processes start in a blink.
docs/decisions/0012-packs.md says why they are named by their content.
"""

from cropline.packs.kinds import new_pack
from cropline.packs.pack import KINDS, Pack, Sample, Sealed
from cropline.packs.spool import Spool, index_key, pack_folder, sample_name

__all__ = ["KINDS", "Pack", "Sample", "Sealed", "Spool", "index_key", "new_pack", "pack_folder", "sample_name"]
